"""What keeps the pages quiet: which lines of a cell are folded, which outputs are left out, and figures by night."""

import re
from contextlib import redirect_stdout
from io import StringIO

import figures
import folding
import numpy as np
import pytest
import quiet
import tables
import typography
from docutils import nodes
from docutils.utils import new_document
from matplotlib.colors import to_rgb

from tempscale.notebook import glue
from tempscale.plots import PALETTE

IMPORTS = "import math\nimport os\nimport sys"
TEACHING = "a = 1\nb = 2\nc = a + b"
CHECKS = "assert a < b\nassert b < c\nassert c == 3"
LONG = "\n".join(f"x{i} = {i}" for i in range(folding.LONGEST + 1))
FUNCTION = 'def f(x):\n    """Twice x."""\n    y = x\n    y += x\n    y += 0\n    return y'
DRAWING = "figure, axes = plt.subplots(1, 2)\nfor axis in axes:\n    axis.plot(x)"

CELLS = [
    (IMPORTS, ["Imports"]),
    (f"{IMPORTS}\nuse_style()", ["Imports"]),
    (TEACHING, [""]),
    (CHECKS, ["Checks"]),
    ("glue(a=1)", ["Numbers for the text"]),
    ("glue_mean(\n    a=1,\n)", ["Numbers for the text"]),
    (DRAWING, ["Drawing"]),
    # a loop is what its last line is
    ("for x in y:\n    z = x + 1\n    assert z", ["Checks"]),
    ("for x in y:\n    z = x + 1\n    glue(**{x: z})", ["Numbers for the text"]),
    ("for x in y:\n    z = x + 1\n    print(z)", [""]),
    ("np.testing.assert_allclose(a, b)\nassert a\nassert b", ["Checks"]),
    (f"{IMPORTS}\n\n{TEACHING}\n\n{CHECKS}", ["Imports", "", "Checks"]),
    (f"{TEACHING}\n{DRAWING}\nglue(a=1)", ["", "Drawing and numbers for the text"]),
    (f"{TEACHING}\n{CHECKS}\n{TEACHING}", ["", "Checks", ""]),
    # a short check stays with what it checks, if there is room
    (f"{TEACHING}\nassert c == 3", [""]),
    (f"{LONG.rpartition(chr(10))[0]}\nassert x0 == 0", ["", "Checks"]),
    # two lines teach nothing beside a fold
    (f"a = 1\nb = 2\n{CHECKS}", ["Computation and checks"]),
    (LONG, ["Computation"]),
    # of much code, the first functions stay open
    (f"{FUNCTION}\n{LONG}\n{FUNCTION}\n{LONG}", ["", "Computation", "", "Computation"]),
    (f"{FUNCTION}\n{FUNCTION}\n{FUNCTION}\n{LONG}", ["", "Functions and computation"]),
    (f"{FUNCTION}\n{CHECKS}", ["", "Checks"]),
    (f"{LONG}\n{DRAWING}\n{CHECKS}", ["Computation, drawing and checks"]),
    ("%pip install x", [""]),
    ("# only a comment", [""]),
]


@pytest.mark.parametrize(("source", "labels"), CELLS)
def test_which_parts_of_a_cell_are_folded(source: str, labels: list[str]) -> None:
    parts = folding.split(source)
    assert [part.label for part in parts] == labels
    # nothing is lost, and nothing moves
    assert "".join("".join(part.source.split()) for part in parts) == "".join(source.split())


def test_a_comment_stays_above_its_statement() -> None:
    parts = folding.split(f"{TEACHING}\n\n# it adds up\n{CHECKS}")
    assert parts[1].source.startswith("# it adds up\n")


def test_the_lines_that_glue_prints_are_left_out_and_no_others() -> None:
    values = {
        "third": np.float64(1 / 3),
        "tiny": 1e-9,
        "count": 7,
        "minus": -2,
        "endless": float("inf"),
        "none": float("nan"),
        "yes": True,
        "text": "it's a text",
    }
    with redirect_stdout(StringIO()) as out:
        print("third = 0.3333")
        glue(**values)
        print("so third = 0.333333")
    reprs = {name: repr(value.item() if hasattr(value, "item") else value) for name, value in values.items()}
    pattern = quiet.printed_by_glue(reprs)
    cell = ran(out.getvalue())
    quiet.drop_printed(cell, pattern)
    assert [stream.astext() for stream in cell.findall(nodes.literal_block)] == ["third = 0.3333\nso third = 0.333333"]

    with redirect_stdout(StringIO()) as out:
        glue(**values)
    cell = ran(out.getvalue())
    quiet.drop_printed(cell, pattern)
    assert cell.children == []  # the empty box is gone, too


def ran(printed: str) -> nodes.container:
    """A cell with one output, as the parser leaves it."""
    stream = nodes.literal_block("", printed.removesuffix("\n"), classes=["output", "stream"])
    return nodes.container("", nodes.container("", stream, nb_element="cell_code_output"), nb_element="cell_code")


def test_long_sentences_wrap_and_columns_do_not() -> None:
    for line, wraps in (("a sentence " * 20, True), ("1.0  2.0", False)):
        cell = ran(f"{line}\n")
        quiet.drop_printed(cell, "")
        assert ("sentences" in next(cell.findall(nodes.literal_block))["classes"]) is wraps


@pytest.mark.parametrize(("marks", "before"), [(1, ""), (2, ""), (3, "A sentence. ")])
def test_marks_of_several_tests_become_one(marks: int, before: str) -> None:
    paragraph = nodes.paragraph()
    section = nodes.section("", paragraph, nodes.paragraph("", "after"))
    paragraph += [nodes.Text(before)] if before else []
    for i in range(marks):
        paragraph += [nodes.reference("", f"test_{i}", classes=["verified"]), nodes.Text("\n")]
    quiet.gather_marks(paragraph)
    folded = list(section.findall(quiet.Folded))
    assert [re.findall(r"\d+", node["label"]) for node in folded] == ([[str(marks)]] if marks > 1 else [])
    assert [link.astext() for link in section.findall(nodes.reference)] == [f"test_{i}" for i in range(marks)]
    assert (paragraph in section.children) is (marks == 1 or bool(before))
    assert section.children[-1].astext() == "after"


def test_figures_by_night_have_readable_text_and_visible_lines() -> None:
    black = np.zeros((4, 4, 4), np.uint8)
    black[..., 3] = 255
    turned = figures.turn_around(black)
    assert contrast(turned[0, 0, :3] / 255, figures.PAGE) >= 4.5
    white = figures.turn_around(np.full((1, 1, 4), 255, np.uint8))
    assert tuple(white[0, 0, :3]) == figures.PAGE  # a hollow marker stays hollow

    coloured = [to_rgb(colour) for colour in PALETTE if colour != "#000000"]
    pixels = np.array([[[*(round(255 * c) for c in colour), 255] for colour in coloured]], np.uint8)
    for turned, colour, before in zip(figures.turn_around(pixels)[0, :, :3], coloured, pixels[0, :, :3], strict=True):
        assert contrast(turned / 255, figures.PAGE) >= 4.5
        assert contrast(colour, figures.PAGE) < 4.5 or (turned == before).all()
        np.testing.assert_array_equal(turned.argsort(), before.argsort())  # a blue stays a blue
    purple = figures.turn_around(np.array([[[68, 1, 84, 255]]], np.uint8))  # where viridis begins
    assert contrast(purple[0, 0, :3] / 255, figures.PAGE) >= 3 > contrast((68 / 255, 1 / 255, 84 / 255), figures.PAGE)


@pytest.mark.parametrize("shape", [(60, 60), (120, 15), (15, 120)])
def test_a_heat_map_and_its_colour_bar_keep_their_colours_by_night(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 4), (68, 1, 84, 255), np.uint8)
    image[5:8, 3:12, :3] = 0
    image[9:12, 3:12, :3] = 255
    framed = np.pad(image, ((20, 20), (20, 20), (0, 0)))
    np.testing.assert_array_equal(figures.turn_around(framed)[20:-20, 20:-20], image)


@pytest.mark.parametrize("shape", [(200, 7), (7, 200), (20, 20)])
def test_a_fat_line_and_a_marker_are_turned_around(shape: tuple[int, int]) -> None:
    mark = np.pad(np.full((*shape, 4), (0, 0, 0, 255), np.uint8), ((20, 20), (20, 20), (0, 0)))
    turned = figures.turn_around(mark)
    assert (turned[mark[..., 3] == 255, :3] == figures.TEXT).all()


def contrast(colour: tuple[float, ...], page: tuple[int, ...]) -> float:
    """The ratio of WCAG 2.2, for a colour of 0 to 1 on a page of 0 to 255."""

    def luminance(rgb):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
        return np.dot(linear, [0.2126, 0.7152, 0.0722])

    dark, light = sorted([luminance(colour), luminance([c / 255 for c in page])])
    return (light + 0.05) / (dark + 0.05)


def test_columns_of_numbers_are_set_to_the_right() -> None:
    html = (
        "<tr><th></th><th>score</th><th>task</th></tr>"
        "<tr><th>a</th><td>-1.5e-05</td><td>STS12</td></tr><tr><th>b</th><td>NaN</td><td>3</td></tr>"
    )
    aligned = tables.align(html)
    assert re.findall(r'<t. class="number">(.*?)<', aligned) == ["score", "−1.5e-05", "NaN"]
    assert aligned.replace(' class="number"', "").replace("−", "-") == html


def test_rows_that_may_become_cards_name_their_columns_and_keep_their_roles() -> None:
    table = (
        '<table class="cards table">\n<thead>\n<tr class="row-odd"><th class="head"><p>case</p></th>\n'
        '<th class="head"><p>gain, <em>points</em></p></th>\n</tr>\n</thead>\n<tbody>\n'
        '<tr class="row-even"><td><p>search</p></td>\n<td><p>+1.65</p></td>\n</tr>\n</tbody>\n</table>'
    )
    assert tables.CARDS.fullmatch(table)
    assert not tables.CARDS.search(table.replace("cards ", ""))
    dealt = tables.cards(table)
    assert re.findall(r'<td role="cell" data-label="(.*?)">', dealt) == ["case", "gain, points"]
    assert dealt.count('role="row"') == 2
    assert dealt.count('role="columnheader"') == 2
    assert re.sub(r' (role|data-label)=".*?"', "", dealt) == table


def test_a_row_without_its_outer_index_is_aligned_like_the_others() -> None:
    html = "<tr><th>a</th><th>x</th><td>1</td></tr><tr><th>y</th><td>2</td></tr>"
    assert re.findall(r'class="number">(.)', tables.align(html)) == ["1", "2"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("-0.4 [-1, +2]", "−0.4 [−1, +2]"),
        ("by -.5", "by −.5"),
        ("1-2, nDCG-10, 2026-11-27, a -b", "1-2, nDCG-10, 2026-11-27, a -b"),
    ],
)
def test_a_number_below_zero_has_a_minus(text: str, shown: str) -> None:
    assert typography.with_minus(text) == shown


def test_a_percentage_stays_on_its_line() -> None:
    shown = typography.with_space("42% of 7 %, a % b, 2 · 10⁻⁶")
    assert shown.replace("\N{NO-BREAK SPACE}", "_") == "42_% of 7_%, a % b, 2_·_10⁻⁶"


def test_an_interval_stays_on_its_line() -> None:
    shown = typography.with_interval("by 0.1 [−0.2, +1.5], of [a, b] or f(1, 2)")
    assert shown.replace("\N{NO-BREAK SPACE}", "_") == "by 0.1 [−0.2,_+1.5], of [a, b] or f(1, 2)"


def test_numbers_that_cells_hand_over_stay_with_what_belongs_to_them() -> None:
    """They are nodes of their own: of an interval, before a sign, in a link; not of a list, whose comma is the same."""
    link = nodes.reference("", "", nodes.inline(text=" Exercise 3.1 (Two)"))
    one, two, low, high, share = (nodes.inline(text=number) for number in ("1", "2", "0.1", "0.3", "7"))
    parts = [one, ", ", two, " rise [", low, ", ", high, "], ", share, " % in", link]
    sentence = nodes.paragraph("", "", *(nodes.Text(part) if isinstance(part, str) else part for part in parts))
    document = new_document("page")
    document += sentence
    typography.SmallType(document).run()
    assert sentence.astext().replace("\N{NO-BREAK SPACE}", "_") == "1, 2 rise [0.1,_0.3], 7_% in Exercise_3.1 (Two)"
    assert link.astext().startswith("Exercise")


def test_the_star_of_a_heading_stays_with_its_last_word() -> None:
    document = new_document("page")
    document += nodes.section(
        "", nodes.title("", "", nodes.Text("Chance "), nodes.emphasis(text="alone"), nodes.Text(" ★"))
    )
    typography.keep_stars(None, document)
    assert document.astext() == "Chance alone\N{NO-BREAK SPACE}★"


def test_thousands_are_set_off_by_narrow_spaces() -> None:
    text = "43,497 and 1,234,567, of 16,384; not 1,24 or 12.345,678 or 1024"
    shown = text.replace("43,497", "43 497").replace("1,234,567", "1 234 567").replace("16,384", "16 384")
    assert typography.with_thousands(text).replace("\N{NARROW NO-BREAK SPACE}", " ") == shown


def test_code_keeps_its_hyphens_and_a_formula_its_comma() -> None:
    formula, other = nodes.math(text="x"), nodes.math(text="y")
    code = nodes.literal(text="-1")
    sentence = nodes.paragraph(
        "", "", nodes.Text("Of -1 ("), formula, nodes.Text("), or "), code, other, nodes.Text(" -2.")
    )
    document = new_document("page")
    document += sentence
    typography.SmallType(document).run()
    assert sentence.astext() == "Of −1 (x), or -1y −2."
    assert formula.parent.astext() == "(x),"
    assert "together" in formula.parent["classes"]
    assert other.parent is sentence


def painted(width: int, *boxes: tuple[int, int]) -> np.ndarray:
    """A picture 100 pixels high, empty but for full columns from one number to another."""
    pixels = np.zeros((100, width, 4), np.uint8)
    for start, stop in boxes:
        pixels[:, start:stop] = 255
    return pixels


def test_panels_are_cut_apart() -> None:
    """Two panels, each with a scale of 30 pixels left of its axis: all ink is kept, and only the gap is left out."""
    whole = painted(1000, (40, 480), (560, 990))
    whole[40:60, 10:40] = whole[40:60, 530:560] = 255
    left, right = figures.panels(whole)
    np.testing.assert_array_equal(left, whole[:, :480])
    np.testing.assert_array_equal(right, whole[:, 530:])


def test_a_panel_gets_the_scale_that_it_shares() -> None:
    whole = painted(1000, (40, 480), (520, 990))
    whole[40:60, 10:40] = 255
    left, right = figures.panels(whole)
    np.testing.assert_array_equal(left, whole[:, :480])
    np.testing.assert_array_equal(right, np.concatenate([whole[:, :40], whole[:, 520:]], axis=1))


@pytest.mark.parametrize("boxes", [[(40, 990)], [(40, 200), (240, 990)], [(40, 480), (485, 990)]])
def test_what_has_no_gap_in_the_middle_stays_whole(boxes: list[tuple[int, int]]) -> None:
    assert figures.panels(painted(1000, *boxes)) == []


def test_three_panels() -> None:
    parts = figures.panels(painted(900, (0, 290), (310, 590), (610, 900)))
    assert [part.shape[1] for part in parts] == [290, 280, 290]


def test_a_legend_that_sticks_out_is_no_scale() -> None:
    """Above the second panel and 30 pixels to the left of its axis: the panel still gets the scale that it shares."""
    whole = painted(1000, (40, 480), (560, 990))
    whole[:20] = 0
    whole[5:15, 530:900] = 255
    whole[40:60, 10:40] = 255
    whole[:10, 10:40] = 255  # a title, which is not of the scale
    _, right = figures.panels(whole)
    np.testing.assert_array_equal(right[:, 40:], whole[:, 560:])
    np.testing.assert_array_equal(right[20:, :40], whole[20:, :40])
    np.testing.assert_array_equal(right[:20, 10:40], whole[:20, 530:560])


def test_three_equal_panels_are_not_cut_into_two_unequal_ones() -> None:
    whole = painted(1000, (40, 380), (400, 680), (700, 1000))
    assert [part.shape[1] for part in figures.panels(whole)] == [380, 320, 340]


def test_a_panel_has_no_empty_space_of_its_neighbours() -> None:
    whole = painted(1000, (40, 480), (560, 990))
    whole[60:, :500] = 0
    assert [part.shape[0] for part in figures.panels(whole)] == [60 + figures.GAP, 100]
