"""A patched model in copies, processes, threads, compiled graphs and files."""

import copy
import pickle
import threading

import numpy as np
import pytest
import torch
from support.architectures import TWO_LAYERS, architecture
from support.oracle import batch
from torch import nn

import tempscale
from tempscale import LogLength, PerLayer, patch

TEXTS = ["A short text.", "attention " * 50]
SCHEDULES = [0.7, PerLayer({-1: 0.5}), LogLength(4)]
# a number, a part, parts with a table, fused queries
MODELS = ["BERT", "RoFormer", "MPNet", "T5", "ModernBERT"]


def build(name, **options):
    return architecture(name).build(None, **options)


def run(model, inputs=None):
    with torch.no_grad():
        return model(**(inputs or batch()))[0]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"]
)
def test_a_copy_is_patched_and_independent(duplicate, name, schedule):
    model = build(name)
    plain = run(model)
    with patch(model, schedule) as active:
        patched = run(model)
        twin = duplicate(model)
        assert torch.equal(run(twin), patched)
        # its own patch comes along
        twin.tempscale_patch.temperature = 1.0
        assert torch.equal(run(twin), plain)
        assert torch.equal(run(model), patched)
        assert active.temperature == schedule
        with pytest.raises(ValueError, match=r"patched already: .*; a copy has its own as `\.tempscale_patch`"):
            patch(nn.Sequential(twin), 0.9)
        twin.tempscale_patch.remove()
    assert torch.equal(run(twin), plain)
    assert torch.equal(run(model), plain)
    patch(twin, 0.9).remove()


def test_a_patch_is_refused_inside_and_around_a_patched_model():
    model = build("BERT")
    with patch(model, 0.5) as active:
        for target in (model, nn.Sequential(model)):
            with pytest.raises(
                ValueError, match=r"patched already: set `\.temperature` of its patch, or `\.remove\(\)`"
            ):
                patch(target, 0.9)
        assert active.temperature == 0.5


@pytest.mark.timeout(180)  # encode would wait for ever for a worker that died
@pytest.mark.parametrize("schedule", [0.7, LogLength(4)], ids=str)
def test_processes_of_sentence_transformers_have_the_temperature(minilm, schedule):
    with patch(minilm, schedule):
        expected = minilm.encode(TEXTS)
        pool = minilm.start_multi_process_pool(["cpu", "cpu"])
        try:
            found = minilm.encode(TEXTS, pool=pool, chunk_size=1)
        finally:
            minilm.stop_multi_process_pool(pool)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(minilm.encode(TEXTS) - expected).max() > 1e-3


def test_threads_that_run_different_batches_have_their_own_lengths():
    model = build("BERT")
    inputs = [
        {"input_ids": torch.arange(5, 5 + 2 * n).reshape(2, n), "attention_mask": torch.ones(2, n, dtype=torch.long)}
        for n in (4, 8, 16, 32)
    ]
    with patch(model, LogLength(4)):
        expected = [run(model, one) for one in inputs]
        wrong = []

        def work(index):
            for _ in range(50):
                if not torch.equal(run(model, inputs[index]), expected[index]):
                    wrong.append(index)

        threads = [threading.Thread(target=work, args=(index,), daemon=True) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert not any(thread.is_alive() for thread in threads)
    assert not wrong


@pytest.mark.filterwarnings("ignore")  # dynamo's own
@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_compiled_before_and_after_patching(name, schedule):
    model = build(name, **TWO_LAYERS)
    plain = run(model)
    with patch(model, schedule):
        expected = run(model)
    torch._dynamo.reset()
    before = torch.compile(model, backend="eager")
    assert torch.equal(run(before), plain)
    with patch(before, schedule) as active:
        assert torch.equal(run(before), expected)
        assert torch.equal(run(torch.compile(model, backend="eager")), expected)
        active.temperature = 1.0
        assert torch.equal(run(before), plain)
    assert torch.equal(run(before), plain)
    model.compile(backend="eager")
    run(model)
    with patch(model, schedule):
        assert torch.equal(run(model), expected)
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("name", ["BERT", "MPNet", "T5"])
def test_exported_while_patched(name, schedule):
    model = build(name)
    with patch(model, schedule):
        expected = run(model)
        program = torch.export.export(model, (), dict(batch()), strict=False)
    torch.testing.assert_close(program.module()(**batch())[0], expected, atol=2e-5, rtol=0)
    assert (run(model) - expected).abs().max() > 1e-2


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_saving_a_patched_model_is_refused(minilm, schedule, tmp_path):
    with patch(minilm, schedule):
        for model in (minilm, minilm[0].auto_model):
            with pytest.raises(
                ValueError, match=r"is patched, and a saved model forgets its temperature: `\.remove\(\)` .*fold"
            ):
                model.save_pretrained(str(tmp_path / "model"))
    assert not list(tmp_path.rglob("*.safetensors"))
    minilm.save_pretrained(str(tmp_path / "model"))


def test_the_state_of_a_patched_model_is_that_of_the_plain_one(tmp_path):
    model = build("MPNet")
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with patch(model, 0.5):
        torch.save(model.state_dict(), tmp_path / "state.pt")
        assert [name for name, _ in model.named_modules()] == [name for name, _ in build("MPNet").named_modules()]
    loaded = torch.load(tmp_path / "state.pt")
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    with patch(model, 0.5):
        model.load_state_dict(state)


def test_what_transformers_records_is_recorded_under_a_patch():
    model = build("MPNet")
    for schedule in SCHEDULES:
        with patch(model, schedule), torch.no_grad():
            output = model(**batch(), output_hidden_states=True, output_attentions=True)
        assert len(output.hidden_states) == 4
        assert len(output.attentions) == 3
        assert type(model).__name__ == "MPNetModel"


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft uses names that transformers gives up
def test_lora():
    peft = pytest.importorskip("peft", reason="peft is not installed")
    model = build("BERT")
    adapted = peft.get_peft_model(
        model, peft.LoraConfig(target_modules=["query", "value"], init_lora_weights=False, r=2)
    )
    plain = run(adapted)
    for schedule in SCHEDULES:
        with patch(adapted, schedule):
            patched = run(adapted)
        merged = copy.deepcopy(adapted).merge_and_unload()
        with patch(merged, schedule):
            torch.testing.assert_close(patched, run(merged), atol=2e-5, rtol=0)
        assert (patched - plain).abs().max() > 1e-2
        assert torch.equal(run(adapted), plain)
    with pytest.raises(tempscale.UnsupportedModelError, match=r"no weights to fold .* merge adapters first"):
        tempscale.fold(adapted, 0.9)
    assert torch.equal(run(adapted), plain)
