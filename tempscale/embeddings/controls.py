"""Control texts, as token ids: what changes in an embedding when only one thing about its text does.

Texts are cut, repeated, padded and shuffled as ids and not as strings, so that their lengths are exact and nothing is
tokenized differently afterwards. `embed_ids` embeds them with everything a model does after its tokenizer.
"""

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch

from tempscale.embeddings.geometry import Float
from tempscale.models import max_positions, position_offset, transformer_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Ids = list[int]
Pooling = Literal["model", "mean", "cls"]


def content_ids(model: "SentenceTransformer", texts: Sequence[str]) -> list[Ids]:
    """Return the token ids of texts, uncut and without special tokens.

    >>> from tempscale import load_model
    >>> content_ids(load_model("minilm"), ["Attention pools."])
    [[3086, 12679, 1012]]
    """
    return [list(ids) for ids in model.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]]


def repeat_to(ids: Sequence[int], tokens: int) -> Ids:
    """Return the ids over and over, up to a number of tokens.

    >>> repeat_to([7, 8, 9], 7)
    [7, 8, 9, 7, 8, 9, 7]
    """
    return (list(ids) * (tokens // max(len(ids), 1) + 1))[:tokens]


def pad_to(ids: Sequence[int], tokens: int, filler: Sequence[int]) -> Ids:
    """Return the ids, followed by a neutral text over and over, up to a number of tokens.

    >>> pad_to([7, 8, 9], 7, [1, 2])
    [7, 8, 9, 1, 2, 1, 2]
    """
    return list(ids)[:tokens] + repeat_to(filler, tokens - min(len(ids), tokens))


def shuffle(ids: Sequence[int], seed: int = 0) -> Ids:
    """Return the ids in a random order.

    >>> sorted(shuffle([7, 8, 9, 7]))
    [7, 7, 8, 9]
    """
    return [list(ids)[i] for i in np.random.default_rng(seed).permutation(len(ids))]


def random_weights(model: "SentenceTransformer", seed: int = 0) -> "SentenceTransformer":
    """Return a copy of a model whose transformer has the random weights that its training began with.

    >>> from tempscale import load_model
    >>> model = load_model("minilm", device="cpu")
    >>> bool(abs(random_weights(model).encode("text") - model.encode("text")).max() > 0.01)
    True
    """
    untrained = copy.deepcopy(model)
    transformer: Any = transformer_of(untrained)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weights = type(transformer)(transformer.config).state_dict()
    transformer.load_state_dict(weights)
    return untrained.eval()


def has_position_ids(model: "SentenceTransformer") -> bool:
    """Whether tokens can be put at chosen positions, as `embed_ids(..., first_position=...)` does."""
    return "position_ids" in inspect.signature(transformer_of(model).forward).parameters


def embed_ids(
    model: "SentenceTransformer",
    texts: Sequence[Sequence[int]],
    *,
    pooling: Pooling = "model",
    first_position: int = 0,
    batch_size: int = 32,
    progress: Callable[[float], object] = lambda share: None,
) -> Float:
    """Embed texts given as content ids; special tokens are added, nothing is cut.

    Args:
        model: SentenceTransformer with a transformer as its first module; a temperature that is patched in acts as always.
        texts: content ids, such as `content_ids` gives.
        pooling: "model" for the model's own modules; "mean" or "cls" for the mean or the first of the last token states.
        first_position: shift of the positions of the content and the last special tokens; the first special ones stay.
        batch_size: number of texts per forward pass.
        progress: function of the share of the work that is done, called after each batch.

    Returns:
        (texts, d) embeddings, before normalisation.

    Raises:
        ValueError: no texts, an empty one, one that is longer than the model has positions for, another pooling, or a
            first_position for a model that takes no position ids.

    >>> from tempscale import load_model
    >>> model = load_model("minilm")
    >>> embed_ids(model, content_ids(model, ["one text", "another"])).shape
    (2, 384)
    """
    if not texts or not all(len(ids) for ids in texts):
        raise ValueError("expected at least one text, and tokens in every text")
    if pooling not in get_args(Pooling):
        raise ValueError(f"unknown pooling {pooling!r}: expected 'model', 'mean' or 'cls'")
    if first_position and not has_position_ids(model):
        raise ValueError(f"{type(transformer_of(model)).__name__} takes no position ids: leave out first_position")
    before, after = special_ids(model)
    longest = max(map(len, texts)) + len(before) + len(after)
    limit = max_positions(model)
    if limit is not None and first_position + longest > limit:
        raise ValueError(
            f"a text ends at position {first_position + longest}, but the model has {limit} positions: cut it"
        )
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # little padding
    embeddings = []
    for start in range(0, len(order), batch_size):
        batch = [[*before, *texts[i], *after] for i in order[start : start + batch_size]]
        embeddings.append(_forward(model, batch, pooling, len(before), first_position))
        progress(min(start + batch_size, len(order)) / len(order))
    result: Float = np.empty((len(texts), embeddings[0].shape[1]))
    result[order] = np.concatenate(embeddings)
    return result


def special_ids(model: "SentenceTransformer") -> tuple[Ids, Ids]:
    """Return the special tokens that the tokenizer puts before and after a text.

    >>> from tempscale import load_model
    >>> special_ids(load_model("minilm"))
    ([101], [102])
    """
    bare, full = (list(model.tokenizer("a", add_special_tokens=special)["input_ids"]) for special in (False, True))
    start = next(i for i in range(len(full)) if full[i : i + len(bare)] == bare)
    return full[:start], full[start + len(bare) :]


@torch.inference_mode()
def _forward(
    model: "SentenceTransformer", batch: list[Ids], pooling: Pooling, before: int, first_position: int
) -> Float:
    from sentence_transformers.models import Normalize

    transformer: Any = transformer_of(model)
    longest = max(map(len, batch))
    mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in batch], device=model.device)
    padding = model.tokenizer.pad_token_id or 0
    ids = torch.tensor([ids + [padding] * (longest - len(ids)) for ids in batch], device=model.device)
    placed = {}
    if first_position:
        offset = position_offset(model)
        position = torch.arange(longest, device=model.device) + offset
        position[before:] += first_position
        placed["position_ids"] = torch.where(mask > 0, position, max(offset - 1, 0))
    states = transformer(input_ids=ids, attention_mask=mask, **placed).last_hidden_state
    if pooling == "cls":
        pooled = states[:, 0]
    elif pooling == "mean":
        pooled = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
    else:
        features = {"token_embeddings": states, "attention_mask": mask}
        for module in list(model)[1:]:
            features = features if isinstance(module, Normalize) else module(features)
        pooled = features["sentence_embedding"]
    embeddings: Float = pooled.double().cpu().numpy()
    return embeddings
