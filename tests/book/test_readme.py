"""The README's numbers are those of the executed chapters, and its first example runs."""

import os
import re
import subprocess
import sys

import pytest
import readme
from repository import ROOT

TEXT = (ROOT / "README.md").read_text("utf-8")


def test_results_are_the_executed_ones(site):
    """Other machines round differently: at most two of the 200 queries may change their rank."""
    block = re.search("<!-- results:begin -->.*<!-- results:end -->", TEXT, re.DOTALL).group()
    fresh = re.search("<!-- results:begin -->.*<!-- results:end -->", readme.filled(TEXT), re.DOTALL).group()
    number = re.compile(r"[+-]?\d+\.\d+")
    assert number.sub("#", block) == number.sub("#", fresh), "the README is stale: make readme"
    written, executed = ([float(x) for x in number.findall(part)] for part in (block, fresh))
    assert written == pytest.approx(executed, abs=0.01), "the README is stale: make readme"


def test_unexecuted_chapters_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(readme, "EXECUTED", tmp_path)
    with pytest.raises(SystemExit, match=r"no executed chapter in .*: run `make book` first"):
        readme.filled(TEXT)


def test_the_first_example_runs():
    code = re.search("```python\n(.*?)```", TEXT, re.DOTALL).group(1)
    assert len(code.splitlines()) <= 8
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        cwd=ROOT.parent,
    )
    plain, tempered = map(float, result.stdout.split())
    assert 0 < plain < 1
    assert plain != tempered
