"""An oracle that shares no code with the package: eager attention whose softmax divides the complete logit."""

from collections.abc import Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from unittest import mock

import torch


@contextmanager
def softmax_temperature(temperature):
    """Replace torch.nn.functional.softmax by exp(x / temperature), normalised in float64."""

    def softmax(x, dim=None, dtype=None, **_):
        if x.ndim < 3:  # of a router of experts
            return plain(x, dim=dim, dtype=dtype)
        softmax.calls += 1
        logits = x.double()
        weights = ((logits - logits.max(dim, keepdim=True).values) / temperature).exp()
        return (weights / weights.sum(dim, keepdim=True)).to(dtype or x.dtype)

    softmax.calls, plain = 0, torch.softmax
    with mock.patch("torch.nn.functional.softmax", softmax), mock.patch("torch.softmax", softmax):
        yield
    assert softmax.calls, "the oracle needs a model that was loaded with eager attention"


def eager_output(eager_model, inputs, temperature):
    """Return the first output with softmax(S / temperature); the model must be loaded with eager attention.

    `temperature` is one number, or one for each named attention module, all others keeping 1.
    """
    if not isinstance(temperature, Mapping):
        with torch.inference_mode(), softmax_temperature(temperature):
            return eager_model(**inputs)[0]
    with ExitStack() as stack:
        for name, number in temperature.items():
            module = eager_model.get_submodule(name)
            stack.enter_context(mock.patch.object(module, "forward", _within(number, module.forward)))
        stack.enter_context(torch.inference_mode())
        return eager_model(**inputs)[0]


def _within(temperature, forward):
    def wrapped(*args, **kwargs):
        with softmax_temperature(temperature):
            return forward(*args, **kwargs)

    return wrapped


def batch(model=None):
    """Return three texts of different lengths, padded; longer ones for attention that is sparse only then."""
    n = 48 if getattr(model, "attention_type", None) == "block_sparse" else 17
    ids = torch.randint(5, 97, (3, n), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, n * 9 // 17 :] = 0
    mask[2, 3:] = 0
    return {"input_ids": ids.masked_fill(mask == 0, 1), "attention_mask": mask}


def real(output, inputs):
    """Return the outputs at real tokens, in float32."""
    mask = inputs["attention_mask"].bool()
    return (output[mask] if output.shape[:2] == mask.shape else output).float()


@dataclass
class Agreement:
    """Largest absolute differences of the outputs: to the oracle; of the unpatched models; what the temperature does.

    The share is how much of the oracle's change the patched model makes, by least squares over all outputs: 0 without a
    patch, 1 with the right temperature, also where rounding hides the change of any single output.
    """

    error: float
    floor: float
    effect: float
    tolerance: float
    share: float


def agreement(patched, reference, temperature):
    """Compare a patched model with the oracle, in which an eager model with the same weights has the temperature.

    `reference` returns the eager model for a dtype. The floor is what the dtype and the implementation do to the unpatched
    model, and the dtype to the oracle. In float32 outputs may differ by 2e-5 of the largest, or 3 floors; in half precision
    by 3 floors.
    """
    inputs, dtype = batch(patched), next(patched.parameters()).dtype
    exact, rounded = (_oracle(reference(of), inputs, temperature) for of in (torch.float32, dtype))
    with torch.inference_mode():
        plain = real(reference(torch.float32)(**inputs)[0], inputs)
        output = real(patched(**inputs)[0], inputs)
        unpatched = _unpatched(patched, inputs)
        floor = max(_distance(unpatched, plain), _distance(rounded, exact))
    slack = 2e-5 * max(1.0, exact.abs().max().item()) if dtype == torch.float32 else 0.0
    change = exact - plain
    share = ((output - unpatched) * change).sum() / change.square().sum()
    return Agreement(_distance(output, exact), floor, _distance(exact, plain), max(slack, 3 * floor), share.item())


def _oracle(model, inputs, temperature):
    return real(eager_output(model, inputs, temperature), inputs)


def _distance(x, y):
    return (x - y).abs().max().item()


def _unpatched(model, inputs):
    """Return the real outputs of a patched model at temperature 1, where it is bit-identical to the plain one."""
    active = model.tempscale_patch
    before = active.temperature
    active.temperature = 1.0
    output = real(model(**inputs)[0], inputs)
    active.temperature = before
    return output
