"""The proof of a patch finds every source that is missing, and leaves the model as it was."""

import pytest
import torch
from support.architectures import FAMILIES, architecture

from tempscale.patching.proof import find_sites, prove
from tempscale.patching.recorder import Recorder
from tempscale.patching.sources import Site


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
