"""What a model is, by name, prompts and a hash; and what a measurement was made with: versions, command, texts."""

import hashlib
import json
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tempscale.encoding.prompts import prompts_for
from tempscale.models import packaged_minilm, transformer_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# Packages that results depend on.
VERSIONED = ("tempscale", "torch", "transformers", "sentence-transformers", "tokenizers", "mteb", "datasets", "numpy")


def model_name(model: "SentenceTransformer") -> str:
    """Return the name or path that a model was loaded from."""
    return str(getattr(transformer_of(model).config, "_name_or_path", "") or type(transformer_of(model)).__name__)


def prompts_of(model: "SentenceTransformer", name: str) -> dict[str, str]:
    """Return the prompts that a model comes with, or else those that its authors prescribe."""
    return {key: prompt for key, prompt in model.prompts.items() if prompt} or prompts_for(name) or {}


def model_hash(model: "SentenceTransformer", prompts: dict[str, str]) -> str:
    """Return a hash of weights, configuration, tokeniser, pooling and prompts: any change makes another model.

    What `patch` and evaluate vary (temperature, max_seq_length, device) is not part of it.
    """
    total = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        total.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    config = transformer_of(model).config.to_dict()
    for key in ("_name_or_path", "transformers_version"):
        config.pop(key, None)
    modules = [type(model[0]).__name__, *((type(one).__name__, _config(one)) for one in list(model)[1:])]
    rest = [config, modules, prompts, model.default_prompt_name, model.similarity_fn_name, model.truncate_dim]
    total.update(json.dumps(rest, sort_keys=True, default=str).encode())
    total.update(_tokenizer(model).encode())
    return total.hexdigest()[:16]


def _config(module: Any) -> object:
    """Return the configuration of a module of sentence-transformers, such as its pooling."""
    return module.get_config_dict() if hasattr(module, "get_config_dict") else repr(module)


def _tokenizer(model: "SentenceTransformer") -> str:
    """Return a tokeniser as text, without the length it was last used with."""
    tokenizer = model.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return json.dumps(sorted(tokenizer.get_vocab().items()))
    state = json.loads(backend.to_str())
    state.pop("truncation", None)
    state.pop("padding", None)
    lower = getattr(model[0], "do_lower_case", False)
    return json.dumps([state, lower, tokenizer.padding_side, tokenizer.truncation_side], sort_keys=True)


def versions() -> dict[str, str]:
    """Return the versions of the packages that results depend on, of those that are installed."""
    found = {}
    for package in VERSIONED:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def command_line() -> str:
    """Return the command that is running, as a user would type it."""
    return shlex.join(["tempscale", *sys.argv[1:]])


def provenance(name: str, model: Any, texts: Sequence[str]) -> dict[str, str]:
    """Return what a measurement was made with.

    Args:
        name: name of the model, as given to `load_model`.
        model: SentenceTransformer that was measured.
        texts: all texts that were read.

    Returns:
        The command line, the model with a hash of its weights (of the file, or the hub's commit), its dtype, device and
        max_seq_length, the texts' number and hash, and the versions of the packages.
    """
    transformer = transformer_of(model)
    parameter = next(transformer.parameters())
    return {
        "command": command_line(),
        "model": name,
        "weights": _weights(name, transformer),
        "dtype": str(parameter.dtype).removeprefix("torch."),
        "device": parameter.device.type,
        "max_seq_length": str(model.max_seq_length),
        "texts": f"{len(texts)}, sha256 {hashlib.sha256(chr(0).join(texts).encode()).hexdigest()}",
        "versions": ", ".join(f"{package} {number}" for package, number in versions().items()),
    }


def _weights(name: str, transformer: Any) -> str:
    file = (packaged_minilm() if name == "minilm" else Path(name)) / "model.safetensors"
    if file.is_file():
        with file.open("rb") as opened:
            return f"sha256 {hashlib.file_digest(opened, 'sha256').hexdigest()}"
    return f"commit {getattr(transformer.config, '_commit_hash', None) or 'unknown'}"
