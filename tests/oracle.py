"""An oracle that shares no code with the package: eager attention whose softmax divides the complete logit."""

from contextlib import contextmanager
from unittest import mock

import torch


@contextmanager
def softmax_temperature(temperature):
    """Replace torch.nn.functional.softmax by exp(x / temperature), normalised in float64."""

    def softmax(x, dim=None, dtype=None, **_):
        logits = x.double()
        weights = ((logits - logits.max(dim, keepdim=True).values) / temperature).exp()
        return (weights / weights.sum(dim, keepdim=True)).to(dtype or x.dtype)

    with mock.patch("torch.nn.functional.softmax", softmax):
        yield


def eager_output(model, batch, temperature=1.0):
    """Run a transformers model with eager attention and softmax(S / temperature)."""
    before = model.config._attn_implementation
    model.config._attn_implementation = "eager"
    try:
        with torch.inference_mode(), softmax_temperature(temperature):
            return model(**batch)[0]
    finally:
        model.config._attn_implementation = before
