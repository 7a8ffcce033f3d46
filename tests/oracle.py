"""An oracle that shares no code with the package: eager attention whose softmax divides the complete logit."""

from contextlib import contextmanager
from unittest import mock

import torch


@contextmanager
def softmax_temperature(temperature):
    """Replace torch.nn.functional.softmax by exp(x / temperature), normalised in float64."""

    def softmax(x, dim=None, dtype=None, **_):
        softmax.calls += 1
        logits = x.double()
        weights = ((logits - logits.max(dim, keepdim=True).values) / temperature).exp()
        return (weights / weights.sum(dim, keepdim=True)).to(dtype or x.dtype)

    softmax.calls = 0
    with mock.patch("torch.nn.functional.softmax", softmax):
        yield
    assert softmax.calls, "the oracle needs a model that was loaded with eager attention"


def eager_output(eager_model, batch, temperature):
    """Return the first output with softmax(S / temperature); the model must be loaded with eager attention."""
    with torch.inference_mode(), softmax_temperature(temperature):
        return eager_model(**batch)[0]
