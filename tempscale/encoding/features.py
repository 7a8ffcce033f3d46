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


def on_device(features: Features, device: torch.device) -> Features:
    """Return the features with their tensors on a device, which a GPU copies while it computes."""

    def moved(value: torch.Tensor) -> torch.Tensor:
        if device.type == "cuda" and not value.is_cuda:
            value = value.pin_memory()  # only such memory is copied without waiting
        return value.to(device, non_blocking=True)

    return {name: moved(value) if isinstance(value, torch.Tensor) else value for name, value in features.items()}


def as_read(model: "SentenceTransformer", texts: Sequence[str], prompt: str = "") -> list[str]:
    """Return texts as a model hands them to its tokenizer; sentence-transformers 5 takes outer white space away."""
    return [prompt + text if hasattr(model, "preprocess") else (prompt + text).strip() for text in texts]


def count_tokens(model: "SentenceTransformer", texts: Sequence[str], prompt: str = "") -> list[int]:
    """Return the tokens of each text before it is cut, with the prompt and special tokens.

    >>> from tempscale import load_model
    >>> count_tokens(load_model("minilm"), ["a short text", ""])
    [5, 2]
    """
    counts: list[int] = []
    for start in range(0, len(texts), 1024):
        some = as_read(model, texts[start : start + 1024], prompt)
        counts += map(len, model.tokenizer(some, truncation=False, verbose=False)["input_ids"])
    return counts
