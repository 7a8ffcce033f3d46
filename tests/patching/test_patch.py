"""patch against an independent eager-softmax oracle, a row per architecture."""

import functools
import inspect
import math
import re
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from support.architectures import ARCHITECTURES, DECODER, FAMILIES, Architecture, architecture
from support.arrays import read_arrays
from support.official import TEMPERATURES as TEMPERATURES_OF_OFFICIAL
from support.official import texts as texts_of_official
from support.oracle import agreement, batch, eager_output
from torch import nn
from transformers import BertConfig, BertForMaskedLM, BertModel, PretrainedConfig, PreTrainedModel

import tempscale
from tempscale import LogLength, Patch, PerLayer, UnsupportedModelError, fold, patch
from tempscale.models import packaged_minilm
from tempscale.patching.schedules import Layered

BERT = architecture("BERT")
TEMPERATURES = [0.5, 0.8, 1.0, 1.3]


@functools.cache
def built(row, implementation, dtype=torch.float32):
    """Return a model that tests patch and restore, but never change."""
    return architecture(row).build(implementation, dtype)


@functools.cache
def reference(row):
    """Return a function from dtypes to the model of the oracle, which is never patched."""
    return functools.cache(lambda dtype: architecture(row).build("eager", dtype))


def run(model, inputs=None):
    with torch.inference_mode():
        return model(**(inputs or batch()))[0]


def check_each_sequence(together, row, temperature_of):
    """Compare the outputs of a padded batch with those of the oracle, which has one sequence's temperature at a time."""
    model = reference(row)(torch.float32)
    inputs = batch(model)
    for index, length in enumerate(inputs["attention_mask"].sum(1)):
        oracle, plain = eager_output(model, inputs, temperature_of(length[None])), run(model, inputs)
        kept = inputs["attention_mask"][index].bool()
        error, effect = ((x[index][kept] - oracle[index][kept]).abs().max().item() for x in (together, plain))
        assert error < 2e-5 * max(1.0, oracle.abs().max().item()) < effect


EACH_FAMILY = pytest.mark.parametrize("row", FAMILIES)


@pytest.mark.parametrize(
    ("row", "implementation", "dtype"),
    [
        *((row.name, None, torch.float32) for row in ARCHITECTURES),
        *((row, "eager", torch.float32) for row in FAMILIES),
        *((row, implementation, torch.bfloat16) for row in FAMILIES for implementation in ("sdpa", "eager")),
    ],
    ids=str,
)
def test_patch_is_softmax_of_the_logits_divided_by_the_temperature(row, implementation, dtype):
    model = built(row, implementation, dtype)
    before = run(model, batch(model))
    with patch(model, 1.0) as active:
        assert len(active.sites) == (architecture(row).sites or len(active.sites))
        for temperature in TEMPERATURES:
            active.temperature = temperature
            found = agreement(model, reference(row), temperature)
            assert found.error <= found.tolerance
            if temperature != 1:
                # The oracle must be able to tell the temperatures apart: in bfloat16 by all outputs together.
                assert dtype == torch.bfloat16 or found.effect > found.tolerance
                assert found.share == pytest.approx(1, abs=0.1)
    assert torch.equal(run(model, batch(model)), before)


@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize("row", ["BERT", "Qwen3"])
def test_flex_attention(row):
    from torch._inductor import config

    model = architecture(row).build("flex_attention")
    # Without this the C++ compiler is first tried on every instruction set that the processor has.
    with config.patch("cpp.vec_isa_ok", True), patch(model, 0.5):
        found = agreement(model, reference(row), 0.5)
    assert found.error <= found.tolerance < found.effect
    torch._dynamo.reset()


def attention_of_unpadded_sequences(module, query, key, value, attention_mask, scaling, softcap=None, **options):
    """Compute what flash attention does, from its arguments alone: no logits, no softmax, a mask of padding only."""
    causal = options.get("is_causal")
    causal = module.is_causal if causal is None else causal
    key, value = (x.repeat_interleave(query.shape[1] // key.shape[1], 1) for x in (key, value))
    output = torch.zeros_like(query)
    for index in range(len(query)):
        mask = torch.ones(query.shape[2]) if attention_mask is None else attention_mask[index]
        q, k, v = (x[index][:, mask.bool()].double() for x in (query, key, value))
        logits = q @ k.mT * scaling
        logits = logits if softcap is None else softcap * (logits / softcap).tanh()
        weights = (logits - logits.amax(-1, keepdim=True)).exp()
        weights = weights.tril() if causal else weights
        output[index, :, mask.bool()] = (weights / weights.sum(-1, keepdim=True) @ v).to(output.dtype)
    return output.transpose(1, 2), None


@pytest.mark.parametrize("row", ["BERT", "ModernBERT", "Qwen3", "Gemma 2"])
def test_a_backend_with_the_arguments_of_flash_attention(row):
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import flash_attention_mask

    AttentionInterface.register("tempscale_test_flash", attention_of_unpadded_sequences)
    AttentionMaskInterface.register("tempscale_test_flash", flash_attention_mask)
    model = architecture(row).build()
    if not hasattr(sys.modules[type(model).__module__], "ALL_ATTENTION_FUNCTIONS"):
        pytest.skip(f"{row} does not call transformers' attention interface in this version")
    model.config._attn_implementation = "tempscale_test_flash"
    with patch(model, 0.5) as active:
        found = agreement(model, reference(row), 0.5)
        assert found.error <= found.tolerance < found.effect
        if row == "Gemma 2":  # whose soft cap only softmax itself could divide by sequence
            with pytest.raises(UnsupportedModelError, match="Gemma2Attention"):
                active.temperature = LogLength(4)
            assert active.temperature == 0.5
            return
        active.temperature = LogLength(4, temperature=0.9)
        check_each_sequence(run(model), row, lambda length: LogLength(4, temperature=0.9)(length).item())


@pytest.mark.parametrize(
    "file", sorted((Path(__file__).parents[2] / "book" / "results").glob("agreement-*.csv")), ids=str
)
def test_the_table_of_the_book_is_complete(file):
    table = pd.read_csv(file)
    expected = {row.name for row in ARCHITECTURES}
    missing = {"NomicBERT", "GTE", "Jina v3", "EuroBERT", "EmbeddingGemma 2"} if "4.56" in file.name else set()
    assert set(table.architecture) == expected - missing
    assert (table.error < 1e-4).all()
    assert (table.error < table.effect / 100).all()


@EACH_FAMILY
def test_a_temperature_per_layer(row):
    model, temperatures = built(row, "eager"), [0.5, 1.0, 1.3]
    with patch(model, PerLayer(temperatures)) as active:
        each = dict(zip((site.name for site in active.sites), temperatures, strict=True))
        found = agreement(model, reference(row), each)
    assert found.error <= found.tolerance < found.effect


@EACH_FAMILY
def test_some_layers(row):
    model = built(row, "eager")
    with patch(model, 0.5, layers=-1) as active:
        found = agreement(model, reference(row), {active.sites[0].name: 0.5})
    assert found.error <= found.tolerance < found.effect


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@EACH_FAMILY
def test_a_temperature_by_length_is_that_of_each_sequence_alone(row, implementation):
    model = built(row, implementation)
    schedule = LogLength(4, temperature=0.9)
    with patch(model, schedule):
        check_each_sequence(run(model), row, lambda length: schedule(length).item())


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@EACH_FAMILY
def test_at_one_nothing_changes_and_removal_restores_bit_for_bit(row, implementation):
    model = built(row, implementation)
    inputs = batch(model)
    before = run(model, inputs)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    attributes = {name: dict(vars(module)) for name, module in model.named_modules()}
    classes = [type(module) for module in model.modules()]
    with patch(model, 1.0) as active:
        for temperature in (1.0, PerLayer({-1: 1.0}), LogLength(4, exponent=0)):
            active.temperature = temperature
            assert torch.equal(run(model, inputs), before)
        for temperature in (0.7, PerLayer({-1: 0.7}), LogLength(4)):
            active.temperature = temperature
            assert not torch.equal(run(model, inputs), before)
            assert model.state_dict().keys() == state.keys()
    assert torch.equal(run(model, inputs), before)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert [type(module) for module in model.modules()] == classes
    for name, module in model.named_modules():
        assert vars(module).keys() == attributes[name].keys()
        numbers = {key: value for key, value in vars(module).items() if isinstance(value, (bool, int, float, str))}
        assert numbers == {key: attributes[name][key] for key in numbers}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@EACH_FAMILY
def test_no_nan_on_padded_or_fully_masked_rows(row, implementation, dtype):
    model = built(row, implementation, dtype)
    inputs = batch(model)
    inputs["attention_mask"][2] = 0
    if not run(model, inputs).isfinite().all():
        pytest.skip(f"{row} itself is not finite here, in {dtype}")
    with patch(model, 1.0) as active:
        for temperature in (0.05, 20.0, LogLength(4, temperature=0.05), LogLength(4, temperature=20.0)):
            active.temperature = temperature
            assert run(model, inputs).isfinite().all()


@pytest.mark.parametrize("row", ["BERT", "T5", "Qwen3", "ModernBERT"])
def test_temperatures_by_layer_and_length_at_once(row):
    model, by_length = built(row, "sdpa"), LogLength(4, temperature=0.9)
    with patch(model, PerLayer([by_length, 0.8, 1.0])) as active:
        names = [site.name for site in active.sites]
        check_each_sequence(
            run(model), row, lambda length: dict(zip(names, [by_length(length).item(), 0.8, 1.0], strict=True))
        )


def test_removal_after_an_exception():
    model = BERT.build()
    before = run(model)
    with pytest.raises(KeyError), patch(model, 0.5):
        raise KeyError
    assert torch.equal(run(model), before)


def test_temperature_is_readable_and_settable_while_active():
    model = BERT.build("sdpa")
    with patch(model, 0.5) as active:
        at_half = run(model)
        active.temperature = 2
        assert active.temperature == 2.0
        found = agreement(model, reference("BERT"), 2.0)
        assert found.error <= found.tolerance < found.effect
        active.temperature = 0.5
        assert torch.equal(run(model), at_half)
        assert repr(active) == "Patch(temperature=0.5, sites=3, active)"
    assert repr(active) == "Patch(temperature=0.5, sites=3, removed)"
    active.remove()  # a second time does nothing
    with pytest.raises(RuntimeError, match=r"temperature 0\.9 set on a patch that was removed: patch the model again"):
        active.temperature = 0.9


@pytest.mark.parametrize("temperature", [0, -1, math.nan, math.inf, "0.9", None, True, 10**400, 1j])
def test_a_temperature_must_be_finite_and_positive(temperature):
    model = BERT.build()
    before = run(model)
    with pytest.raises(ValueError, match=f"finite positive number, not {re.escape(repr(temperature))}"):
        patch(model, temperature)
    with patch(model, 0.5) as active:
        with pytest.raises(ValueError, match="finite positive number"):
            active.temperature = temperature
        assert active.temperature == 0.5
    assert torch.equal(run(model), before)


def test_a_change_of_kind_that_fails_leaves_the_patch_as_it_was():
    model = BERT.build()
    with patch(model, 0.5) as active:
        before = run(model)
        with pytest.raises(ValueError, match="PerLayer has 2 temperatures, but the model has 3 attention layers"):
            active.temperature = PerLayer([0.5, 0.5])
        assert active.temperature == 0.5
        assert torch.equal(run(model), before)


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
        ("all", [0, 1, 2]),
        ("last:2", [1, 2]),
        ("first:1", [0]),
        ("0,-1", [0, 2]),
    ],
)
def test_layers(layers, expected):
    model = BERT.build()
    with patch(model, 0.5, layers=layers) as active:
        assert [site.layer for site in active.sites] == expected
        found = agreement(
            model, reference("BERT"), {f"encoder.layer.{index}.attention.self": 0.5 for index in expected}
        )
        assert found.error <= found.tolerance < found.effect


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({0: 0.5}, r"would lose its values: use PerLayer"),
        (1.0, r"unknown layer 1\.0: expected an index"),
        ([None], "unknown layer None: expected an index"),
        ([True, 2, False], r"\[True, 2, False\] are booleans and others"),
        ([True, False], "layers are a mask of 2, but the model has 3 attention layers"),
        ([False] * 3, "no layer chosen"),
    ],
    ids=str,
)
def test_what_names_no_layers_is_refused_by_its_cause(layers, message):
    with pytest.raises(ValueError, match=message):
        patch(BERT.build(), 0.5, layers=layers)


@pytest.mark.parametrize(
    "number",
    [np.float32(0.5), np.float64(0.5), np.float16(0.5), torch.tensor(0.5), np.array(0.5), Fraction(1, 2)],
    ids=lambda number: f"{type(number).__name__} {getattr(number, 'dtype', '')}",
)
def test_any_real_number_is_a_temperature(number):
    model = BERT.build()
    with patch(model, 0.5):
        expected = run(model)
    with patch(model, number) as active:
        assert active.temperature == 0.5
        assert type(active.temperature) is float
        assert torch.equal(run(model), expected)


@pytest.mark.parametrize("layers", [3, -4, "encoder.layer.9", slice(5, 9), [0, 7], "last:4", "last:0", "0,3"])
def test_an_unknown_layer_leaves_the_model_as_it_was(layers):
    model = BERT.build()
    before = run(model)
    with pytest.raises(
        ValueError, match=r"unknown layer .*: expected 0 to 2, first:n, last:n, or a name from 'encoder.layer.0"
    ):
        patch(model, 0.5, layers=layers)
    with pytest.raises(ValueError, match="no layer chosen"):
        patch(model, 0.5, layers=[])
    assert torch.equal(run(model), before)


def test_training_mode_and_attention_implementation_are_left_alone():
    model = BERT.build()
    model.train()
    model.encoder.layer[1].eval()
    flags = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    patch(model, 0.5).remove()
    assert [module.training for module in model.modules()] == flags
    assert model.config._attn_implementation == "eager"
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("temperature", [0.5, LogLength(4)], ids=str)
@pytest.mark.parametrize("row", ["BERT", "ModernBERT", "MPNet", "Gemma 3"])
def test_gradients_flow_through_a_patched_model(row, temperature):
    model = architecture(row).build()
    parameter = next(
        p
        for name, p in model.named_parameters()
        if name.endswith((".query.weight", "Wqkv.weight", "q.weight")) or "q_proj" in name
    )
    patch(model, 0.9).remove()  # what the proof computes must not stick, such as rotary tables without gradient
    with patch(model, temperature):
        model(**batch())[0].pow(2).sum().backward()
    assert parameter.grad.abs().sum() > 0


def test_a_part_of_a_model_with_a_temperature_by_length_cannot_run_alone():
    model = BERT.build()
    with patch(model, LogLength(4)):
        with pytest.raises(
            RuntimeError, match="depends on the number of tokens, which only the whole model knows: call"
        ):
            model.encoder(torch.zeros(1, 4, 32))
        with pytest.raises(ValueError, match=r"needs an attention_mask of shape \(batch, tokens\), not \(1, 4, 4\)"):
            model(torch.ones(1, 4, dtype=torch.long), attention_mask=torch.ones(1, 4, 4))
        # without a mask every token counts
        ids = torch.arange(5, 21)[None]
        assert torch.equal(
            run(model, {"input_ids": ids}), run(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
        )


def test_an_implementation_without_softmax_under_a_temperature_inside_softmax_is_noticed():
    from transformers import AttentionInterface, AttentionMaskInterface

    def average(module, query, key, value, *args, **kwargs):
        return value.mean(2, keepdim=True).expand_as(value).transpose(1, 2).contiguous(), None

    AttentionInterface.register("tempscale_test_average", average)
    AttentionMaskInterface.register("tempscale_test_average", lambda *args, **kwargs: None)
    model = architecture("Gemma 2").build(num_key_value_heads=4)
    with patch(model, LogLength(4)):
        model.config._attn_implementation = "tempscale_test_average"
        with pytest.raises(
            RuntimeError, match=r"Gemma2Model was changed while patched, and its temperature has no place"
        ):
            run(model)
    model.config._attn_implementation = "tempscale_test_average"
    with pytest.raises(UnsupportedModelError, match="with its own attention implementation: its output is off by"):
        patch(model, 0.5)


class CustomAttention(nn.Module):
    """Attention as in code that comes with a model; with a gate, a second softmax that is no attention."""

    def __init__(self, gated):
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(32, 32) for _ in range(3))
        self.gate = nn.Linear(32, 32) if gated else None

    def forward(self, x, mask):
        logits = 3 * self.q_proj(x) @ self.k_proj(x).mT
        output = torch.softmax(logits.masked_fill(mask[:, None] == 0, -1e4), dim=-1) @ self.v_proj(x)
        return output if self.gate is None else output * nn.functional.softmax(self.gate(x), dim=-1)


class CustomModel(PreTrainedModel):
    """A model that transformers does not know."""

    config_class = PretrainedConfig

    def __init__(self, config, gated=False):
        super().__init__(config)
        self.embedding = nn.Embedding(97, 32)
        self.layers = nn.ModuleList(CustomAttention(gated) for _ in range(3))

    def forward(self, input_ids, attention_mask):
        x = self.embedding(input_ids)
        for layer in self.layers:
            x = x + layer(x, attention_mask)
        return (x,)


def custom_model(**options):
    torch.manual_seed(0)
    return CustomModel(PretrainedConfig(vocab_size=97, num_attention_heads=1), **options).eval()


def test_custom_code_works_or_is_refused():
    model = custom_model()
    before, oracle = run(model), eager_output(model, batch(), 0.5)
    with patch(model, 0.5) as active:
        assert [source.attribute for source in active.sites[0].sources] == ["q_proj"]
        assert (run(model) - oracle).abs().max() < 1e-5 < (before - oracle).abs().max() / 100
    assert torch.equal(run(model), before)
    with pytest.raises(UnsupportedModelError, match="with its q_proj divided, a softmax of CustomAttention"):
        patch(custom_model(gated=True), 0.5)


class Opaque(nn.Module):
    """Not a transformers model."""

    def forward(self, x):
        return x.softmax(-1)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            Architecture("FNet", "FNetModel", ""),
            "no temperature site in FNetModel: its forward pass has no softmax attention",
        ),
        (
            Architecture("Yoso", "YosoModel", ""),
            "no temperature site in YosoModel: its forward pass has no softmax attention",
        ),
        (
            Architecture(
                "ConvBERT, a softmax that makes convolution kernels", "ConvBertModel", "", {"embedding_size": 32}
            ),
            "no uniform temperature site in ConvBertModel: with its query divided, ConvBertSelfAttention .* output off by",
        ),
        (
            Architecture(
                "GPT-OSS, attention sinks", "GptOssModel", "", {**DECODER, "num_local_experts": 4, "rope_scaling": None}
            ),
            "GptOssModel: its attention has sinks, logits that no query makes .with its scaling divided, a softmax",
        ),
        (
            Architecture("I-BERT, integers", "IBertModel", ""),
            "IntSoftmax .* calls softmax but has neither a known scale attribute nor known queries",
        ),
        (
            Architecture("T5 with decoder", "T5Model", "", {"d_kv": 8}),
            "T5Model cannot be probed with input_ids and attention_mask alone",
        ),
    ],
)
def test_an_unsupported_model_is_never_patched_silently(row, message):
    model = row.build()
    classes = [type(module) for module in model.modules()]
    for temperature in (0.5, LogLength(4)):
        with pytest.raises(UnsupportedModelError, match=message):
            patch(model, temperature)
    assert [type(module) for module in model.modules()] == classes


def test_what_is_no_transformers_model_is_refused():
    with pytest.raises(
        UnsupportedModelError, match="no temperature site in Opaque: there is no transformers model inside"
    ):
        patch(Opaque(), 0.9)
    with pytest.raises(TypeError, match="expected a torch module, not str: pass the loaded model"):
        patch("minilm", 0.9)


def test_a_bias_that_nobody_knows_is_found_however_small():
    model = architecture("T5").build()
    attention = model.encoder.block[0].layer[0].SelfAttention
    attention.other_table, compute_bias = nn.Parameter(torch.full((17,), 1e-4)), attention.compute_bias
    attention.compute_bias = lambda n, m, **kwargs: compute_bias(n, m, **kwargs) + attention.other_table[:m].cumsum(0)
    with pytest.raises(UnsupportedModelError, match=r"a softmax of T5Attention .* has logits that are off by 0\.00"):
        patch(model, 0.5)


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


def test_the_numbers_of_the_official_implementation():
    official = read_arrays(Path(__file__).parents[1] / "data" / "official_minilm.npz")
    model = tempscale.load_model("minilm", device="cpu", max_seq_length=512)
    for temperature, expected in zip(TEMPERATURES_OF_OFFICIAL, official["embeddings"], strict=True):
        with patch(model, temperature):
            found = model.encode(texts_of_official(), batch_size=8)
        print(f"temperature {temperature}: largest difference {np.abs(found - expected).max():.1e}")
        assert np.abs(found - expected).max() < 5e-7


def test_pairwise_cosine_of_real_texts_moves_with_the_temperature(minilm):
    texts = tempscale.docstrings(["numpy"], min_tokens=64).text[:16].tolist()
    plain = tempscale.pairwise_cosine(minilm.encode(texts))
    with patch(minilm, 0.5):
        assert abs(tempscale.pairwise_cosine(minilm.encode(texts)).mean() - plain.mean()) > 1e-3


class OneLayerShort(Layered):
    """A schedule by someone else, with a fault that shows while it is put into the model."""

    by_length = False

    def per_layer(self, n_layers):
        return [0.5] * (n_layers - 1)


@pytest.mark.parametrize("first", [0.8, PerLayer({0: 0.7}), LogLength(4)], ids=str)
@pytest.mark.parametrize("fault", [OneLayerShort(), KeyboardInterrupt()], ids=["schedule", "interrupt"])
def test_what_goes_wrong_while_a_temperature_is_set_leaves_the_model_as_it_was(first, fault, monkeypatch):
    model = BERT.build()
    plain = run(model)
    with patch(model, first) as active:
        before, text = run(model), repr(active)
        if isinstance(fault, BaseException):
            site = active.sites[-1]
            setter = type(site).set
            monkeypatch.setattr(type(site), "set", lambda one, t: fail(fault) if t == 0.3 else setter(one, t))
            with pytest.raises(KeyboardInterrupt):
                active.temperature = PerLayer([0.5, 0.5, 0.3])
        else:
            with pytest.raises(IndexError):
                active.temperature = fault
        assert torch.equal(run(model), before)
        assert repr(active) == text
        active.temperature = 0.5
        assert not torch.equal(run(model), before)
    assert torch.equal(run(model), plain)
    if not isinstance(fault, BaseException):
        with pytest.raises(IndexError):
            patch(model, fault)
        assert torch.equal(run(model), plain)
        patch(model, first).remove()


def fail(error):
    raise error


@pytest.mark.parametrize(
    "layers",
    [
        np.array([0, 2]),
        (layer for layer in (0, 2)),
        range(0, 3, 2),
        {0, 2},
        [np.int64(0), torch.tensor(2)],
        [True, False, True],
        np.array([True, False, True]),
        torch.tensor([True, False, True]),
    ],
    ids=["array", "generator", "range", "set", "scalars", "booleans", "array of booleans", "tensor of booleans"],
)
def test_layers_may_be_anything_that_names_them(layers):
    model = BERT.build()
    with patch(model, 0.5, layers=layers) as active:
        found = run(model)
        assert [site.layer for site in active.sites] == [0, 2]
        active.temperature = LogLength(4)
        assert [site.layer for site in active.sites] == [0, 2]
    with patch(model, 0.5, layers=[0, 2]):
        assert torch.equal(run(model), found)


def masked_lm(inner=None):
    """Return a BERT with a head, perhaps around an encoder that another model has, too."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = BertForMaskedLM(BertConfig(**sizes, intermediate_size=48, initializer_range=0.18)).eval()
    if inner is not None:
        model.bert = inner
    return model


PARTS = {
    "the encoder inside": lambda model: model.bert,
    "the model itself": lambda model: model,
    "another model around the same encoder": lambda model: masked_lm(model.bert),
    "a module around it": lambda model: nn.Sequential(nn.Identity(), model),
}


@pytest.mark.parametrize("second", PARTS)
@pytest.mark.parametrize("first", PARTS)
@pytest.mark.parametrize("temperature", [0.5, PerLayer([0.5, 0.8])], ids=str)
def test_no_attention_gets_two_temperatures(first, second, temperature):
    model = masked_lm()
    before = run(model)
    one, other = PARTS[first](model), PARTS[second](model)
    active = patch(one, temperature)
    tempered = run(model)
    for again in (patch, fold):
        with pytest.raises(ValueError, match=r"has a temperature already|is patched already"):
            again(other, 0.5)
    assert torch.equal(run(model), tempered)
    active.remove()
    assert torch.equal(run(model), before)
    with patch(other, temperature):
        pass
    assert torch.equal(run(model), before)


@pytest.mark.parametrize("second", PARTS)
@pytest.mark.parametrize("first", PARTS)
def test_no_temperature_is_folded_into_weights_that_have_one(first, second, tmp_path):
    model = masked_lm()
    fold(PARTS[first](model), 0.5)
    for again in (patch, fold):
        with pytest.raises(ValueError, match=r"has a temperature already|has the temperature 0\.5 folded"):
            again(PARTS[second](model), 0.5)
    if first in ("the model itself", "the encoder inside"):  # others are not this model's to save
        model.save_pretrained(tmp_path)
        loaded = BertForMaskedLM.from_pretrained(tmp_path)
        with pytest.raises(ValueError, match=r"has the temperature 0\.5 folded"):
            patch(loaded.bert, 0.5)


def test_several_models_in_one_are_refused():
    towers = nn.ModuleList([masked_lm(), masked_lm()])
    with pytest.raises(
        UnsupportedModelError,
        match=r"ModuleList holds 2 transformers models, BertForMaskedLM, BertForMaskedLM, .* pass each by itself",
    ):
        patch(towers, 0.5)
    with patch(towers[0], 0.5), patch(towers[1], 0.8):
        assert not torch.equal(run(towers[0]), run(towers[1]))


@pytest.mark.parametrize("temperature", [0.5, LogLength(4)], ids=str)
@pytest.mark.parametrize("row", ["BERT", "MPNet", "ModernBERT", "DeBERTa v1"])
def test_removal_restores_also_what_was_bound_meanwhile(row, temperature):
    model = architecture(row).build()
    before = run(model)
    with patch(model, temperature):
        tempered = run(model)
        for module in model.modules():  # as torch.compile(model.forward) and accelerate's hooks do
            module.forward = functools.partial(type(module).forward, module)
        assert torch.equal(run(model), tempered)
    assert torch.equal(run(model), before)
    for module in model.modules():
        del module.forward
    assert torch.equal(run(model), before)


def test_a_forward_of_its_own_under_which_nothing_can_be_put_is_named():
    model = architecture("MPNet").build()
    bound = model.encoder.layer[0].attention.attn.q
    bound.forward = functools.partial(type(bound).forward, bound)  # as torch.compile(bound.forward) does
    with pytest.raises(
        UnsupportedModelError, match=r"layer\.0\.attention\.attn\.q has a forward of its own, .* patch first"
    ):
        patch(model, 0.5)


@pytest.mark.filterwarnings("ignore")  # transformers' and torch's own
@pytest.mark.parametrize("temperature", [0.5, LogLength(4)], ids=str)
def test_a_patched_model_can_be_looked_at_and_traced(temperature):
    model = BERT.build()
    inputs = batch()
    with patch(model, temperature):
        assert {name for name, _ in inspect.getmembers(model)} >= {"forward", "tempscale_patch"}
        traced = torch.jit.trace(
            model, (inputs["input_ids"], inputs["attention_mask"]), strict=False, check_trace=False
        )
        expected = run(model)
    found = traced(inputs["input_ids"], inputs["attention_mask"])["last_hidden_state"]
    torch.testing.assert_close(found, expected)


@pytest.mark.filterwarnings("ignore")  # transformers' own: the methods have had two names
@pytest.mark.parametrize("row", ["BERT", "ModernBERT", "Qwen3"])
def test_gradient_checkpointing(row):
    without_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0} if row == "BERT" else {}
    model = architecture(row).build("eager", **without_dropout)
    model.train()
    model.gradient_checkpointing_enable()
    with patch(model, 0.5) as active:
        model(**batch(), **({"use_cache": False} if row == "Qwen3" else {}))[0].sum().backward()
        gradients = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
        model.zero_grad()
        model.gradient_checkpointing_disable()
        model(**batch())[0].sum().backward()
        again = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        for one, other in zip(gradients, again, strict=True):
            torch.testing.assert_close(one, other)
        model.gradient_checkpointing_enable()
        active.temperature = LogLength(4)
        with pytest.raises(
            RuntimeError, match=r"by length and gradient checkpointing, .* gradient_checkpointing_disable"
        ):
            model(**batch())
        model.eval()
        assert model(**batch())[0].isfinite().all()
