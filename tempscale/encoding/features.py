"""What a SentenceTransformer reads: the tokens of a batch of texts, whichever of its versions makes them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Features = dict[str, Any]


def features_of(
    model: "SentenceTransformer", texts: Sequence[str], prompt: str = "", options: Mapping[str, Any] | None = None
) -> Features:
    """Return the tokens of a batch, as `SentenceTransformer.encode` makes them.

    Args:
        model: model of sentence-transformers 5, which has no `preprocess`, or 6, which has given up `tokenize`.
        texts: texts of the batch, without the prompt.
        prompt: prompt put in front of each; pooling leaves it out again where the model says so.
        options: options such as the side, for models that treat queries and documents differently.
    """
    options = options or {}
    if hasattr(model, "preprocess"):
        return dict(model.preprocess(list(texts), prompt=prompt or None, **options))
    features = dict(model.tokenize([prompt + text for text in texts], **options))
    length = model._get_prompt_length(prompt) if prompt else None
    return features if length is None else {**features, "prompt_length": length}


def part_of(features: Features, texts: int, part: slice) -> Features:
    """Return the features of some of a batch's texts.

    >>> part_of({"input_ids": torch.tensor([[1, 2], [3, 4]]), "prompt_length": 1}, 2, slice(1))
    {'input_ids': tensor([[1, 2]]), 'prompt_length': 1}
    """
    return {
        name: value[part] if isinstance(value, torch.Tensor) and value.shape[:1] == (texts,) else value
        for name, value in features.items()
    }


def size_of(features: Features) -> int:
    """Return the bytes of a batch's tensors.

    >>> size_of({"input_ids": torch.zeros(2, 3, dtype=torch.long), "prompt_length": 1})
    48
    """
    return sum(value.nbytes for value in features.values() if isinstance(value, torch.Tensor))


def on_device(features: Features, device: torch.device) -> Features:
    """Return the features with their tensors on a device."""
    return {
        name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for name, value in features.items()
    }


def count_tokens(model: "SentenceTransformer", texts: Sequence[str], prompt: str = "") -> list[int]:
    """Return the tokens of each text before it is cut, with the prompt and special tokens.

    >>> from tempscale import load_model
    >>> count_tokens(load_model("minilm"), ["a short text", ""])
    [5, 2]
    """
    counts: list[int] = []
    for start in range(0, len(texts), 1024):
        some = [prompt + text.strip() for text in texts[start : start + 1024]]
        counts += map(len, model.tokenizer(some, truncation=False, verbose=False)["input_ids"])
    return counts
