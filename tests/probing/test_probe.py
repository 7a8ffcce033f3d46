"""Probing: every number against eager attention matrices, or against plain NumPy on the model's own weights."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from support.architectures import architecture
from support.oracle import softmax_temperature
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tempscale import LogLength, PerLayer, UnsupportedModelError, docstrings, fold, patch, probe
from tempscale.probing import attention_rows
from tempscale.probing.attention_rows import AttentionCall, row_statistics

# One for each way in which logits, values and states come about.
KINDS = [
    "BERT",  # torch's scaled_dot_product_attention
    "ALBERT",  # one module for all layers
    "MPNet",  # a table of position biases
    "DeBERTa v1",  # logits of positions, and softmax with a function of its own
    "DeBERTa v2, own positions",
    "T5",  # no scale
    "ModernBERT",  # local attention in some layers
    "Qwen3",  # causal, with grouped keys
    "Gemma 2",  # a soft cap, which scaled_dot_product_attention has not
    "EmbeddingGemma",  # a sliding window to both sides
    "Bloom",  # position biases that are added in the product of queries and keys
    "MPT",
    "MobileBERT",  # values of other states than the queries
    "XLNet",  # products by einsum
    "SqueezeBERT",  # tokens on the last axis
    "Nystromformer",
]
SPARSE = {"LongT5, local", "LongT5, global", "Longformer", "BigBird, sparse", "LED"}
IDS = torch.randint(5, 97, (23,), generator=torch.Generator().manual_seed(1))
WINDOW = 3


def build(name, **options):
    """Return a model with sdpa attention where it has that, else eager."""
    row = architecture(name)
    for implementation in row.implementations:
        try:
            return row.build(implementation, **options)
        except pytest.skip.Exception:
            continue
    return row.build("eager", **options)


def eager_attention(name, ids=IDS, **options):
    """Return the matrices (layer, head, n, n) that a model itself says it has."""
    with torch.no_grad():
        output = architecture(name).build("eager", **options)(input_ids=ids[None], output_attentions=True)
    found = torch.stack([layer[0] for layer in output.attentions]).double()
    # SqueezeBERT hands out its logits.
    return (found.softmax(-1) if name == "SqueezeBERT" else found).numpy()


def described(attention):
    """Return the columns that follow from attention matrices (..., n, n), in plain NumPy."""
    n = attention.shape[-1]
    near = np.abs(np.arange(n)[:, None] - np.arange(n)) <= WINDOW
    with np.errstate(divide="ignore"):
        logits = np.where(attention > 0, np.log(attention), np.nan)  # up to a number for each row
    # Where a weight is too small for single precision, its logit is not known from it.
    known = np.nanmin(logits, axis=(-2, -1)) > -80
    assert known[0].all()
    return {
        "filter_rate": np.linalg.norm(attention - attention.mean(-2, keepdims=True), 2, axis=(-2, -1)),
        "logit_std": np.where(known, np.sqrt(np.nanvar(logits, -1).mean(-1)), np.nan),
        "entropy": -np.nansum(attention * logits, -1).mean(-1),
        "column_mass": attention.mean(-2).max(-1),
        "local_mass": (attention * near).sum(-1).mean(-1),
    }


def assert_describes(table, attention, tolerance=1e-5):
    for name, expected in described(attention).items():
        known = np.isfinite(expected.ravel())
        np.testing.assert_allclose(table[name][known], expected.ravel()[known], tolerance, tolerance, err_msg=name)


@pytest.mark.parametrize("name", KINDS)
def test_all_kinds_of_attention_against_the_matrices_of_the_model(name):
    attention = eager_attention(name)
    table = probe(build(name), [IDS], window=WINDOW)
    layers, heads, n, _ = attention.shape
    assert table[["layer", "head"]].to_numpy().tolist() == [[i, j] for i in range(layers) for j in range(heads)]
    assert (table.text == 0).all()
    assert (table.tokens == n).all()
    assert (table.temperature == 1).all()
    assert_describes(table, attention)


@pytest.mark.parametrize("tokens", [64, 256, 300])
def test_filter_rates_of_a_real_model_are_right_to_1e_5(minilm, tokens):
    """Against NumPy's SVD in double precision, on the model's own queries and keys; all layers and heads."""
    text = docstrings(["numpy"], min_tokens=400).text.iloc[0]
    ids = minilm.tokenizer(text, truncation=True, max_length=tokens)["input_ids"]
    transformer = minilm[0].auto_model
    seen, hooks = {"query": [], "key": []}, []
    for layer in transformer.encoder.layer:
        for name, found in seen.items():
            project = getattr(layer.attention.self, name)
            hooks.append(project.register_forward_hook(lambda _, args, out, found=found: found.append(out[0].double())))
    table = probe(minilm, [ids], max_tokens=tokens)
    for hook in hooks:
        hook.remove()
    query, key = (torch.stack(found).unflatten(-1, (12, 32)).transpose(1, 2) for found in seen.values())
    assert query.shape == (6, 12, tokens, 32)
    attention = (query @ key.mT / math.sqrt(32)).softmax(-1).numpy()
    exact = np.linalg.svd(attention - attention.mean(-2, keepdims=True), compute_uv=False)[..., 0]
    np.testing.assert_allclose(table.filter_rate, exact.ravel(), rtol=1e-5)


@pytest.mark.parametrize("name", sorted(SPARSE))
def test_sparse_attention_is_refused_and_the_model_left_alone(name):
    model = architecture(name).build("eager")
    with pytest.raises(UnsupportedModelError, match=r"no row of weights for all tokens"):
        probe(model, [IDS])
    assert getattr(model, "attention_type", "block_sparse") == "block_sparse"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_model_without_attention_is_refused():
    with pytest.raises(UnsupportedModelError, match=r"nothing to probe in FNetModel: .* no softmax attention"):
        probe(fnet(), [IDS])


def fnet():
    from transformers import FNetConfig, FNetModel

    config = FNetConfig(
        vocab_size=97, hidden_size=16, num_hidden_layers=1, intermediate_size=16, use_tpu_fourier_optimizations=False
    )
    return FNetModel(config).eval()


# The value and output projections, by the ends of their names.
PROJECTIONS = {
    "BERT": ("self.value", "attention.output.dense"),
    "DistilBERT": ("v_lin", "out_lin"),
    "MPNet": ("attn.v", "attn.o"),
    "DeBERTa v2, v3": ("value_proj", "attention.output.dense"),
    "T5": ("SelfAttention.v", "SelfAttention.o"),
    "Llama": ("v_proj", "o_proj"),  # two heads share their values
    "Gemma 2": ("v_proj", "o_proj"),
    "MobileBERT": ("self.value", "attention.output.dense"),
    "CLIP": ("v_proj", "out_proj"),
}


@pytest.mark.parametrize("name", PROJECTIONS)
def test_gains_of_the_value_and_output_path(name):
    model, seen = build(name), {"value": [], "output": []}
    for module_name, module in model.named_modules():
        for kind, ending in zip(seen, PROJECTIONS[name], strict=True):
            if f".{module_name}".endswith(f".{ending}"):
                module.register_forward_hook(lambda _, args, out, kind=kind: seen[kind].append((args[0][0], out[0])))
    table = probe(model, [IDS])
    attention = eager_attention(name)
    layers, heads = attention.shape[:2]
    assert len(seen["value"]) == len(seen["output"]) == layers
    expected = {"value_gain": [], "attention_gain": [], "path_gain": []}
    for layer in range(layers):
        x, v = (signal.double().numpy() for signal in seen["value"][layer])
        y = seen["output"][layer][1].double().numpy()
        width = seen["output"][layer][0].shape[-1] // heads
        groups = v.shape[1] // width
        for head in range(heads):
            start = head * groups // heads * width
            values = v[:, start : start + width]
            expected["value_gain"].append(energy(values) / energy(x))
            expected["attention_gain"].append(energy(attention[layer, head] @ values) / energy(values))
            expected["path_gain"].append(energy(y) / energy(x))
    for column, numbers in expected.items():
        np.testing.assert_allclose(table[column], numbers, rtol=1e-5, err_msg=column)
    assert (table.attention_gain <= table.filter_rate * (1 + 1e-6)).all()


def energy(signal):
    """Return the norm of what is not constant along tokens."""
    return np.linalg.norm(signal - signal.mean(0))


@pytest.mark.parametrize("name", ["BERT", "MPNet", "ModernBERT", "T5", "Qwen3", "XLNet"])
def test_states_before_and_after_each_layer(name):
    model = build(name)
    with torch.no_grad():
        states = model(input_ids=IDS[None], output_hidden_states=True).hidden_states
    states = [state[0].double().numpy() for state in states[:3]]  # a final norm may follow the last layer
    ratios = [energy(state) / (np.sqrt(len(state)) * np.linalg.norm(state.mean(0))) for state in states]
    table = probe(model, [IDS]).drop_duplicates("layer").set_index("layer")
    np.testing.assert_allclose(table.hc_dc_input, ratios, rtol=1e-5)
    np.testing.assert_allclose(table.hc_dc_output[:2], ratios[1:], rtol=1e-5)
    np.testing.assert_allclose(table.block_gain[0], energy(states[1]) / energy(states[0]), rtol=1e-5)


@pytest.mark.parametrize("name", ["BERT", "MPNet", "DeBERTa v1", "ModernBERT", "T5", "Qwen3", "MPT"])
def test_a_patched_model_is_probed_as_it_is(name):
    model = build(name)
    with softmax_temperature(0.5):
        attention = eager_attention(name)
    with patch(model, 0.5):
        table = probe(model, [IDS], window=WINDOW)
    assert (table.temperature == 0.5).all()
    assert_describes(table, attention)
    assert (probe(model, [IDS]).temperature == 1).all()


def test_the_temperature_column():
    model, texts = build("BERT"), [IDS[:8], IDS[:16]]

    def by_layer():
        return probe(model, texts).groupby(["text", "layer"]).temperature.first().tolist()

    with patch(model, 0.9, layers=[0, -1]) as active:
        assert by_layer() == [0.9, 1.0, 0.9] * 2
        active.temperature = PerLayer([0.9, 0.8, 0.7])
        assert by_layer() == [0.9, 1.0, 0.7] * 2
    with patch(model, LogLength(8)):
        assert by_layer() == [1.0] * 3 + [pytest.approx(0.75)] * 3
    fold(model, 0.8)
    assert by_layer() == [0.8] * 6
    model = build("BERT")
    fold(model, PerLayer([0.9, 0.8, 0.7]))
    assert by_layer() == [0.9, 0.8, 0.7] * 2


def test_half_precision_is_computed_from_the_models_own_queries_and_keys():
    model, seen = build("BERT", dtype=torch.bfloat16), {}
    for name in ("query", "key"):
        attention = model.encoder.layer[0].attention.self
        getattr(attention, name).register_forward_hook(lambda _, args, out, name=name: seen.update({name: out[0]}))
    table = probe(model, [IDS], window=WINDOW)
    query, key = (x.double().reshape(23, 4, 8).transpose(0, 1) for x in (seen["query"], seen["key"]))
    expected = (query @ key.mT / math.sqrt(8)).softmax(-1).numpy()
    assert_describes(table[table.layer == 0], expected)


def test_uniform_attention_in_closed_form():
    """Without queries all weights are equal: over all tokens, or over those before."""
    both, causal = build("BERT"), build("Llama")
    for model, ending in ((both, "query"), (causal, "q_proj")):
        for name, module in model.named_modules():
            if name.endswith(ending):
                torch.nn.init.zeros_(module.weight)
                if module.bias is not None:
                    torch.nn.init.zeros_(module.bias)
    n = len(IDS)
    table = probe(both, [IDS], window=1)
    assert table.filter_rate.abs().max() < 1e-6
    assert table.logit_std.abs().max() < 1e-6
    assert table.attention_gain.abs().max() < 1e-6
    np.testing.assert_allclose(table.entropy, math.log(n), rtol=1e-6)
    np.testing.assert_allclose(table.column_mass, 1 / n, rtol=1e-6)
    np.testing.assert_allclose(table.local_mass, (3 * n - 2) / n**2, rtol=1e-6)
    table, seen = probe(causal, [IDS], window=1), np.arange(1, n + 1)
    np.testing.assert_allclose(table.entropy, np.log(seen).mean(), rtol=1e-6)
    np.testing.assert_allclose(table.column_mass, (1 / seen).mean(), rtol=1e-6)
    np.testing.assert_allclose(table.local_mass, (np.minimum(seen, 2) / seen).mean(), rtol=1e-6)


def test_blocks_of_rows_give_what_all_rows_give(monkeypatch):
    call = AttentionCall(logits=torch.randn(3, 50, 50), value=torch.randn(3, 50, 4))
    whole = row_statistics(call, window=2)
    monkeypatch.setattr(attention_rows, "_BLOCK", 3 * 50 * 7)
    blocks = row_statistics(call, window=2)
    for name in ("logit_std", "entropy", "column_mass", "local_mass", "attended"):
        torch.testing.assert_close(getattr(blocks, name), getattr(whole, name))
    expected = call.logits.softmax(-1).double() @ call.value.double()
    torch.testing.assert_close(whole.attended, expected, rtol=1e-5, atol=1e-5)


class Largest(TorchDispatchMode):
    """The size of the largest tensor that any operation returns."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.numbers = max([self.numbers, *sizes])
        return result


def test_8192_tokens_without_a_matrix_of_that_size():
    n = 8192
    model = build("NomicBERT", max_position_embeddings=n, num_hidden_layers=1, num_attention_heads=2)
    ids = torch.randint(5, 97, (n,), generator=torch.Generator().manual_seed(2))
    with Largest() as largest:
        table = probe(model, [ids])
    assert largest.numbers <= n * n // 2
    assert (table.tokens == n).all()
    assert (table.attention_gain <= table.filter_rate * (1 + 1e-4)).all()
    assert np.isfinite(table.to_numpy()).all()


@pytest.mark.parametrize("name", ["BERT", "MPNet", "ModernBERT", "T5", "Llama", "Gemma 3", "DeBERTa v2, v3"])
def test_long_texts_against_eager_attention_matrices(name):
    """Longer than what is computed from whole matrices; with masks, position biases, or all logits at once."""
    ids = torch.randint(5, 97, (300,), generator=torch.Generator().manual_seed(3))
    options = {"max_position_embeddings": 512, "num_hidden_layers": 2}
    options |= {"local_attention": 64} if name == "ModernBERT" else {"sliding_window": 64} if name == "Gemma 3" else {}
    attention = eager_attention(name, ids, **options)
    assert_describes(probe(build(name, **options), [ids], window=WINDOW), attention)


def test_texts_are_read_as_the_model_reads_them(minilm):
    texts = ["A short text.", "A longer one, " * 60]
    read = probe(minilm, texts)
    ids = [minilm.tokenizer(text, truncation=True, max_length=minilm.max_seq_length)["input_ids"] for text in texts]
    pd.testing.assert_frame_equal(read, probe(minilm, ids))
    cut = probe(minilm, iter(texts), max_tokens=16)
    assert cut.groupby("text").tokens.first().tolist() == [len(ids[0]), 16]
    pd.testing.assert_frame_equal(cut[cut.text == 0], read[read.text == 0])
    assert minilm.max_seq_length == 256
    pd.testing.assert_frame_equal(probe(minilm, ids, max_tokens=16).query("text == 0"), read[read.text == 0])


def test_the_model_is_left_as_it_was(minilm):
    before = minilm.encode("some text")
    minilm.train()
    try:
        table = probe(minilm, ["some text"])
        assert minilm[0].auto_model.encoder.layer[0].training
    finally:
        minilm.eval()
    pd.testing.assert_frame_equal(table, probe(minilm, ["some text"]))
    assert np.array_equal(minilm.encode("some text"), before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in minilm.modules())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": []}, "no text to probe: give at least one"),
        ({"texts": ["a"], "max_tokens": 0}, "max_tokens 0 is not possible: expected 1 to 512 tokens"),
        ({"texts": ["a"], "max_tokens": 513}, "max_tokens 513 is not possible: expected 1 to 512 tokens"),
    ],
)
def test_wrong_arguments(minilm, arguments, message):
    with pytest.raises(ValueError, match=message):
        probe(minilm, **arguments)
    assert minilm.max_seq_length == 256


def test_a_string_needs_a_tokenizer():
    with pytest.raises(
        ValueError, match=r"BertModel has no tokenizer for the text 'Some text\.': give token ids, or a Sen"
    ):
        probe(build("BERT"), ["Some text."])
