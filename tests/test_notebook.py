"""What the chapters share, tested without a book."""

import base64
import importlib.util
import json
import os
import re
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from tempscale import docstrings, notebook
from tempscale.notebook import docstrings_of, glue, read_results, slider
from tempscale.plots import PALETTE, use_style


def test_glue_prints_and_leaves_the_exact_value_for_the_prose():
    shell = InteractiveShell.instance()
    try:
        with capture_output() as captured:
            glue(cosine=np.float64(1 / 3), texts=7)
    finally:
        shell.clear_instance()
    assert captured.stdout == "cosine = 0.333333\ntexts = 7\n"
    records = {output.metadata["scrapbook"]["name"]: output for output in captured.outputs}
    prefix = records["cosine"].metadata["scrapbook"]["mime_prefix"]
    assert records["cosine"].data == {f"{prefix}text/plain": repr(1 / 3)}
    assert records["texts"].data == {f"{prefix}text/plain": "7"}


def contrast(colour, other=(1.0, 1.0, 1.0)):
    """Return the contrast ratio of WCAG 2.2."""

    def luminance(rgb):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
        return np.dot(linear, [0.2126, 0.7152, 0.0722])

    light, dark = sorted((luminance(colour), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_first_colours_stand_out_from_the_page():
    rgb = [tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)) for colour in PALETTE]
    assert len(set(rgb)) == len(rgb)
    assert all(contrast(colour) >= 3 for colour in rgb[:3])


def test_use_style_sets_the_cycle():
    with plt.rc_context():
        use_style()
        assert [entry["color"] for entry in plt.rcParams["axes.prop_cycle"]] == list(PALETTE)


def page(html):
    return json.loads(re.search(r'\("demo", (\{.*\})\);</script>', html.data).group(1))


def test_slider_carries_its_data():
    frames = np.linspace(0, 2, 24).reshape(2, 3, 4)
    html = slider("demo", "temperature <tau>", [0.5, 1], {"A & B": frames}, {"entropy": [0.25, 1 / 3]})
    data = page(html)
    assert data["values"] == [0.5, 1.0]
    assert data["readouts"] == [{"title": "entropy", "numbers": [0.25, 1 / 3]}]
    panel = data["panels"][0]
    assert (panel["rows"], panel["columns"]) == (3, 4)
    pixels = np.frombuffer(base64.b64decode(panel["pixels"]), np.uint8).reshape(frames.shape)
    np.testing.assert_allclose(pixels / 127.5, frames, atol=1 / 255)
    assert len(base64.b64decode(data["colours"])) == 256 * 3
    assert "temperature &lt;tau&gt;" in html.data
    assert "http" not in html.data


@pytest.mark.parametrize(
    ("panels", "readouts", "message"),
    [
        ({"A": np.ones((3, 2, 2))}, {}, "'A' has 3 frames for 2 slider positions: give one for each"),
        ({}, {"entropy": [1.0]}, "'entropy' has 1 frames for 2 slider positions"),
        ({"A": -np.ones((2, 2, 2))}, {}, "'A' must hold finite values >= 0: its smallest is -1"),
        ({"A": np.full((2, 2, 2), np.nan)}, {}, "'A' must hold finite values >= 0: its smallest is nan"),
    ],
)
def test_slider_refuses(panels, readouts, message):
    with pytest.raises(ValueError, match=message):
        slider("demo", "temperature", [0.5, 1], panels, readouts)


ROOT = Path(notebook.__file__).parents[1]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The package as in a wheel that was installed elsewhere, and an empty folder to work in."""
    site = tmp_path / "site-packages" / "tempscale"
    site.mkdir(parents=True)
    monkeypatch.setattr(notebook, "__file__", str(site / "notebook.py"))
    monkeypatch.chdir(tmp_path)
    return site


def hook():
    """The hook that hatchling runs when it builds a wheel."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ResultsHook(str(ROOT), {}, None, None, str(ROOT), "wheel")


def test_the_wheel_carries_every_table_and_an_editable_install_reads_the_books(installed):
    data = {"force_include": {}}
    building = hook()
    building.initialize("editable", data)
    building.finalize("editable", data, "")
    assert data == {"force_include": {}}

    building.initialize("standard", data)
    ((archive, inside),) = data["force_include"].items()
    assert inside == "tempscale/results.zip"
    assert Path(archive).stat().st_size < 1_000_000
    shutil.copyfile(archive, installed / "results.zip")
    building.finalize("standard", data, "")
    assert not Path(archive).exists()

    tables = sorted((ROOT / "book" / "results").rglob("*.csv"))
    assert len(tables) > 30
    for table in tables:
        name = table.relative_to(ROOT / "book" / "results").as_posix()
        pd.testing.assert_frame_equal(read_results(name), pd.read_csv(table, comment="#", low_memory=False))


def test_every_table_that_a_chapter_names_is_there(installed):
    named = {
        name
        for chapter in (ROOT / "book").glob("*.md")
        for name in re.findall(r'read_results\(\s*"([^"]+)"', chapter.read_text("utf-8"))
    }
    assert len(named) > 15
    assert [name for name in named if not (ROOT / "book" / "results" / name).is_file()] == []


def test_a_table_beside_the_notebook_comes_first(installed, monkeypatch):
    (installed.parents[1] / "results").mkdir()
    (installed.parents[1] / "results" / "table.csv").write_text("# made by hand\na\n1\n")
    assert read_results("table.csv").a.tolist() == [1]
    monkeypatch.setattr(notebook, "__file__", str(ROOT / "tempscale" / "notebook.py"))
    assert len(read_results("study/units.csv")) > 100


def test_a_table_that_is_nowhere(installed):
    message = (
        r"no table 'x\.csv' of measured results, neither in .*results nor in the installed package: install the ver"
    )
    with pytest.raises(FileNotFoundError, match=message):
        read_results("x.csv")
    with zipfile.ZipFile(installed / "results.zip", "w") as archive:
        archive.writestr("y.csv", "a\n1\n")
    with pytest.raises(FileNotFoundError, match=message):
        read_results("x.csv")


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A folder for temporary files, and no folder of docstrings that outlasts the test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TEMPSCALE_DOCSTRINGS", "")
    return tmp_path


def test_docstrings_of_another_version_are_downloaded_once(temporary, monkeypatch, capsys):
    calls = []

    def pip(command, **options):
        calls.append(command)
        root = Path(command[command.index("--target") + 1], "numpy")
        root.mkdir()
        (root / "__init__.py").write_text('def f():\n    """Return one."""\n', "utf-8")

    monkeypatch.setattr(subprocess, "run", pip)
    for _ in range(2):
        docstrings_of("numpy==0.1", f"pandas=={pd.__version__}")
        assert docstrings(["numpy"]).text.tolist() == ["Return one."]
    assert [command[-1] for command in calls] == ["numpy==0.1"]
    said = "downloading numpy==0.1, whose docstrings are the texts; it is read and not imported\n"
    assert capsys.readouterr().out == said
    # emptied, as temporary folders are; and what was there before stays
    (folder,) = temporary.iterdir()
    shutil.rmtree(folder / "numpy")
    monkeypatch.setenv("TEMPSCALE_DOCSTRINGS", "mine")
    docstrings_of("numpy==0.1")
    assert len(calls) == 2
    assert os.environ["TEMPSCALE_DOCSTRINGS"].split(os.pathsep) == [str(folder), "mine"]


def test_of_two_notebooks_at_once_each_gets_its_docstrings(temporary, monkeypatch):
    def pip(command, **options):
        for root in (command[command.index("--target") + 1], temporary / "tempscale-docstrings-numpy-0.1"):
            Path(root, "numpy").mkdir(parents=True)
            Path(root, "numpy", "__init__.py").touch()

    monkeypatch.setattr(subprocess, "run", pip)
    docstrings_of("numpy==0.1")
    assert os.environ["TEMPSCALE_DOCSTRINGS"] == str(temporary / "tempscale-docstrings-numpy-0.1")


def test_without_a_network_the_installed_docstrings_are_read(temporary, monkeypatch, capsys):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    docstrings_of("numpy==0.1", "nosuchpackage==1")
    said = capsys.readouterr().out
    assert "numpy==0.1 could not be downloaded (ERROR: " in said
    assert f"those of numpy {np.__version__}, numbers differ a little, and an `assert` may fail" in said
    assert "and no other version is here: pip install nosuchpackage" in said
    assert not list(temporary.iterdir())
    assert len(docstrings(["numpy"])) > 500


@pytest.mark.network
def test_docstrings_of_an_old_networkx(temporary):
    docstrings_of("networkx==3.0")
    assert "networkx.algorithms.euler.is_eulerian" in set(docstrings(["networkx"]).name)
    assert next(temporary.glob("tempscale-*/networkx-3.0.dist-info")).is_dir()
