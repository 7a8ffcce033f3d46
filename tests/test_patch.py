"""patch against an independent eager-softmax oracle, a row per architecture."""

import copy
import math

import numpy as np
import pytest
import torch
from oracle import eager_output
from torch import nn
from transformers import (
    AlbertModel,
    BertForSequenceClassification,
    BertModel,
    CamembertModel,
    DebertaV2Model,
    DistilBertModel,
    ElectraModel,
    FNetModel,
    MPNetModel,
    RobertaModel,
    T5EncoderModel,
    T5Model,
    XLMRobertaModel,
)

import tempscale
from tempscale import Patch, UnsupportedModelError, patch
from tempscale.models import packaged_minilm

SMALL = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "initializer_range": 0.18,  # logits with a standard deviation of about 3, like those of trained heads
    "pad_token_id": 1,
}
FAMILY = [
    pytest.param(BertModel, 3, id="BERT"),
    pytest.param(RobertaModel, 3, id="RoBERTa"),
    pytest.param(XLMRobertaModel, 3, id="XLM-R"),
    pytest.param(CamembertModel, 3, id="CamemBERT"),
    pytest.param(ElectraModel, 3, id="ELECTRA"),
    pytest.param(DistilBertModel, 3, id="DistilBERT, whose configuration has other names"),
    pytest.param(AlbertModel, 1, id="ALBERT, one module called once per layer"),
    pytest.param(BertForSequenceClassification, 3, id="a BERT with a head"),
]
TEMPERATURES = [0.5, 0.8, 1.0, 1.3]
FLOAT32_TOLERANCE = 2e-5  # on outputs of order 1


def build(cls, implementation="sdpa", **options):
    torch.manual_seed(0)
    config = cls.config_class(**{**SMALL, **options})
    try:
        return cls._from_config(config, attn_implementation=implementation).eval()
    except ValueError as error:
        pytest.skip(f"{cls.__name__} has no {implementation} attention in this transformers: {error}")


def batch(vocabulary=97):
    ids = torch.randint(5, vocabulary, (3, 17), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    mask[2, 3:] = 0
    return {"input_ids": ids.masked_fill(mask == 0, 1), "attention_mask": mask}


def run(model):
    with torch.inference_mode():
        return model(**batch())[0]


def real(output):
    """Return the outputs at real tokens, in float32."""
    return (output[batch()["attention_mask"].bool()] if output.ndim == 3 else output).float()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(("cls", "sites"), FAMILY)
def test_patch_is_softmax_of_the_logits_divided_by_the_temperature(cls, sites, temperature, implementation, dtype):
    model = build(cls, implementation)
    plain, oracle = real(run(model)), real(eager_output(build(cls, "eager"), batch(), temperature))
    model.to(dtype)
    # In bfloat16 the unpatched model itself is this far from float32.
    floor = (real(run(model)) - plain).abs().max().item()
    tolerance = max(FLOAT32_TOLERANCE, 3 * floor)
    with patch(model, temperature) as active:
        patched = real(run(model))
    assert len(active.sites) == sites
    error = (patched - oracle).abs().max().item()
    effect = (oracle - plain).abs().max().item()
    assert error < tolerance
    if temperature != 1:
        assert effect > tolerance, "the oracle must be able to tell the temperatures apart"


def test_patch_at_one_is_bit_identical_and_removal_restores_bit_for_bit():
    model = build(BertModel, num_attention_heads=2, hidden_size=34)  # a scale that is no power of two
    before = run(model)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with patch(model, 1.0) as active:
        assert torch.equal(run(model), before)
        active.temperature = 0.7
        assert not torch.equal(run(model), before)
        assert model.state_dict().keys() == state.keys()
    assert torch.equal(run(model), before)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert "tempscale" not in "".join(key for module in model.modules() for key in vars(module))


def test_removal_after_an_exception():
    model = build(BertModel)
    before = run(model)
    with pytest.raises(KeyError), patch(model, 0.5):
        raise KeyError
    assert torch.equal(run(model), before)


def test_temperature_is_readable_and_settable_while_active():
    model = build(BertModel)
    with patch(model, 0.5) as active:
        at_half = run(model)
        active.temperature = 2
        assert active.temperature == 2.0
        torch.testing.assert_close(real(run(model)), real(eager_output(build(BertModel, "eager"), batch(), 2.0)))
        active.temperature = 0.5
        assert torch.equal(run(model), at_half)
        assert repr(active) == "Patch(temperature=0.5, sites=3, active)"
    assert repr(active) == "Patch(temperature=0.5, sites=3, removed)"
    active.remove()  # a second time does nothing
    with pytest.raises(RuntimeError, match=r"temperature 0\.9 set on a patch that was removed: patch the model again"):
        active.temperature = 0.9


@pytest.mark.parametrize("temperature", [0, -1, math.nan, math.inf, "0.9", None, True])
def test_a_temperature_must_be_finite_and_positive(temperature):
    model = build(BertModel)
    before = run(model)
    with pytest.raises(ValueError, match=f"finite positive number, not {temperature!r}"):
        patch(model, temperature)
    with patch(model, 0.5) as active:
        with pytest.raises(ValueError, match="finite positive number"):
            active.temperature = temperature
        assert active.temperature == 0.5
    assert torch.equal(run(model), before)


@pytest.mark.parametrize("temperature", [0.05, 20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_no_nan_on_padded_or_fully_masked_rows(temperature, dtype, implementation):
    model = build(BertModel, implementation).to(dtype)
    inputs = batch()
    inputs["attention_mask"][2] = 0
    with patch(model, temperature), torch.inference_mode():
        assert model(**inputs)[0].isfinite().all()


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (None, [0, 1, 2]),
        (0, [0]),
        (-1, [2]),
        (slice(1, None), [1, 2]),
        ([2, 0, -1], [0, 2]),
        ("encoder.layer.1.attention.self", [1]),
        ([slice(0, 1), "encoder.layer.2.attention.self"], [0, 2]),
    ],
)
def test_layers(layers, expected):
    model = build(BertModel)
    with patch(model, 0.5, layers=layers) as active:
        assert [int(site.name.split(".")[2]) for site in active.sites] == expected
        marked = [name for name, module in model.named_modules() if hasattr(module, "_tempscale_temperature")]
    assert [int(name.split(".")[2]) for name in marked] == expected


@pytest.mark.parametrize("layers", [3, -4, "encoder.layer.9", slice(5, 9), [0, 7]])
def test_an_unknown_layer_leaves_the_model_as_it_was(layers):
    model = build(BertModel)
    before = run(model)
    with pytest.raises(ValueError, match=r"unknown layer .*: expected 0 to 2, or a name from 'encoder.layer.0"):
        patch(model, 0.5, layers=layers)
    with pytest.raises(ValueError, match="no layer chosen"):
        patch(model, 0.5, layers=[])
    assert torch.equal(run(model), before)


def test_a_second_patch_is_refused_also_on_a_copy():
    model = build(BertModel)
    with patch(model, 0.5) as active:
        for target in (model, nn.Sequential(model), copy.deepcopy(model)):
            with pytest.raises(
                ValueError, match=r"patched already: set `\.temperature` of its patch, or `\.remove\(\)`"
            ):
                patch(target, 0.9)
        assert active.temperature == 0.5
    patch(model, 0.9).remove()


def test_training_mode_and_attention_implementation_are_left_alone():
    model = build(BertModel, "eager")
    model.train()
    model.encoder.layer[1].eval()
    flags = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    patch(model, 0.5).remove()
    assert [module.training for module in model.modules()] == flags
    assert model.config._attn_implementation == "eager"
    assert type(model.encoder.layer[0].attention.self.query) is nn.Linear
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_gradients_flow_through_a_patched_model():
    model = build(BertModel)
    with patch(model, 0.5):
        model(**batch())[0].sum().backward()
    assert model.encoder.layer[0].attention.self.query.weight.grad.abs().sum() > 0


class Opaque(nn.Module):
    """Not a transformers model."""

    def forward(self, x):
        return x.softmax(-1)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            lambda: FNetModel(FNetModel.config_class(vocab_size=97, hidden_size=32, num_hidden_layers=1)),
            "no temperature site in FNetModel: its forward pass has no softmax attention",
        ),
        (lambda: build(MPNetModel, "eager"), "dividing q of MPNetSelfAttention .* is not softmax"),
        (
            lambda: build(DebertaV2Model, "eager"),
            "no temperature site in DisentangledSelfAttention .* of DebertaV2Model",
        ),
        (lambda: build(T5EncoderModel, "eager", d_kv=8), "dividing (scaling|q) of T5Attention .* is not softmax"),
        (lambda: build(T5Model, "eager", d_kv=8), "T5Model cannot be probed with input_ids and attention_mask alone"),
        (Opaque, "no temperature site in Opaque: there is no transformers model inside"),
    ],
)
def test_an_unsupported_model_is_never_patched_silently(model, message):
    model = model()
    state = copy.deepcopy(vars(model))
    with pytest.raises(UnsupportedModelError, match=message):
        patch(model, 0.5)
    assert not any(hasattr(module, "_tempscale_temperature") for module in model.modules())
    assert vars(model).keys() == state.keys()


def test_what_is_not_a_module_is_refused():
    with pytest.raises(TypeError, match="expected a torch module, not str: pass the loaded model"):
        patch("minilm", 0.9)


def test_minilm_inside_sentence_transformer_against_the_oracle(minilm):
    texts = ["A short text.", "attention " * 100, "The filter rate of a uniform attention matrix is zero."]
    plain = minilm.encode(texts)
    with patch(minilm, 0.8) as active:
        assert isinstance(active, Patch)
        patched = minilm.encode(texts)
    transformer = BertModel.from_pretrained(packaged_minilm(), attn_implementation="eager").eval()
    features = {key: value for key, value in minilm.tokenize(texts).items() if isinstance(value, torch.Tensor)}
    tokens = eager_output(transformer, features, 0.8)
    mask = features["attention_mask"][..., None]
    oracle = nn.functional.normalize((tokens * mask).sum(1) / mask.sum(1), dim=-1).numpy()
    assert np.abs(patched - oracle).max() < 1e-6
    assert np.abs(plain - oracle).max() > 1e-3
    np.testing.assert_array_equal(minilm.encode(texts), plain)


def test_pairwise_cosine_of_real_texts_moves_with_the_temperature(minilm):
    texts = tempscale.docstrings(["numpy"], min_tokens=64).text[:16].tolist()
    plain = tempscale.pairwise_cosine(minilm.encode(texts))
    with patch(minilm, 0.5):
        assert abs(tempscale.pairwise_cosine(minilm.encode(texts)).mean() - plain.mean()) > 1e-3
