"""What the chapters share, tested without a book."""

import base64
import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from tempscale.notebook import glue, read_results, slider
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


def test_results_are_the_books_or_the_repositorys(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr("pandas.read_csv", lambda source, comment, **_: asked.append((str(source), comment)))
    read_results("table.csv")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "table.csv").touch()
    read_results("table.csv")
    assert asked[1] == ("results/table.csv", "#")
    assert re.fullmatch(r"https://.+/raw/HEAD/book/results/table\.csv", asked[0][0])
