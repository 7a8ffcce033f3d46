"""The proof of a patch finds every source that is missing, and leaves the model as it was."""

import copy

import pytest
import torch
from support.architectures import FAMILIES, architecture
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel
from transformers.models.bert.modeling_bert import BertSelfAttention

from tempscale import LogLength, UnsupportedModelError, patch
from tempscale.patching.proof import find_sites, prove
from tempscale.patching.recorder import Recorder
from tempscale.patching.sources import Site, uniform_candidates

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
EACH_DEVICE = pytest.mark.parametrize("device", DEVICES)
EACH_DTYPE = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@pytest.mark.parametrize("kind", ["uniform", "per layer", "per sequence"])
@pytest.mark.parametrize("row", FAMILIES)
def test_every_source_is_needed(row, kind):
    model = architecture(row).build()
    sites, n_layers = find_sites(model, kind)
    assert n_layers == len(sites) == 3
    recorder = Recorder(model)
    plain = recorder.plain
    assert prove(recorder, sites, kind) is None
    for left_out in range(len(sites[0].sources)):
        # at all sites, since they may share a table
        rest = [[*site.sources[:left_out], *site.sources[left_out + 1 :]] for site in sites]
        incomplete = [Site(site.name, site.layer, site.module, kept) for site, kept in zip(sites, rest, strict=True)]
        failure = prove(recorder, incomplete, kind)
        message = "has logits that are off by" if rest[0] else "has neither a known scale attribute nor known queries"
        assert message in failure
        assert sites[0].name in failure
    after = recorder.run("eager")
    for module, logits in plain.logits.items():
        assert all(torch.equal(x, y) for x, y in zip(logits, after.logits[module], strict=True))


class HalfOfTheHeads:
    """A source that divides the queries of half of the heads."""

    attribute = "half"

    def __init__(self, weight):
        self.weight, self.before = weight, weight.detach().clone()

    def set(self, temperature):
        with torch.no_grad():
            half = len(self.weight) // 2
            self.weight[:half] = self.before[:half] / temperature

    def restore(self):
        with torch.no_grad():
            self.weight.copy_(self.before)


class TheOtherWay:
    """A source that multiplies where it should divide."""

    def __init__(self, source):
        self.source, self.attribute = source, source.attribute

    def set(self, temperature):
        self.source.set(1 / temperature)

    def restore(self):
        self.source.restore()


class Nothing:
    """A source that does nothing."""

    attribute = "nothing"

    def set(self, temperature):
        pass

    def restore(self):
        pass


FAULTS = {
    "half a site": lambda site, layer: [HalfOfTheHeads((getattr(site.module, "query", None) or site.module.q).weight)],
    "one layer only": lambda site, layer: site.sources if layer == 0 else [Nothing()],
    "all layers but one": lambda site, layer: site.sources if layer != 1 else [Nothing()],
    "times tau": lambda site, layer: [TheOtherWay(source) for source in site.sources],
    "divided twice": lambda site, layer: [*site.sources, HalfOfTheHeads(next(iter(site.module.parameters())))],
    "a bias left out": lambda site, layer: [s for s in site.sources if s.attribute != "relative_attention_bias"],
}


@EACH_DEVICE
@EACH_DTYPE
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("row", ["BERT", "T5", "MPNet"])
@pytest.mark.parametrize("fault", [None, *FAULTS], ids=str)
def test_planted_faults_are_found_whatever_rounds(row, implementation, fault, dtype, device):
    if row == "MPNet" and implementation == "sdpa":
        pytest.skip("MPNet has eager attention only")
    model = architecture(row).build(implementation, dtype).to(device)
    with torch.no_grad():  # a bias that half precision hardly sees beside the logits
        for name, value in model.named_parameters():
            value.mul_(0.02 if "relative_attention_bias" in name else 1)
    recorder, before = Recorder(model), copy.deepcopy(model.state_dict())
    modules = list(recorder.plain.logits)
    sources = next(uniform_candidates(model, modules))
    sites = [Site(str(layer), layer, module, sources[layer]) for layer, module in enumerate(modules)]
    if fault == "a bias left out" and row == "BERT":
        pytest.skip("BERT's logits have no bias")
    if fault:
        planted = [list(FAULTS[fault](site, site.layer)) for site in sites]
        sites = [Site(site.name, site.layer, site.module, made) for site, made in zip(sites, planted, strict=True)]
    assert (prove(recorder, sites, "uniform") is None) == (fault is None)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
        assert value.dtype == dtype or not value.is_floating_point()


class Noisy(BertSelfAttention):
    """Attention with kernels that do not repeat themselves, and perhaps another module that computes half precision."""

    noise, twin = 0.0, None

    def forward(self, hidden_states, *args, **kwargs):
        if hidden_states.dtype == torch.float32:
            return super().forward(hidden_states, *args, **kwargs)
        if self.twin:
            return self.twin[0](hidden_states, *args, **kwargs)
        return super().forward(hidden_states * (1 + self.noise * torch.randn_like(hidden_states)), *args, **kwargs)


def noisy_model(dtype, device, noise=0.0, twins=False):
    model = architecture("BERT").build("sdpa", dtype).to(device)
    for layer in model.encoder.layer:
        module = layer.attention.self
        twin = (copy.deepcopy(module),) if twins else None  # a tuple hides it from the model
        module.__class__ = type("Noisy", (Noisy,), {"noise": noise, "twin": twin})
    return model


@EACH_DEVICE
@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_noise_of_the_size_of_rounding_is_no_fault(dtype, device):
    model = noisy_model(dtype, device, noise=torch.finfo(dtype).eps / 4)
    torch.manual_seed(0)
    for temperature in (0.8, LogLength(8)):
        with patch(model, temperature) as active:
            assert len(active.sites) == 3


@EACH_DEVICE
@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_a_path_of_half_precision_without_the_temperature_is_a_fault(dtype, device):
    with pytest.raises(UnsupportedModelError, match=f"Noisy .* attention on {device}.* in {dtype}"):
        patch(noisy_model(dtype, device, twins=True), 0.8)


@EACH_DEVICE
@EACH_DTYPE
@pytest.mark.parametrize("cls", [BertModel, LlamaModel])
def test_fresh_weights_whose_attention_is_almost_uniform_are_no_reason_to_refuse(cls, dtype, device):
    sizes = {"vocab_size": 99, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = {BertModel: BertConfig, LlamaModel: LlamaConfig}[cls](**sizes, intermediate_size=64)
    torch.manual_seed(0)
    model = cls._from_config(config, attn_implementation="sdpa").eval().to(device, dtype)
    with patch(model, 0.8) as active:
        assert len(active.sites) == 2


@EACH_DEVICE
def test_the_probe_is_free_in_its_choice_of_a_kernel(device):
    model = architecture("BERT").build("sdpa", torch.bfloat16).to(device)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION), patch(model, 0.8) as active:
        assert len(active.sites) == 3


@EACH_DEVICE
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_what_overflows_in_float16_is_proved_in_float32(implementation, device):
    """Where all is NaN, whatever is done to the layers behind is equal to what should be."""
    model = architecture("BERT").build(implementation, torch.float16).to(device)
    with torch.no_grad():
        model.encoder.layer[0].output.LayerNorm.weight.fill_(65504)
        model.encoder.layer[0].output.LayerNorm.bias.fill_(65504)
    recorder = Recorder(model)
    modules = list(recorder.plain.logits)
    assert all(recorder.plain.outputs[module][0].isnan().all() for module in modules[1:])
    sources = next(uniform_candidates(model, modules))
    sites = [Site(str(layer), layer, module, sources[layer]) for layer, module in enumerate(modules)]
    assert prove(recorder, sites, "uniform") is None
    sites[2] = Site("2", 2, modules[2], [Nothing()])
    assert "logits that are off by" in prove(recorder, sites, "uniform")


def test_what_cannot_be_run_in_float32_on_the_cpu_is_refused_for_what_was_seen(monkeypatch):
    model = noisy_model(torch.bfloat16, "cpu", noise=0.01)
    monkeypatch.setattr(torch.Tensor, "to", _refuse_cpu(torch.Tensor.to))
    with pytest.raises(UnsupportedModelError, match="logits that are off by"):
        patch(model, 0.8)


def _refuse_cpu(to):
    def call(self, *args, **kwargs):
        if args[:1] == ("cpu",):
            raise RuntimeError("quantized weights have no other device")
        return to(self, *args, **kwargs)

    return call
