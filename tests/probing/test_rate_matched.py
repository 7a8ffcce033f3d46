"""RateMatched: the interpolation in closed form, and the measured temperatures against eager attention and NumPy's SVD."""

import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.architectures import architecture
from transformers import BertConfig, BertModel

from tempscale import LogLength, PerLayer, RateMatched, docstrings, load_model, patch, probe
from tempscale.patching.schedules import temperature_label
from tempscale.probing.rate_matched import _solve

TEMPERATURE = st.floats(0.25, 4)
KNOTS = st.lists(st.integers(3, 4096), min_size=2, max_size=6, unique=True).map(sorted)


@given(st.data(), KNOTS, st.lists(st.integers(1, 10**4), min_size=1, max_size=9))
def test_the_logarithm_is_linear_in_the_logarithm_of_the_length(data, knots, lengths):
    temperatures = data.draw(st.lists(TEMPERATURE, min_size=len(knots) - 1, max_size=len(knots) - 1))
    schedule = RateMatched(knots[0], knots[1:], [temperatures, temperatures[::-1]])
    for found, row in zip(schedule.per_layer(2), schedule.temperatures, strict=True):
        expected = np.exp(np.interp(np.log(lengths), np.log(knots), np.log([1.0, *row])))
        np.testing.assert_allclose(found(torch.tensor(lengths)), expected, rtol=1e-4)
    below = schedule.per_layer(2)[0](torch.arange(1, knots[0] + 1))
    assert (below == 1).all(), "exactly: a short text is embedded as without a temperature"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((64, [], [[]]), r"reference_length 64 and lengths \[\]: expected whole numbers of tokens"),
        ((64, [128.5], [[1.0]]), r"lengths \[128.5\]: expected whole numbers of tokens"),
        ((64, [64], [[1.0]]), r"lengths \[64\] must increase from above reference_length 64: shorter texts keep 1"),
        ((64, [256, 128], [[1.0, 1.0]]), r"lengths \[256, 128\] must increase"),
        ((64, [128], []), "has no layer"),
        ((64, [128], [[1.0], [1.0, 2.0]]), "temperatures must be 2 layers x 1 lengths, not 2 rows of 2"),
        ((64, [128], [[1.0], [1.0]], [[0.0]]), "misfits must be 2 layers x 1 lengths, not 1 rows of 1"),
        ((64, [128], [[0.0]]), "finite positive number, not 0"),
        ((64, [128], [[1.0]], [], (2.0, 4.0)), r"bounds \(2.0, 4.0\) must contain 1"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        RateMatched(*arguments)


@pytest.fixture
def model():
    """Return a random model with logits strong enough for heads to differ."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=97,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=48,
        initializer_range=0.4,
        attn_implementation="eager",
    )
    return BertModel(config).eval()


def tokens(texts, n):
    return torch.randint(5, 97, (texts, n), generator=torch.Generator().manual_seed(1))


def log_rates(eager, ids):
    """Return the mean log filter rate of each layer, by SVD of the attention that an eager model returns."""
    with torch.no_grad():
        attentions = eager(input_ids=ids, output_attentions=True).attentions
    found = []
    for layer in attentions:
        matrix = layer.double().numpy()
        found.append(np.log(np.linalg.svd(matrix - matrix.mean(-2, keepdims=True), compute_uv=False)[..., 0]).mean())
    return np.array(found)


def test_filter_rates_equal_those_of_the_reference_length(model):
    ids = tokens(5, 48)
    schedule = RateMatched.measure(model, list(ids), reference_length=12, lengths=[24, 48], tolerance=0.002)
    target = log_rates(model, ids[:, :12])
    for position, n in enumerate(schedule.lengths):
        plain = log_rates(model, ids[:, :n])
        assert (abs(np.expm1(plain - target)) > 0.1).all(), "there is something to match"
        with patch(model, schedule):
            found = np.expm1(log_rates(model, ids[:, :n]) - target)
        assert (abs(found) < 0.002).all()
        np.testing.assert_allclose(found, np.array(schedule.misfits)[:, position], atol=1e-4)
    assert schedule.residual == abs(np.array(schedule.misfits)).max()
    assert not schedule.missed(0.002)
    assert schedule.about == {"model": "BertModel", "texts": "5"}


def test_a_real_model_needs_temperatures_above_1_for_longer_texts(minilm):
    texts = docstrings(["numpy"], min_tokens=150).text.tolist()[:4]
    shares = []
    found = RateMatched.measure(minilm, texts, reference_length=32, lengths=(128,), progress=shares.append, about={})
    above = np.array(found.temperatures)[1:, 0]
    assert (above > 1.1).all(), (
        "attention that is left alone filters less in long texts; the first layer is another matter"
    )
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert found.about == {}
    eager = load_model("minilm", device="cpu")
    eager[0].auto_model.set_attn_implementation("eager")
    short, long = (
        eager.tokenizer(texts, truncation=True, max_length=n, return_tensors="pt")["input_ids"] for n in (32, 128)
    )
    target = log_rates(eager[0].auto_model, short)
    with patch(eager, found):
        assert (abs(np.expm1(log_rates(eager[0].auto_model, long) - target)) < 0.01).all()


def test_a_batch_has_the_temperature_of_each_text(model):
    schedule = RateMatched(4, [8, 16], [[0.8, 0.5], [1.0, 1.0], [1.5, 2.0]])
    ids = tokens(3, 16)
    mask = (torch.arange(16) < torch.tensor([16, 8, 3])[:, None]).long()
    with torch.no_grad(), patch(model, schedule):
        found = model(ids, attention_mask=mask)[0]
    for row, (n, each) in enumerate([(16, [0.5, 1.0, 2.0]), (8, [0.8, 1.0, 1.5]), (3, [1.0, 1.0, 1.0])]):
        with torch.no_grad(), patch(model, PerLayer(each)):
            torch.testing.assert_close(found[row, :n], model(ids[row : row + 1, :n])[0][0], rtol=1e-5, atol=1e-5)
    with patch(model, schedule):
        table = probe(model, [ids[0], ids[1, :8]])
    assert table.groupby(["tokens", "layer"]).temperature.first().round(4).tolist() == [0.8, 1, 1.5, 0.5, 1, 2]
    with patch(pickle.loads(pickle.dumps(model)), schedule) as active:
        again = pickle.loads(pickle.dumps(active._transformer))
    assert torch.equal(again(ids, attention_mask=mask)[0], found)


def test_a_bound_that_holds_a_layer_back_is_reported(model):
    with pytest.warns(
        UserWarning, match=r"[1-3] of 3 filter rates miss .* more than 1.00%: layer \d at 48 tokens"
    ) as told:
        found = RateMatched.measure(model, list(tokens(3, 48)), reference_length=12, lengths=[48], bounds=(0.9, 1.1))
    at_bound = [layer for layer in range(3) if found.temperatures[layer][0] in (0.9, 1.1)]
    assert at_bound
    for layer in at_bound:
        assert f"layer {layer} at 48 tokens ({found.misfits[layer][0]:+.1%} at temperature" in str(told[0].message)
    assert "a bound)" in str(told[0].message)
    assert found.residual > 0.01


def test_a_target_out_of_reach_ends_at_the_nearest_temperature():
    rounds = []

    def misfits(x):
        """Return those of a layer whose rate is largest, but too small, at exp(-0.5), and of one that it moves."""
        rounds.append(x)
        return np.array([-0.3 - (x[0] + 0.5) ** 2, 0.4 - 2 * x[1] + 0.3 * x[0]])

    x, misfit = _solve(misfits, np.zeros(2), 0.01, 12, np.log([0.25, 4]))
    assert len(rounds) <= 12
    assert x[0] == pytest.approx(-0.5, abs=0.1)
    assert misfit[0] == pytest.approx(-0.3, abs=0.01)
    assert abs(misfit[1]) < 0.01
    np.testing.assert_array_equal(misfit, misfits(x), "the misfits are those of these temperatures")


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (
            None,
            {"lengths": [64]},
            "text 0 has 48 tokens, and a length is 64: give texts that are as long as the longest",
        ),
        (None, {"lengths": [8]}, "must increase from above reference_length 12"),
        (None, {"tolerance": 0}, "tolerance 0 and max_rounds 12: expected 0.0001 to 1, and at least 1"),
        (None, {"max_rounds": 0}, "tolerance 0.01 and max_rounds 0"),
        (None, {"bounds": (1.5, 4)}, r"bounds \(1.5, 4\) must contain 1"),
        ("uniform", {}, "head 0 of layer 1 has the filter rate 0 of uniform attention, which no temperature changes"),
    ],
)
def test_measuring_what_cannot_be_measured(model, change, arguments, message):
    if change:
        torch.nn.init.zeros_(model.encoder.layer[1].attention.self.query.weight)
        torch.nn.init.zeros_(model.encoder.layer[1].attention.self.query.bias)
    classes = [type(module) for module in model.modules()]
    with pytest.raises(ValueError, match=message):
        RateMatched.measure(model, list(tokens(2, 48)), **{"reference_length": 12, "lengths": [48], **arguments})
    assert [type(module) for module in model.modules()] == classes


def test_models_that_cannot_be_measured(model):
    ids = list(tokens(2, 16))
    albert = architecture("ALBERT").build()
    with pytest.raises(
        ValueError, match="attention layers of the model share 1 modules, so they cannot have temperatures"
    ):
        RateMatched.measure(albert, ids, reference_length=8, lengths=[16])
    with patch(model, 0.9), pytest.raises(ValueError, match="patched already"):
        RateMatched.measure(model, ids, reference_length=8, lengths=[16])


def test_files(model, tmp_path):
    schedule = RateMatched(
        12, [24], [[1.5], [0.7], [1.1]], [[0.0], [0.01], [-0.2]], (0.5, 2.0), {"model": "some/model"}
    )
    schedule.save(tmp_path / "a.json")
    found = RateMatched.load(tmp_path / "a.json")
    assert vars(found) == vars(schedule)
    assert hash(found) == hash(schedule)
    assert json.loads((tmp_path / "a.json").read_text())["about"] == {"model": "some/model"}
    with pytest.raises(
        ValueError, match="RateMatched has 3 layers, but the model has 2 attention layers: measure it on"
    ):
        patch(BertModel(BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=2, num_attention_heads=2)), found)
    with patch(model, found) as active:
        assert len(active.sites) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "a.json is no schedule that RateMatched.save wrote: Expecting"),
        ("[]", "it does not name itself RateMatched"),
        ('{"lengths": [8]}', "it does not name itself RateMatched"),
        ('{"schedule": "RateMatched", "lengths": [8]}', "missing 2 required"),
        (
            '{"schedule": "RateMatched", "reference_length": 4, "lengths": [8], "temperatures": [["1"]]}',
            "finite positive number, not '1'",
        ),
        (
            '{"schedule": "RateMatched", "reference_length": 4, "lengths": 8, "temperatures": [[1]]}',
            "a.json is no schedule",
        ),
    ],
)
def test_files_that_are_no_schedule(content, message, tmp_path):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        RateMatched.load(tmp_path / "a.json")


def test_labels_tell_two_apart():
    schedule = RateMatched(64, [128], [[1.2], [1.1]])
    same = RateMatched(64, (128,), ((1.2,), (1.1,)), [[0.5], [0.5]], about={"model": "x"})
    assert schedule == same
    assert temperature_label(schedule) == temperature_label(same) == str(schedule)
    others = [
        RateMatched(64, [128], [[1.2], [1.1 + 1e-9]]),
        RateMatched(64, [129], [[1.2], [1.1]]),
        RateMatched(63, [128], [[1.2], [1.1]]),
        LogLength(64),
    ]
    assert len({temperature_label(one) for one in [schedule, *others]}) == 5
    with pytest.raises(ValueError, match="finite positive number, not RateMatched"):
        PerLayer([schedule])
