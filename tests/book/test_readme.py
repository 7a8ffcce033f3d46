"""The README's numbers are those of the executed chapters, its example runs, and it reads the same on a package index."""

import io
import re

import measured
import numpy as np
import pytest
import readme
from matplotlib import image
from repository import ROOT, address, book_url
from typography import MINUS

TEXT = (ROOT / "README.md").read_text("utf-8")


def test_numbers_are_the_executed_ones(site):
    """Other machines round differently: at most two of the 200 queries may change their rank."""
    part = re.compile(f"{readme.BEGIN}.*{readme.END}", re.DOTALL)
    block, fresh = (part.search(text).group().replace(MINUS, "-") for text in (TEXT, readme.filled(TEXT)))
    number = re.compile(r"[+-]?\d+\.\d+")
    assert number.sub("#", block) == number.sub("#", fresh), "the README is stale: make readme"
    written, executed = ([float(x) for x in number.findall(text)] for text in (block, fresh))
    assert len(written) > 5
    assert written == pytest.approx(executed, abs=0.01), "the README is stale: make readme"


@pytest.mark.parametrize("name", readme.PICTURES)
def test_pictures_are_the_executed_ones(name, site):
    """A value that rounds differently may move a line by a pixel."""
    kept, fresh = (
        image.imread(io.BytesIO(data)) for data in ((readme.STATIC / name).read_bytes(), readme.picture(name))
    )
    assert kept.shape == fresh.shape, "the picture is stale: make readme"
    assert (np.abs(kept - fresh).max(axis=2) > 0.1).mean() < 0.01, "the picture is stale: make readme"


def test_unexecuted_chapters_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(measured, "EXECUTED", tmp_path)
    with pytest.raises(SystemExit, match=r"no executed chapter in .*: run `make book` first"):
        readme.filled(TEXT)


def test_the_first_example_runs_and_does_what_the_chapters_derive(capsys):
    code = re.search("```python\n(.*?)```", TEXT, re.DOTALL).group(1)
    assert len(code.splitlines()) <= 8
    names = {}
    exec(code, names)
    sides = [names["model"].encode(names[side]) for side in ("queries", "documents")]
    for side in sides:
        direction = side.mean(0) / np.linalg.norm(side.mean(0))
        side -= np.outer(side @ direction, direction)
        side /= np.linalg.norm(side, axis=1, keepdims=True)
    printed = [float(x) for x in re.findall(r"-?\d+\.\d+", capsys.readouterr().out)]
    np.testing.assert_allclose(printed, (sides[0][:3] @ sides[1][:3].T).ravel(), atol=1e-4)


def test_links_and_pictures_are_absolute_and_of_this_repository():
    """On a package index there is no folder for a relative link to point into."""
    targets = re.findall(r"\]\(([^)]+)\)", TEXT)
    own = (address(), book_url(), address().replace("https://github.com", "https://colab.research.google.com/github"))
    assert len(targets) >= 3
    assert [target for target in targets if not target.startswith(own)] == []
    assert f'pip install "tempscale[offline,eval] @ git+{address()}"' in TEXT
