"""What is hidden from a patch, and what changes under it: each works, or is refused by one true sentence."""

import copy
import functools
import gc
import itertools
import threading
import weakref

import pytest
import torch
from support.architectures import COMMON, TWO_LAYERS, architecture
from support.oracle import batch, eager_output, real
from torch import nn
from torch.nn.utils import parametrizations
from transformers import BigBirdConfig, BigBirdForMaskedLM, GPT2Config, GPT2Model, Trainer, TrainingArguments

import tempscale
from tempscale import LogLength, PerLayer, UnsupportedModelError, patch, probe
from tempscale.patching.fold import fold
from tempscale.patching.recorder import evaluation_mode

SCHEDULES = [0.5, PerLayer({-1: 0.5}), LogLength(4)]
EACH_SCHEDULE = pytest.mark.parametrize("schedule", SCHEDULES, ids=str)


def run(model, inputs=None):
    with torch.no_grad():
        return model(**(inputs or batch()))[0]


def softmax_over_keys(logits: torch.Tensor) -> torch.Tensor:
    return torch.softmax(logits, dim=-1)


def scripted(logits):
    return torch.jit.script(softmax_over_keys)(logits)


def by_exp(logits, exp=torch.exp):
    weights = exp(logits - logits.amax(-1, keepdim=True))
    return weights / weights.sum(-1, keepdim=True)


class BySoftmax(torch.autograd.Function):
    """A softmax with gradients of its own, that nothing of torch.nn.functional makes."""

    @staticmethod
    def forward(ctx, logits):
        """Return the weights."""
        return torch.ops.aten._softmax(logits, -1, False)


HIDDEN_SOFTMAXES = {
    "log_softmax": lambda logits: nn.functional.log_softmax(logits, -1).exp(),
    "exp and sum": by_exp,
    "exp2 and sum": lambda logits: by_exp(logits, torch.exp2),
    "logsumexp": lambda logits: (logits - logits.logsumexp(-1, keepdim=True)).exp(),
    "scripted": scripted,
    "aten": lambda logits: torch.ops.aten.softmax.int(logits, -1),
    "autograd": BySoftmax.apply,
    "numpy": lambda logits: torch.from_numpy(by_exp_of_numpy(logits.numpy())),
}


def by_exp_of_numpy(logits):
    weights = torch.tensor(logits).exp().numpy()
    return weights / weights.sum(-1, keepdims=True)


class Hidden(nn.Module):
    """Attention between tokens that calls no softmax of torch.nn.functional, added to what another module makes."""

    def __init__(self, beside, attend):
        super().__init__()
        self.beside, self.attend = beside, attend

    def forward(self, *args, **kwargs):
        """Return the output of the module, and a little attention."""
        output = self.beside(*args, **kwargs)
        first = output if isinstance(output, torch.Tensor) else output[0]
        first = first + 0.01 * self.attend(first)
        return first if isinstance(output, torch.Tensor) else (first, *output[1:])


class SoftmaxAttention(nn.Module):
    """Attention by any softmax, over pairs of tokens of shape (batch, tokens, tokens), with heads, or text by text."""

    def __init__(self, softmax, ndim):
        super().__init__()
        self.softmax, self.ndim = softmax, ndim

    def forward(self, x):
        """Return the means (batch, tokens, width)."""
        if self.ndim == 2:
            return torch.stack([self.softmax(one @ one.T) @ one for one in x])
        heads = x[:, None] if self.ndim == 4 else x
        found = self.softmax(heads @ heads.mT) @ heads
        return found[:, 0] if self.ndim == 4 else found


class Native(nn.Module):
    """Attention of torch's own."""

    def __init__(self, kind):
        super().__init__()
        self.inner = (
            nn.MultiheadAttention(32, 4, batch_first=True)
            if kind == "attention"
            else nn.TransformerEncoderLayer(32, 4, 48, batch_first=True)
        )

    def forward(self, x):
        """Return the output (batch, tokens, width)."""
        return self.inner(x, x, x)[0] if isinstance(self.inner, nn.MultiheadAttention) else self.inner(x)


HIDDEN = {
    **{
        f"{name}, {ndim} dimensions": (lambda softmax=softmax, ndim=ndim: SoftmaxAttention(softmax, ndim))
        for (name, softmax), ndim in itertools.product(HIDDEN_SOFTMAXES.items(), (2, 3, 4))
    },
    "MultiheadAttention": lambda: Native("attention"),
    "TransformerEncoderLayer": lambda: Native("encoder"),
}
PLACES = ["embeddings", "encoder.layer.1", "encoder.layer.2.output.dense"]


@pytest.mark.filterwarnings("ignore")  # torch's own, on scripts and nested tensors
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", HIDDEN)
def test_attention_that_no_temperature_reaches_is_refused(kind, place, implementation):
    model = architecture("BERT").build(implementation)
    model.set_submodule(place, Hidden(model.get_submodule(place), HIDDEN[kind]().eval()))
    before = run(model)
    for use in (lambda: patch(model, 0.5), lambda: fold(model, 0.5), lambda: probe(model, [range(5, 20)])):
        with pytest.raises(
            UnsupportedModelError, match=r"makes attention by .*, which no temperature reaches and no probe"
        ):
            use()
    assert torch.equal(run(model), before)


@pytest.mark.parametrize("ndim", [2, 3, 4])
def test_attention_by_a_softmax_that_is_seen_is_refused_for_its_sources(ndim):
    for softmax in (torch.softmax, torch.special.softmax, nn.functional.softmax):
        model = architecture("BERT").build()
        attend = SoftmaxAttention(lambda logits, softmax=softmax: softmax(logits, -1), ndim)
        model.set_submodule("encoder.layer.1", Hidden(model.encoder.layer[1], attend))
        with pytest.raises(
            UnsupportedModelError, match=r"SoftmaxAttention .* neither a known scale attribute nor known"
        ):
            patch(model, 0.5)


class Router(nn.Module):
    """A softmax over experts, which is no attention."""

    def __init__(self, flat, softmax):
        super().__init__()
        self.flat, self.softmax, self.gate = flat, softmax, nn.Linear(32, 6)

    def forward(self, x):
        """Return x, weighted by the largest weight of each token."""
        weights = self.softmax(self.gate(x.flatten(0, 1) if self.flat else x))
        return x * weights.amax(-1).reshape(*x.shape[:2], 1)


@pytest.mark.parametrize("softmax", [lambda x: x.softmax(-1), lambda x: torch.ops.aten.softmax.int(x, -1), by_exp])
@pytest.mark.parametrize("flat", [True, False])
@EACH_SCHEDULE
def test_a_router_of_experts_is_left_alone(schedule, flat, softmax):
    model = architecture("BERT").build()
    for place in PLACES:
        model.set_submodule(place, Hidden(model.get_submodule(place), Router(flat, softmax)))
    plain = run(model)
    with patch(model, schedule) as active:
        found = run(model)
    names = [site.name for site in active.sites]
    assert all(name.endswith("attention.self") for name in names)
    if schedule == 0.5:
        oracle = eager_output(model, batch(), dict.fromkeys(names, 0.5))
        assert (real(found - oracle, batch())).abs().max() < 1e-5 < (found - plain).abs().max() / 100


def test_attention_of_torch_around_a_transformers_model_is_refused():
    model = nn.Sequential(architecture("BERT").build(), nn.TransformerEncoderLayer(32, 4, 48, batch_first=True))
    with pytest.raises(UnsupportedModelError, match=r"MultiheadAttention, beside its transformers model, .* by itself"):
        patch(model, 0.5)


# What changes while a model is patched.


def unchanged(model):
    return model


def add_lora(model):
    peft = pytest.importorskip("peft", reason="peft is not installed")
    torch.manual_seed(1)
    targets = ["query", "value"] if hasattr(model.encoder.layer[0].attention, "self") else ["q", "v"]
    return peft.get_peft_model(model, peft.LoraConfig(target_modules=targets, init_lora_weights=False, r=2))


def merge_lora(model):
    return model.merge_and_unload()


def another_query(model):
    layer = model.encoder.layer[1].attention
    layer, name = (layer.self, "query") if hasattr(layer, "self") else (layer.attn, "q")
    torch.manual_seed(2)
    setattr(layer, name, nn.Linear(32, 32))
    return model


def another_layer(model):
    model.encoder.layer[1] = copy.deepcopy(model.encoder.layer[1])
    return model


def weight_norm(model):
    layer = model.encoder.layer[1].attention
    parametrizations.weight_norm(layer.self.query if hasattr(layer, "self") else layer.attn.q)
    return model


def sdpa(model):
    model.set_attn_implementation("sdpa")
    return model


CHANGES = {
    "LoRA added": (unchanged, add_lora),
    "LoRA merged": (add_lora, merge_lora),
    "a query replaced": (unchanged, another_query),
    "a layer replaced by its copy": (unchanged, another_layer),
    "weights normalised": (unchanged, weight_norm),
    "another implementation": (unchanged, sdpa),
    "all of it": (add_lora, lambda model: weight_norm(another_layer(another_query(merge_lora(model))))),
}


@functools.cache
def plain_and_patched(row, change=None):
    """Return what a model gives without a patch, and by the text of a schedule, with one that came after the change."""
    before, during = CHANGES[change] if change else (unchanged, unchanged)
    model = during(before(architecture(row).build()))
    plain, patched = run(model), {}
    for schedule in SCHEDULES:
        with patch(model, schedule):
            patched[str(schedule)] = run(model)
    return plain, patched


@pytest.mark.filterwarnings("ignore")  # peft's own
@EACH_SCHEDULE
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("row", ["BERT", "MPNet"])
def test_a_model_that_changes_while_patched_keeps_the_temperature(row, change, schedule):
    before, during = CHANGES[change]
    if change == "another implementation" and row == "MPNet":
        pytest.skip("MPNet has eager attention only")
    plain, patched = plain_and_patched(row, change)
    expected = patched[str(schedule)]
    assert (expected - plain).abs().max() > 1e-3
    model = before(architecture(row).build())
    active = patch(model, schedule)
    changed = during(model)
    torch.testing.assert_close(run(changed), expected, atol=2e-6, rtol=0)
    active.temperature = 0.8
    active.temperature = schedule
    torch.testing.assert_close(run(changed), expected, atol=2e-6, rtol=0)
    active.remove()
    torch.testing.assert_close(run(changed), plain, atol=2e-6, rtol=0)
    assert not [
        name for name, module in changed.named_modules() if isinstance(module, tempscale.patching.exchange.Tempered)
    ]


def test_a_change_that_leaves_no_place_for_the_temperature_is_said_at_every_forward_pass():
    model = architecture("BERT").build()
    plain, active = run(model), patch(model, 0.5)
    inner = model.encoder.layer[1]
    model.encoder.layer[1] = Hidden(inner, SoftmaxAttention(by_exp, 3))
    for _ in range(2):
        with pytest.raises(
            RuntimeError, match=r"BertModel was changed while patched, .* by exp and sum.* `\.remove\(\)`"
        ):
            run(model)
    active.remove()
    run(model)
    model.encoder.layer[1] = inner
    assert torch.equal(run(model), plain)


def hooks_everywhere(model):
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    for module in list(model.modules()):
        accelerate.hooks.add_hook_to_module(module, accelerate.hooks.ModelHook())


def device_map(model):
    pytest.importorskip("accelerate", reason="accelerate is not installed").dispatch_model(
        model, {"": "cpu"}, force_hooks=True
    )


def offloaded(model):
    pytest.importorskip("accelerate", reason="accelerate is not installed").cpu_offload(model, execution_device="cpu")


def unhooked(model):
    from accelerate.hooks import remove_hook_from_module

    remove_hook_from_module(model, recurse=True)


@EACH_SCHEDULE
@pytest.mark.parametrize("when", ["before", "while patched", "off while patched"])
@pytest.mark.parametrize("hook", [hooks_everywhere, device_map, offloaded])
@pytest.mark.parametrize("row", ["BERT", "MPNet", "ModernBERT"])
def test_hooks_of_accelerate(row, hook, when, schedule):
    model = architecture(row).build()
    plain, patched = plain_and_patched(row)
    expected = patched[str(schedule)]
    if when != "while patched":
        hook(model)
    active = patch(model, schedule)
    if when == "while patched":
        hook(model)
    assert torch.equal(run(model), expected)
    if when == "off while patched":
        unhooked(model)
        assert torch.equal(run(model), expected)
    active.remove()
    assert torch.equal(run(model), plain)
    unhooked(model)
    assert torch.equal(run(model), plain)


@pytest.mark.filterwarnings("ignore")  # dynamo's own
@EACH_SCHEDULE
@pytest.mark.parametrize("row", ["BERT", "MPNet"])
def test_layers_and_forward_compiled_before_and_after(row, schedule):
    model = architecture(row).build(**TWO_LAYERS)
    plain = run(model)
    with patch(model, schedule):
        expected = run(model)
    for layer in model.encoder.layer:
        layer.compile(backend="eager")
    with patch(model, schedule):
        torch.testing.assert_close(run(model), expected, atol=2e-6, rtol=0)
    torch.testing.assert_close(run(model), plain, atol=2e-6, rtol=0)
    model = architecture(row).build(**TWO_LAYERS)
    with patch(model, schedule):
        model.forward = torch.compile(model.forward, backend="eager")
        for layer in model.encoder.layer:
            layer.compile(backend="eager")
        torch.testing.assert_close(run(model), expected, atol=2e-6, rtol=0)
    torch.testing.assert_close(run(model), plain, atol=2e-6, rtol=0)
    torch._dynamo.reset()


def test_libraries_see_the_arguments_of_a_patched_model(tmp_path):
    """Trainer gives a model the columns that its signature names, and saves what it trains: here that is refused."""
    pytest.importorskip("accelerate", reason="transformers' Trainer needs accelerate")

    class Data(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return {"input_ids": torch.arange(5, 13), "attention_mask": torch.ones(8).long(), "labels": index % 2}

    from transformers import BertForSequenceClassification

    model = architecture("BERT").build()
    classifier = BertForSequenceClassification(model.config)
    arguments = {"output_dir": str(tmp_path), "report_to": [], "use_cpu": True, "max_steps": 2, "disable_tqdm": True}
    with patch(classifier, LogLength(4)):
        Trainer(classifier, TrainingArguments(**arguments, save_strategy="no"), train_dataset=Data()).train()
        trainer = Trainer(classifier, TrainingArguments(**arguments, save_steps=1), train_dataset=Data())
        with pytest.raises(ValueError, match=r"is patched, and a saved model forgets its temperature: `\.remove\(\)`"):
            trainer.train()


def test_a_schedule_that_no_longer_fits_is_said_at_every_forward_pass():
    model = architecture("BERT").build()
    plain, active, last = run(model), patch(model, PerLayer([0.5] * 3)), model.encoder.layer[2]
    expected = run(model)
    del model.encoder.layer[2]
    model.config.num_hidden_layers = 2
    for _ in range(3):
        with pytest.raises(RuntimeError, match=r"was changed while patched, .*PerLayer has 3 temperatures"):
            run(model)
    model.encoder.layer.append(last)
    model.config.num_hidden_layers = 3
    assert torch.equal(run(model), expected)
    active.remove()
    assert torch.equal(run(model), plain)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_a_proof_that_breaks_off_leaves_the_patch_as_it_was(error):
    model = architecture("BERT").build()
    plain = run(model)
    with patch(model, 0.5) as active:
        expected = run(model)
        model.encoder.layer[1] = copy.deepcopy(model.encoder.layer[1])

        def fail(module, args, output):
            raise error

        handle = model.encoder.layer[0].register_forward_hook(fail)
        for _ in range(2):
            with pytest.raises(error):
                run(model)
        handle.remove()
        assert "sites=3, active" in repr(active)
        assert torch.equal(run(model), expected)
    assert torch.equal(run(model), plain)


@EACH_SCHEDULE
@pytest.mark.parametrize("change", [name for name in CHANGES if name != "another implementation"])
@pytest.mark.parametrize("row", ["BERT", "MPNet"])
@pytest.mark.filterwarnings("ignore")  # peft's own
def test_a_change_is_noticed_also_by_what_sets_another_kind_of_temperature(row, change, schedule):
    before, during = CHANGES[change]
    expected = plain_and_patched(row, change)[1][str(schedule)]
    model = before(architecture(row).build())
    active = patch(model, schedule)
    changed = during(model)
    for other in SCHEDULES:
        active.temperature = other
    active.temperature = schedule
    torch.testing.assert_close(run(changed), expected, atol=2e-6, rtol=0)
    active.remove()


@pytest.mark.parametrize("place", [0, 1, 3])
@EACH_SCHEDULE
def test_attention_that_is_added_has_the_temperature_too(schedule, place):
    def add(model, layer):
        model.encoder.layer.insert(place, layer)
        model.config.num_hidden_layers += 1  # which older versions of transformers go by
        return model

    model = architecture("BERT").build()
    layer = copy.deepcopy(model.encoder.layer[1])
    with patch(add(copy.deepcopy(model), copy.deepcopy(layer)), schedule) as active:
        expected = run(active._transformer)
    with patch(model, schedule):
        add(model, layer)
        torch.testing.assert_close(run(model), expected, atol=2e-6, rtol=0)


def test_lengths_are_those_of_the_arguments_that_a_model_has():
    torch.manual_seed(0)
    sizes = {"vocab_size": 97, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    model = GPT2Model(GPT2Config(**sizes, initializer_range=0.3)).eval()
    inputs = batch()
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    try:
        active = patch(model, LogLength(2))
    except UnsupportedModelError as error:
        pytest.skip(f"older versions of transformers: {error}")
    with active, torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask)[0]
        assert torch.equal(model(ids, None, mask)[0], expected)
        cache = model(input_ids=ids, attention_mask=mask, use_cache=True).past_key_values
        with pytest.raises(ValueError, match=r"how many tokens are in past_key_values: give an attention_mask"):
            model(input_ids=ids[:, :1], past_key_values=cache)


# Threads.


def test_a_temperature_changes_between_forward_passes_of_other_threads():
    model = architecture("MPNet").build()
    temperatures = [0.5, 1.0, 2.0, LogLength(4), PerLayer({0: 0.5})]
    allowed = []
    for temperature in temperatures:
        with patch(model, temperature):
            allowed.append(run(model))
    active = patch(model, 1.0)
    wrong, stop = [], threading.Event()

    def work():
        while not stop.is_set():
            found = run(model)
            if not any(torch.equal(found, one) for one in allowed):
                wrong.append(found)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for temperature in temperatures * 5:
        active.temperature = temperature
        model.encoder.layer[1] = copy.deepcopy(model.encoder.layer[1])
    stop.set()
    for thread in threads:
        thread.join(timeout=60)
    assert not wrong
    active.remove()


@pytest.mark.parametrize("give", [lambda model: patch(model, LogLength(4)), lambda model: fold(model, 0.5)])
@pytest.mark.parametrize("part", ["", "encoder.layer.1"])
def test_a_model_gets_no_temperature_while_another_thread_is_inside(give, part):
    model = architecture("BERT").build()
    plain, entered, leave, found = run(model), threading.Event(), threading.Event(), []

    def hold(module, args):
        entered.set()
        leave.wait(60)

    def call():
        found.append(run(model) if not part else model.get_submodule(part)(torch.zeros(1, 3, 32)))

    handle = model.encoder.layer[1].attention.register_forward_pre_hook(hold)
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    assert entered.wait(60)
    with pytest.raises(RuntimeError, match=r"^BertModel is running in another thread: give a model"):
        give(model)
    handle.remove()
    leave.set()
    thread.join(60)
    assert part or torch.equal(found[0], plain)
    with patch(model, 1.0):
        assert torch.equal(run(model), plain)


def test_a_model_is_not_patched_inside_its_own_forward_pass():
    model = architecture("BERT").build()
    plain = run(model)
    handle = model.encoder.layer[1].register_forward_pre_hook(lambda module, args: patch(model, 0.5) and None)
    with pytest.raises(RuntimeError, match=r"^BertModel is running in this thread"):
        run(model)
    handle.remove()
    assert torch.equal(run(model), plain)


def test_a_thread_that_only_holds_a_model_does_not_hinder():
    """In a method of the model that waits, or in code whose variables are no dictionary."""
    model, at_rest, stop = architecture("BERT").build(), threading.Barrier(3), threading.Event()

    class Service(type(model)):
        def work(self):
            at_rest.wait(60)
            stop.wait(60)

    class Variables:
        def __getitem__(self, name):
            return {"at_rest": at_rest, "stop": stop}[name]

    model.__class__ = Service
    code = compile("at_rest.wait(60); stop.wait(60)", "nowhere", "exec")
    threads = [threading.Thread(target=model.work), threading.Thread(target=exec, args=(code, {}, Variables()))]
    for thread in threads:
        thread.start()
    at_rest.wait(60)
    patch(model, 0.5).remove()
    stop.set()
    for thread in threads:
        thread.join(60)


def test_of_two_threads_that_patch_a_model_one_does():
    model = architecture("BERT").build()
    plain, together, got = run(model), threading.Barrier(2), {}
    expected = {}
    for temperature in (0.5, 2.0):
        with patch(model, temperature):
            expected[temperature] = run(model)

    def work(temperature):
        together.wait(60)
        try:
            got[temperature] = patch(model, temperature)
        except (ValueError, RuntimeError) as error:
            got[temperature] = str(error)

    for _ in range(10):
        threads = [threading.Thread(target=work, args=(temperature,)) for temperature in expected]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        ((temperature, active),) = [pair for pair in got.items() if not isinstance(pair[1], str)]
        assert torch.equal(run(model), expected[temperature])
        active.remove()
        assert torch.equal(run(model), plain)


def test_a_patch_keeps_nothing_alive():
    """Neither the model nor what its callers and other threads hold: of other frames no variable is asked for."""
    patch(architecture("BERT").build(), 0.5).remove()

    def use():
        model, mine = architecture("BERT").build(), torch.zeros(3)
        patch(model, 0.5).remove()
        seen = weakref.ref(model), weakref.ref(mine)
        del model, mine
        return seen, [one() for one in seen]

    gc.collect()
    gc.disable()
    try:
        seen, before_return = use()
        assert before_return[1] is None
        assert seen[0]() is None
    finally:
        gc.enable()


def test_a_model_that_another_thread_runs_during_its_proof_is_not_folded():
    model = architecture("BERT").build()
    plain, mine = run(model), threading.get_ident()

    def run_elsewhere(module, args):
        if threading.get_ident() == mine:
            thread = threading.Thread(target=run, args=(model,))
            thread.start()
            thread.join(60)

    handle = model.encoder.layer[1].register_forward_pre_hook(run_elsewhere)
    with pytest.raises(RuntimeError, match="another thread ran BertModel while its temperature was prepared"):
        fold(model, 0.5)
    handle.remove()
    assert torch.equal(run(model), plain)


def test_a_model_that_another_thread_runs_all_the_time_is_not_patched_without_a_word():
    model = architecture("BERT").build()
    plain, stop, wrong, seen = run(model), threading.Event(), [], []

    def work():
        while not stop.is_set():
            try:
                if not torch.equal(found := run(model), plain):
                    wrong.append(found)
            except (RuntimeError, IndexError, AttributeError, TypeError) as error:
                wrong.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    for _ in range(20):
        try:
            patch(model, lambda lengths: torch.ones(len(lengths))).remove()
        except RuntimeError as error:
            seen.append(str(error))
    stop.set()
    thread.join(timeout=60)
    assert not wrong
    assert seen
    assert all(one.startswith("BertModel is running in another thread: ") for one in seen)
    assert torch.equal(run(model), plain)


def test_a_temperature_does_not_change_inside_a_forward_pass():
    model = architecture("BERT").build()
    with patch(model, 0.5) as active:
        expected = run(model)

        def change(module, args):
            active.temperature = 0.8

        handle = model.encoder.layer[1].register_forward_pre_hook(change)
        with pytest.raises(RuntimeError, match="cannot change inside a forward pass of its model: set it between two"):
            run(model)
        handle.remove()
        assert torch.equal(run(model), expected)


# Inputs, and models without one.


@pytest.mark.parametrize(
    "temperature", [1e-40, 1e-4, 1e5, lambda n: n * 0 + 1e-6], ids=["least", "small", "large", "function"]
)
def test_a_temperature_at_which_numbers_overflow_is_refused(temperature):
    with pytest.raises(ValueError, match=r"from 0\.001 to 1000"):
        patch(architecture("BERT").build(), temperature)


@pytest.mark.parametrize("temperature", [1e-3, 1e3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_within_the_range_nothing_overflows(dtype, temperature):
    for row in ("BERT", "MPNet"):
        model = architecture(row).build(None, dtype)
        with patch(model, temperature):
            assert run(model).isfinite().all()


def test_packed_texts_have_no_length_of_their_own():
    model = architecture("BERT").build()
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2]])
    ids = torch.arange(5, 12)[None]
    with patch(model, LogLength(4)) as active:
        run(model, {"input_ids": ids, "position_ids": positions.sort().values})
        with pytest.raises(ValueError, match="position_ids start again within a row, as those of packed texts do"):
            run(model, {"input_ids": ids, "position_ids": positions})
        active.temperature = 0.5
        run(model, {"input_ids": ids, "position_ids": positions})


def test_what_is_folded_in_inference_mode_can_be_trained():
    model = architecture("MPNet").build()
    with torch.inference_mode():
        fold(model, 0.5)
    model(**batch())[0].sum().backward()
    assert model.encoder.layer[0].attention.attn.q.weight.grad.abs().max() > 0


def test_a_model_is_patched_in_inference_mode_as_elsewhere():
    model = architecture("MPNet").build()
    with patch(model, 0.5):
        expected = run(model)
    with torch.inference_mode(), patch(model, 0.5):
        assert torch.equal(run(model), expected)
    model.set_submodule("encoder.layer.1", Hidden(model.encoder.layer[1], Native("attention").eval()))
    with (
        torch.inference_mode(),
        pytest.raises(UnsupportedModelError, match=r"MultiheadAttention .* makes attention by"),
    ):
        patch(model, 0.5)


@pytest.mark.parametrize(("row", "changes"), [("BERT", {"vocab_size": 5}), ("BERT", {"pad_token_id": None})])
def test_small_and_odd_vocabularies(row, changes):
    model = architecture(row).build(**changes)
    with patch(model, 0.5) as active:
        assert len(active.sites) == 3


def test_true_causes_are_named():
    import transformers

    with pytest.raises(
        UnsupportedModelError, match=r"ViTModel reads pixel_values and no input_ids: pass a model of texts"
    ):
        patch(
            transformers.ViTModel(transformers.ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2)),
            0.5,
        )
    with torch.device("meta"):
        model = architecture("BERT").build()
    with pytest.raises(
        UnsupportedModelError, match="weights of BertModel are on the meta device, without values: load"
    ):
        patch(model, 0.5)


@pytest.mark.filterwarnings("ignore")  # dynamo's own
def test_two_proofs_at_once_leave_what_is_compiled_compiled():
    """Torch's stance is that of the process: the first proof to end must leave it, and the last put it back."""
    compiled = []

    def backend(graph, _):
        compiled.append(graph)
        return graph.forward

    def proof(entered, leave):
        with evaluation_mode(architecture("BERT").build()):
            entered.set()
            leave.wait(60)

    events = [(threading.Event(), threading.Event()) for _ in range(2)]
    proofs = [threading.Thread(target=proof, args=both, daemon=True) for both in events]
    for thread, (entered, _) in zip(proofs, events, strict=True):
        thread.start()
        assert entered.wait(60)
    double = torch.compile(lambda x: 2 * x, backend=backend)
    for thread, (_, leave) in zip(proofs, events, strict=True):
        assert double(torch.ones(2)).tolist() == [2, 2]
        assert not compiled
        leave.set()
        thread.join(60)
    assert double(torch.ones(2)).tolist() == [2, 2]
    assert len(compiled) == 1
    torch._dynamo.reset()


def test_a_sparse_model_in_one_with_a_head_stays_sparse():
    """On short texts BigBird would switch itself to full attention, for good."""
    options = {"block_size": 4, "num_random_blocks": 1, "max_position_embeddings": 128}
    config = BigBirdConfig(**{**COMMON, **options}, attention_type="block_sparse")
    model = BigBirdForMaskedLM(config).eval()
    with patch(model, 0.5) as active:
        assert len(active.sites) == 3
        assert model.bert.attention_type == "block_sparse"
    assert model.bert.attention_type == "block_sparse"
    with pytest.raises(UnsupportedModelError, match="has sparse attention, no row of weights for all tokens"):
        probe(model, [torch.arange(5, 69)])
