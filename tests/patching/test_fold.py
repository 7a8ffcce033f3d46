"""A folded model is the patched one, as an ordinary model: saved, reloaded, exported, served."""

import copy
import json

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from support.architectures import ARCHITECTURES, DECODER, Architecture, architecture
from support.oracle import batch, real
from torch import nn
from transformers import AutoModel

from tempscale import LogLength, PerLayer, UnsupportedModelError, fold, patch

TEXTS = ["A short text.", "attention " * 50, "The filter rate of a uniform attention matrix is zero."]
# whose biases by position (ALiBi) are no weights, or whose queries are made by no module
NOT_WEIGHTS = ("Bloom", "MPT", "XLNet")


def build(name, dtype=torch.float32):
    return architecture(name).build(dtype=dtype)


def run(model, inputs=None):
    inputs = inputs or batch(model)
    with torch.no_grad():
        return real(model(**inputs)[0], inputs)


def distance(x, y):
    return (x - y).abs().max().item()


@pytest.mark.parametrize(
    ("name", "temperature"),
    [*((row.name, 0.7) for row in ARCHITECTURES if row.name not in NOT_WEIGHTS), ("BERT", 1.3), ("T5", 1.3)],
)
def test_folded_saved_and_loaded_is_patched(name, temperature, tmp_path):
    model = build(name)
    plain = run(model)
    with patch(model, temperature):
        patched = run(model)
    assert fold(model, temperature) is model
    scale = max(1.0, patched.abs().max().item())
    assert distance(run(model), patched) < 2e-5 * scale < distance(patched, plain)
    assert model.config.tempscale_temperature == temperature

    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["tempscale_temperature"] == temperature
    loaded = type(model).from_pretrained(tmp_path, attn_implementation="eager").eval()
    assert distance(run(loaded), patched) < 2e-5 * scale
    for again in (fold, patch):
        with pytest.raises(
            ValueError, match=f"has the temperature {temperature} folded into its weights: load the original"
        ):
            again(loaded, 0.9)


@pytest.mark.parametrize("name", NOT_WEIGHTS)
def test_what_is_no_weight_cannot_be_folded(name):
    model = build(name)
    state = copy.deepcopy(model.state_dict())
    with pytest.raises(UnsupportedModelError, match=r"0\.7 cannot be folded into \w+: .*; use tempscale.patch"):
        fold(model, 0.7)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert not hasattr(model.config, "tempscale_temperature")


@pytest.mark.parametrize("name", ["BERT", "Qwen3", "Gemma 3", "ModernBERT", "UMT5"])
def test_a_temperature_per_layer(name):
    model = build(name)
    schedule = PerLayer([0.5, 1.0, 1.3])
    with patch(model, schedule):
        patched = run(model)
    fold(model, schedule)
    assert distance(run(model), patched) < 2e-5 * max(1.0, patched.abs().max().item())
    assert model.config.tempscale_temperature == [0.5, 1.0, 1.3]


@pytest.mark.parametrize("name", ["T5", "MPNet", "Gemma 2"])
def test_layers_that_share_a_table_or_a_cap_share_the_temperature(name):
    model = build(name)
    state = copy.deepcopy(model.state_dict())
    with pytest.raises(UnsupportedModelError, match=r"cannot be folded into .* use one temperature for all layers"):
        fold(model, PerLayer({-1: 0.5}))
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["BERT", "Gemma 3", "T5"])
def test_half_precision(name):
    model = build(name, torch.bfloat16)
    exact, plain = build(name), run(model)
    with patch(model, 0.5), patch(exact, 0.5):
        patched, expected = run(model), run(exact)
    floor = distance(patched, expected)
    fold(model, 0.5)
    # Gemma's 1 + w rounds even for a power of two; the others do not.
    assert distance(run(model), patched) <= (3 * floor if name == "Gemma 3" else 0)
    assert distance(plain, patched) > floor


def test_a_patched_model_and_a_temperature_by_length_are_refused():
    model = build("BERT")
    state = copy.deepcopy(model.state_dict())
    with patch(model, 0.5), pytest.raises(ValueError, match=r"patched already: .*`\.remove\(\)` that one first"):
        fold(model, 0.5)
    for schedule in (LogLength(128), PerLayer({-1: LogLength(128)})):
        with pytest.raises(
            ValueError, match=r"LogLength\(.* depends on the length of the text, which weights cannot know"
        ):
            fold(model, schedule)
    with pytest.raises(ValueError, match="finite positive number, not -1"):
        fold(model, -1)
    with pytest.raises(TypeError, match="expected a torch module, not str"):
        fold("minilm", 0.9)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert not hasattr(model.config, "tempscale_temperature")


def test_an_unsupported_model_is_not_folded():
    sinks = Architecture(
        "GPT-OSS", "GptOssModel", "", {**DECODER, "num_local_experts": 4, "rope_scaling": None}
    ).build()
    with pytest.raises(UnsupportedModelError, match="no uniform temperature site in GptOssModel"):
        fold(sinks, 0.9)


def test_minilm_in_sentence_transformers_needs_no_tempscale(minilm, tmp_path):
    with patch(minilm, 0.8):
        patched = minilm.encode(TEXTS)
    model = copy.deepcopy(minilm)
    fold(model, 0.8)
    model.save_pretrained(str(tmp_path))
    loaded = SentenceTransformer(str(tmp_path), device="cpu")
    assert np.abs(loaded.encode(TEXTS) - patched).max() < 1e-6
    assert np.abs(minilm.encode(TEXTS) - patched).max() > 1e-3
    assert loaded.max_seq_length == minilm.max_seq_length
    card = (tmp_path / "README.md").read_text()
    assert "divided by 0.8 at inference (TempScale, arXiv:2410.24200)" in card
    assert "tempscale" not in json.dumps(json.loads((tmp_path / "modules.json").read_text()))
    # and a card that was there stays
    loaded._model_card_text = "# My model"
    del loaded[0].auto_model.config.tempscale_temperature
    fold(loaded, 0.5)
    assert loaded._model_card_text.startswith("# My model\n\n## Temperature")


@pytest.mark.filterwarnings("ignore")  # the exporter's own
def test_onnx(minilm, tmp_path):
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model = AutoModel.from_pretrained(minilm[0].auto_model.name_or_path).eval()
    features = minilm.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with patch(model, 0.8):
        patched = model(**features)[0].detach()
    plain = model(**features)[0].detach()
    fold(model, 0.8)

    class Encoder(nn.Module):
        """The encoder as a function of three tensors."""

        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, input_ids, token_type_ids, attention_mask):
            inputs = {"input_ids": input_ids, "token_type_ids": token_type_ids, "attention_mask": attention_mask}
            return self.model(**inputs)[0]

    path = str(tmp_path / "model.onnx")
    arguments = tuple(features[name] for name in ("input_ids", "token_type_ids", "attention_mask"))
    torch.onnx.export(Encoder(), arguments, path, dynamo=True, verbose=False)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    (output,) = session.run(None, dict(zip(names, (x.numpy() for x in arguments), strict=True)))
    mask = features["attention_mask"].bool().numpy()
    assert np.abs(output - patched.numpy())[mask].max() < 1e-5
    assert np.abs(output - plain.numpy())[mask].max() > 1e-2
