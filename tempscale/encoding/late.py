"""Late chunking: a model reads a text at once, and the embeddings of its tokens are pooled piece by piece."""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from tempscale.encoding.features import Features
from tempscale.encoding.reading import Pieces

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def check_late(model: "SentenceTransformer", pieces: Pieces) -> None:
    """Raise ValueError unless a model's tokens are averaged by a module of its own, so that they can be by piece."""
    if pooling_at(model) is None:
        raise ValueError(
            f"{pieces} pools token embeddings as mean pooling does, which this model has not: leave out late=True"
        )
    if not model.max_seq_length:
        raise ValueError(
            f"{pieces} needs to know how much of a text is read at once: set max_seq_length, or leave out late=True"
        )


def pooling_at(model: "SentenceTransformer") -> int | None:
    """Return the place of the mean pooling among the modules of a model, or None if there is none."""
    for place, module in enumerate(model):
        if type(module).__name__ == "Pooling":
            # A name or several in sentence-transformers 6, and a method in 5.
            mode = module.pooling_mode if hasattr(module, "pooling_mode") else module.get_pooling_mode_str()
            return place if mode in ("mean", ["mean"]) else None
    return None


def late_vectors(
    model: "SentenceTransformer", features: Features, options: Mapping[str, Any], pieces: Pieces
) -> torch.Tensor:
    """Return the embeddings of the pieces of a batch of texts, (texts, most pieces, d), NaN where a text has fewer.

    Most is the number of pieces of the longest text that the model reads. Pieces are about equally long in tokens; special
    tokens and a prompt belong to the first and the last.
    """
    place = pooling_at(model)
    assert place is not None, "checked before"
    before, pooling, after = list(model)[:place], model[place], list(model)[place + 1 :]
    read = _through(before, features, options)
    mask = read["attention_mask"]
    if read.get("prompt_length") and not pooling.include_prompt:
        mask = mask * (mask.cumsum(1) > int(read["prompt_length"]))
    order = mask.cumsum(1) - 1  # the place of each token in its text, whichever side is padded
    masks: list[torch.Tensor] = []
    owners: list[int] = []
    places: list[int] = []
    for text, length in enumerate(mask.sum(1).tolist()):
        number = _number(length, pieces)
        step = max(1, length - pieces.overlap) / number
        for piece in range(number):
            first, last = math.floor(piece * step), math.floor((piece + 1) * step) + pieces.overlap
            masks.append(mask[text] * (order[text] >= first) * (order[text] < last))
        owners += [text] * number
        places += range(number)
    of_pieces = {**read, "token_embeddings": read["token_embeddings"][owners], "attention_mask": torch.stack(masks)}
    vectors: torch.Tensor = _through([pooling, *after], of_pieces, options)["sentence_embedding"]
    found = vectors.new_full((len(mask), _number(int(model.max_seq_length or 0), pieces), vectors.shape[1]), torch.nan)
    found[owners, places] = vectors
    return found


def _number(length: int, pieces: Pieces) -> int:
    """Return the number of pieces of a text."""
    return max(1, math.ceil((length - pieces.overlap) / (pieces.tokens - pieces.overlap)))


def _through(modules: Iterable[Any], features: Features, options: Mapping[str, Any]) -> Features:
    """Return what modules make of features, each told what it asks for, such as the side."""
    for module in modules:
        asked = getattr(module, "forward_kwargs", ())
        features = module(features, **{name: value for name, value in options.items() if name in asked})
    return features
