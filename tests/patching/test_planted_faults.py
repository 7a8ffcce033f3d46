"""Attention written to break `patch`: what is not softmax(S / tau) must be refused, what is must be accepted and right."""

import copy
from functools import cache

import pytest
import torch
from support.planted_faults import FAULTS, LONG_PATHS, SOUND, build, set_reference

from tempscale import LogLength, PerLayer, patch

TOLERANCE = 1e-4
BY_LENGTH = LogLength(4)
# Arguments of `patch`, and the temperatures of all layers but the last, and of the last: numbers, or functions of lengths.
MODES = {
    "half": ((0.5, None), (0.5, 0.5)),
    "double": ((2.0, None), (2.0, 2.0)),
    "per layer": ((PerLayer({-1: 0.5}), None), (1.0, 0.5)),
    "by length": ((BY_LENGTH, None), (BY_LENGTH, BY_LENGTH)),
    "last layer": ((0.5, -1), (1.0, 0.5)),
}


def batch(n_texts, n):
    """Return ids and mask of texts with n, 2n / 3 and n / 3 tokens."""
    ids = torch.randint(0, 99, (n_texts, n), generator=torch.Generator().manual_seed(n))
    lengths = torch.tensor([n, 2 * n // 3, max(2, n // 3)])[:n_texts]
    return {"input_ids": ids, "attention_mask": (torch.arange(n) < lengths[:, None]).long()}


# What no run on small batches can show, or what is a matter of definition.
LIMITS = {
    "QueryRouter": "a softmax with heads, of three keys that are learned, is attention to these keys",
    "LeakyMaskUnderScale": "a mask that leaks is no mask",
    "Sparsemax": "attention without softmax is left alone",
    "ReluAttention": "attention without softmax is left alone",
    "LinearAttention": "attention without softmax is left alone",
    "SigmoidAttention": "attention without softmax is left alone",
    "OnlyWithoutGradient": "a proof has no gradients",
    "FromTheEleventhCall": "a proof makes few calls",
    "RoundedScale": "a proof has temperatures of 1/4 and 4, which are not rounded",
}

BATCHES = [batch(n_texts, n) for n in (5, 9, 24, 70, 150) for n_texts in (1, 3)]
# For comparisons of a model with itself.
FEW = [BATCHES[1], BATCHES[4]]


def run(model, inputs):
    """Return the states of the real tokens; gradients are on for texts that are alone, and off for others."""
    torch.default_generator.manual_seed(0)
    with torch.set_grad_enabled(len(inputs["input_ids"]) == 1):
        states = model(**inputs).last_hidden_state
    return states.detach()[inputs["attention_mask"] == 1]


def n_attentions(model):
    return sum(hasattr(module, "reference_temperature") for module in model.modules())


def references(model, temperatures, batches):
    """Return what a model gives when its attention divides its own logits."""
    tempered, found = copy.deepcopy(model), []
    for inputs in batches:
        lengths = inputs["attention_mask"].sum(-1)
        others, last = (each(lengths) if callable(each) else each for each in temperatures)
        set_reference(tempered, [others] * (n_attentions(model) - 1) + [last])
        found.append(run(tempered, inputs))
    return found


@cache
def untouched(name, implementation="eager", ran=False):
    """Return a model that no patch has seen, and what it gives for a few batches; copy it, since some have a state."""
    model = build(name, implementation)
    if ran:
        for inputs in BATCHES:
            run(model, inputs)
    witness = copy.deepcopy(model)
    return model, [run(witness, inputs) for inputs in FEW]


def patched(model, arguments):
    """Return the patch, or None if it was refused in one sentence that names a class of the model."""
    temperature, layers = arguments
    try:
        return patch(model, temperature, layers=layers)
    except ValueError as error:
        message = str(error)
        assert any(type(module).__name__ in message for module in model.modules()), f"names no class: {message}"
        assert "\n" not in message
        assert ". " not in message
        return None


def check(original, arguments, temperatures, batches=BATCHES):
    """Assert that a patch is refused or right, and leaves no trace; return whether it was accepted."""
    before, expected = original
    model = copy.deepcopy(before)
    active = patched(model, arguments)
    if active:
        errors = [
            ((run(model, inputs) - states).abs().max() / states.abs().max()).item()
            for inputs, states in zip(batches, references(before, temperatures, batches), strict=True)
        ]
        active.remove()
        assert max(errors) < TOLERANCE, f"slipped: errors {[f'{error:.0e}' for error in errors]}"
    weights = before.state_dict()
    assert model.state_dict().keys() == weights.keys()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    for inputs, states in zip(FEW, expected, strict=True):
        assert torch.equal(run(model, inputs), states), "the patch left a trace"
    return active is not None


def cases(variants, modes):
    """Return each variant with each implementation that it has, and modes; the implementation matters most for two."""
    return [
        pytest.param(name, implementation, mode, id=f"{name}-{implementation}-{mode}")
        for name, variant in variants.items()
        for implementation in (("eager", "sdpa") if variant.has_sdpa else ("eager",))
        for mode in (modes if implementation == "eager" else ("half", "by length"))
    ]


@pytest.mark.parametrize(("name", "implementation", "mode"), cases(FAULTS, ("half", "by length", "last layer")))
def test_a_fault_is_caught_or_right(name, implementation, mode):
    if name in LIMITS:
        pytest.skip(LIMITS[name])
    check(untouched(name, implementation), *MODES[mode])


@pytest.mark.parametrize("name", LIMITS)
def test_what_cannot_be_caught_is_still_so(name):
    """Who mends one of them takes it off the list."""
    slipped = 0
    for mode in (*MODES.values(), ((0.7, None), (0.7, 0.7))):
        try:
            check(untouched(name), *mode)
        except AssertionError:
            slipped += 1
    assert slipped


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", [name for name, variant in FAULTS.items() if variant.has_state and name not in LIMITS])
def test_a_fault_of_a_model_that_ran_before_is_caught_or_right(name, mode):
    check(untouched(name, ran=True), *MODES[mode])


@pytest.mark.parametrize("temperature", [0.05, 0.7, 3.0, 20.0])
@pytest.mark.parametrize("name", ["LimitedScale", "FlooredScale", "RarelyClampedLogits"])
def test_a_fault_of_some_temperatures_is_caught_or_right(name, temperature):
    check(untouched(name), (temperature, None), (temperature, temperature))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", LONG_PATHS)
def test_a_fault_of_long_inputs_is_caught_or_right_up_to_its_length(name, mode):
    """Beyond, nothing is promised: a proof runs small batches."""
    threshold = LONG_PATHS[name].attention.threshold
    short = [inputs for inputs in BATCHES if inputs["input_ids"].shape[1] <= threshold]
    check(untouched(name), *MODES[mode], batches=short)


@pytest.mark.parametrize(("name", "implementation", "mode"), cases(SOUND, MODES))
def test_the_sound_is_accepted_and_right(name, implementation, mode):
    accepted = check(untouched(name, implementation), *MODES[mode])
    assert accepted or mode != "half"


@pytest.mark.parametrize("name", [*FAULTS, *LONG_PATHS, *SOUND])
def test_the_reference_of_a_planted_model(name):
    """At 1 it is the model, in each implementation; and a temperature matters."""
    variant = {**FAULTS, **LONG_PATHS, **SOUND}[name]
    model, expected = untouched(name)
    (tempered,) = references(model, (0.5, 0.5), FEW[1:])
    assert (tempered - expected[1]).abs().max() > 0.01 * expected[1].abs().max()
    if not variant.has_state:
        nearly = references(model, (1 + 1e-9, 1 + 1e-9), FEW)
        torch.testing.assert_close(nearly, expected, rtol=1e-4, atol=1e-4)
    if variant.has_sdpa:
        states = untouched(name, "sdpa")[1]
        torch.testing.assert_close(states, expected, rtol=1e-4, atol=1e-4)
