"""The attention sandbox: its numbers are NumPy's, its keys and colours are the reader's."""

import re
from collections.abc import Iterator
from pathlib import Path

import explorer_sandbox
import matplotlib
import numpy as np
import pytest
import scipy.linalg
from playwright.sync_api import Browser, Page
from scipy.special import softmax
from support.explorer_page import explorer_page, move, violations
from support.touch import PHONE, drag

from tempscale import filter_rate

# The logits of row i and column j of n, by the words on the page.
PRESETS = {
    "Two hubs": lambda i, j, n: 6.0 * (j == np.where(i < n / 2, 0, 1)),
    "Uniform": lambda i, j, n: 0.0 * i * j,
    "Shift by one": lambda i, j, n: 6.0 * ((j - i) % n == 1),
    "Sink, rows agree": lambda i, j, n: 4.0 * (j == 0) + 0 * i,
    "Sink, rows disagree": lambda i, j, n: (j == 0) * np.where(i % 2 == 0, 2.0, 5.0),
    "Local window": lambda i, j, n: -1.5 * np.abs(i - j),
    "Causal, uniform": lambda i, j, n: np.where(j <= i, 0.0, -np.inf),
}


@pytest.fixture(scope="module")
def visit(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Page, list[str]]]:
    with explorer_page(browser, "sandbox", tmp_path_factory.mktemp("page")) as opened:
        yield opened


@pytest.fixture
def tab(visit: tuple[Page, list[str]]) -> Iterator[Page]:
    """The page as it opens, loaded anew for each test."""
    tab, complaints = visit
    tab.reload()
    yield tab
    assert complaints == []


def start(tab: Page, preset: str, n: int = 8) -> None:
    tab.locator("[data-input=preset]").select_option(label=preset)
    move(tab, "n", n)


def square(tab: Page, what: str) -> np.ndarray:
    """The logits or the weights of all cells."""
    values = tab.locator("[role=gridcell]").evaluate_all(f"(cells) => cells.map((cell) => cell.dataset.{what})")
    return np.reshape([float(value) for value in values], 2 * [int(len(values) ** 0.5)])


def number(tab: Page, name: str) -> float:
    return float(tab.locator(f"[data-number={name}]").get_attribute("data-value"))


def bars(tab: Page) -> np.ndarray:
    return np.array(tab.locator("[data-drawing=signal] .bar").evaluate_all("(all) => all.map((x) => +x.dataset.value)"))


def spectrum(attention: np.ndarray) -> np.ndarray:
    """The eigenvalues of (I - J) A, those of largest modulus first."""
    values = np.linalg.eigvals(attention - attention.mean(0))
    return values[np.argsort(-np.abs(values))]


def assert_numbers(tab: Page, attention: np.ndarray) -> None:
    n = len(attention)
    assert number(tab, "rate") == pytest.approx(filter_rate(attention), abs=1e-12)
    # where it is defective, NumPy's own second eigenvalue is off by the root of the rounding
    assert number(tab, "second") == pytest.approx(np.abs(spectrum(attention)[0]), abs=1e-7)
    differences = [np.abs(a - b).sum() / 2 for a in attention for b in attention]
    assert number(tab, "dobrushin") == pytest.approx(max(differences), abs=1e-12)
    masses = tab.locator(".mass").evaluate_all("(bars) => bars.map((bar) => +bar.dataset.mass)")
    np.testing.assert_allclose(masses, attention.sum(0), atol=1e-12)
    F = scipy.linalg.dft(n, scale="sqrtn")
    entries = tab.locator("[data-drawing=frequency] [data-value]").evaluate_all("(x) => x.map((y) => +y.dataset.value)")
    np.testing.assert_allclose(np.reshape(entries, (n, n)), np.abs(F @ attention @ F.conj().T), atol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 8, 16])
@pytest.mark.parametrize("preset", PRESETS)
def test_starting_points_are_what_they_say_and_their_numbers_are_numpys(tab: Page, preset: str, n: int) -> None:
    start(tab, preset, n)
    i, j = np.indices((n, n))
    logits = PRESETS[preset](i, j, n)
    np.testing.assert_array_equal(square(tab, "logit"), logits)
    np.testing.assert_allclose(square(tab, "weight"), softmax(logits, axis=1), atol=1e-14)
    assert_numbers(tab, softmax(logits, axis=1))


def test_random_matrices_with_real_and_with_complex_eigenvalues(tab: Page) -> None:
    kinds = set()
    for n in (5, 16):
        start(tab, "Random (Gaussian)", n)
        for _ in range(6):
            tab.get_by_role("button", name="Draw again").click()
            attention = square(tab, "weight")
            assert_numbers(tab, attention)
            kinds.add(bool(np.iscomplex(spectrum(attention)[0])))
    assert kinds == {False, True}


def test_random_logits_are_standard_normal(tab: Page) -> None:
    start(tab, "Random (Gaussian)", 16)
    drawn = square(tab, "logit")
    assert abs(drawn.mean()) < 4 / 16
    assert abs(drawn.std() - 1) < 4 / np.sqrt(2 * 256)
    move(tab, "n", 6)
    np.testing.assert_array_equal(square(tab, "logit"), drawn[:6, :6])


def test_defective_matrices(tab: Page) -> None:
    move(tab, "scale", 3)
    move(tab, "temperature", -12)  # the coldest, 1/8: every softmax is hard
    start(tab, "Two hubs", 3)
    np.testing.assert_allclose(square(tab, "weight"), np.eye(3)[[0, 0, 1]], atol=1e-60)
    assert number(tab, "second") < 1e-30  # nilpotent, but for weights of exp(-144)
    assert number(tab, "rate") == pytest.approx(np.sqrt(4 / 3))
    assert number(tab, "dobrushin") == 1

    start(tab, "Causal, uniform", 3)
    choose(tab, 2, 0)
    move(tab, "logit", -8)
    np.testing.assert_allclose(square(tab, "weight"), [[1, 0, 0], [0.5, 0.5, 0], [0, 0.5, 0.5]], atol=1e-15)
    assert number(tab, "second") == pytest.approx(0.5, abs=1e-9)  # a Jordan block


def choose(tab: Page, row: int, column: int) -> None:
    """Go to a cell with the keyboard."""
    tab.locator("[role=gridcell][tabindex='0']").focus()
    for key, steps in (("ArrowUp", 16), ("ArrowLeft", 16), ("ArrowDown", row), ("ArrowRight", column)):
        for _ in range(steps):
            tab.keyboard.press(key)


def test_only_the_ratio_of_scale_and_temperature_counts(tab: Page) -> None:
    start(tab, "Random (Gaussian)")
    logits, plain = square(tab, "logit"), square(tab, "weight")
    move(tab, "temperature", 4)
    assert tab.locator("[data-output=temperature]").inner_text() == "2.00"
    np.testing.assert_allclose(square(tab, "weight"), softmax(logits / 2, axis=1), atol=1e-14)
    move(tab, "scale", 2)
    np.testing.assert_allclose(square(tab, "weight"), plain, atol=1e-14)
    move(tab, "scale", 0)
    np.testing.assert_allclose(square(tab, "weight"), 1 / 8)
    start(tab, "Causal, uniform")
    assert (square(tab, "weight")[0] == np.eye(8)[0]).all(), "a mask stays one at scale 0"


@pytest.mark.parametrize("signal", ["worst", "token", "random"])
def test_signal_is_multiplied_by_attention_again_and_again(tab: Page, signal: str) -> None:
    start(tab, "Random (Gaussian)")
    choose(tab, 1, 5)
    move(tab, "signal", signal)
    attention = square(tab, "weight")
    move(tab, "t", 0)
    x = bars(tab)
    if signal == "token":
        np.testing.assert_array_equal(x, np.eye(8)[5])
    if signal == "worst":
        assert x.mean() == pytest.approx(0, abs=1e-12)
    for t in (1, 2, 12):
        move(tab, "t", t)
        after = np.linalg.matrix_power(attention, t) @ x
        np.testing.assert_allclose(bars(tab), after, atol=1e-12)
        gain = np.std(after) / np.std(x)
        shown = float(tab.locator("[data-words=decay]").get_attribute("data-gain"))
        assert shown == pytest.approx(gain, rel=1e-6)
        assert shown <= number(tab, "rate") ** t * (1 + 1e-9)
        if (signal, t) == ("worst", 1):
            assert shown == pytest.approx(number(tab, "rate"), rel=1e-9)
        ratio = np.std(after) / abs(np.mean(after))
        assert float(tab.locator("[data-words=decay]").inner_text().split("= ")[1].rstrip(".")) == pytest.approx(
            ratio, rel=0.05
        )


def test_verdict_follows_the_numbers(tab: Page) -> None:
    verdict = tab.locator(".verdict")
    start(tab, "Uniform")
    assert verdict.inner_text() == "All rows agree, so one step leaves the mean and nothing else."
    start(tab, "Two hubs")
    assert verdict.inner_text() == (
        "One step can amplify a difference between tokens, 1.96 times. Repeated, it leaves nothing."
    )
    start(tab, "Causal, uniform")
    assert verdict.inner_text() == (
        "One step leaves at most 84 % of any difference between tokens. Repeated, each step leaves 50 % in the long run."
    )


def test_cells_are_edited_with_keys_clicks_and_the_slider(tab: Page) -> None:
    start(tab, "Causal, uniform")
    expected = PRESETS["Causal, uniform"](*np.indices((8, 8)), 8)
    choose(tab, 3, 2)
    for key, logit in (("+", 0.5), ("+", 1.0), ("-", 0.5), ("Enter", 1.5), ("Delete", 0.0), ("=", 0.5)):
        tab.keyboard.press(key)
        expected[3, 2] = logit
        np.testing.assert_array_equal(square(tab, "logit"), expected)
    chosen = tab.locator("[role=gridcell][aria-selected=true]")
    assert chosen.evaluate("(cell) => cell === document.activeElement")
    assert chosen.get_attribute("aria-label") == "row 3, column 2: logit 0.5, weight 0.35"
    chosen.click(modifiers=["Shift"])
    tab.locator("[data-row='0'][data-column='7']").click()  # opens a masked cell
    expected[3, 2], expected[0, 7] = -0.5, 0
    np.testing.assert_array_equal(square(tab, "logit"), expected)
    tab.locator("[data-input=logit]").focus()
    tab.keyboard.press("ArrowRight")
    expected[0, 7] = 0.1
    np.testing.assert_array_equal(square(tab, "logit"), expected)
    assert_numbers(tab, softmax(expected, axis=1))
    # the changes outlive another length, and one button undoes them
    move(tab, "n", 5)
    move(tab, "n", 8)
    np.testing.assert_array_equal(square(tab, "logit"), expected)
    tab.get_by_role("button", name="Undo all changes").click()
    np.testing.assert_array_equal(square(tab, "logit"), PRESETS["Causal, uniform"](*np.indices((8, 8)), 8))


@pytest.mark.parametrize("preset", ["", "view=step"])
def test_works_by_touch(browser: Browser, tmp_path: Path, preset: str) -> None:
    with explorer_page(browser, "sandbox", tmp_path, width=390, preset=preset, **PHONE) as (tab, complaints):
        start(tab, "Uniform")
        expected = np.zeros((8, 8))
        for logit in (1, 2):
            tab.locator("[data-row='3'][data-column='5']").tap()
            expected[3, 5] = logit
            np.testing.assert_array_equal(square(tab, "logit"), expected)
        # what the bars say, in a number: of the cell's column, and of the column of a bar
        mass, words = softmax(expected, axis=1).sum(axis=0), tab.locator("[data-words=mass]")
        assert words.inner_text() == f"Column 5: c = {mass[5]:.2f}."
        tab.locator(".mass[data-column='2']").tap()
        assert words.inner_text() == f"Column 2: c = {mass[2]:.2f}."
        np.testing.assert_array_equal(square(tab, "logit"), expected)
        drag(tab.locator("[data-input=logit]"), 0)  # lowers the cell of row 3 in that column
        expected[3, 2] = square(tab, "logit").min()
        assert expected[3, 2] < 0
        np.testing.assert_array_equal(square(tab, "logit"), expected)
        tab.get_by_role("button", name="Undo all changes").tap()
        assert not square(tab, "logit").any()
        drag(tab.locator("[data-input=temperature]"), 1)
        assert tab.locator("[data-output=temperature]").inner_text() == "8.00"
        drag(tab.locator("[data-input=n]"), 1)
        assert tab.locator("[role=gridcell]").count() == 16 * 16
        tab.locator("[data-row='15'][data-column='15']").tap()
        assert square(tab, "logit")[15, 15] == 1
        assert complaints == []


def test_colours_are_the_books(tab: Page) -> None:
    start(tab, "Random (Gaussian)")
    colours = tab.locator("[role=gridcell]").evaluate_all(
        "(cells) => cells.map((cell) => getComputedStyle(cell).backgroundColor.match(/\\d+/g).map(Number))"
    )
    expected = 255 * matplotlib.colormaps["viridis"](np.sqrt(square(tab, "weight").ravel()))[:, :3]
    # 17 colours with lines between them, against 256
    np.testing.assert_allclose(colours, expected, atol=7)


def test_play_goes_to_the_end_and_stops(browser: Browser, tmp_path: Path) -> None:
    with explorer_page(browser, "sandbox", tmp_path) as (tab, _):
        tab.clock.install()
        move(tab, "t", 9)
        play = tab.locator("[data-button=play]")
        play.click()
        assert play.inner_text() == "Pause"
        tab.clock.run_for(10_000)
        assert (tab.locator("[data-input=t]").input_value(), play.inner_text()) == ("12", "Play")
    with explorer_page(browser, "sandbox", tmp_path, reduced_motion="reduce") as (tab, _):
        assert not tab.locator("[data-button=play]").is_visible()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessible_and_within_the_screen(browser: Browser, tmp_path: Path, width: int, scheme: str) -> None:
    with explorer_page(browser, "sandbox", tmp_path, width=width, scheme=scheme) as (tab, complaints):
        start(tab, "Random (Gaussian)")
        assert violations(tab) == {}
        for n in (2, 16):
            start(tab, "Causal, uniform", n)
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert complaints == []


def test_picture_shows_the_same_starting_points(tmp_path: Path) -> None:
    for title, logits in explorer_sandbox.LOGITS.items():
        np.testing.assert_array_equal(logits, PRESETS[title](*np.indices((8, 8)), 8))
    causal = softmax(explorer_sandbox.LOGITS["Causal, uniform"], axis=1)
    assert explorer_sandbox.second_eigenvalue(causal) == pytest.approx(1 / 2)
    assert explorer_sandbox.dobrushin(causal) == pytest.approx(7 / 8)
    explorer_sandbox.build(tmp_path)
    assert (tmp_path / "sandbox.svg").read_text("utf-8").startswith("<?xml")


def on_pages() -> dict[str, str]:
    """How the sandbox opens, by the chapter that has it."""
    block = re.compile(r"```\{explorer\} sandbox\n(?::.*\n)*?:preset: (.*)\n")
    texts = {path.stem: path.read_text("utf-8") for path in explorer_sandbox.BOOK.glob("*.md")}
    return {name: found[1] for name, text in texts.items() if (found := block.search(text))}


@pytest.mark.parametrize("chapter", on_pages())
def test_it_opens_as_a_page_asks(browser: Browser, tmp_path: Path, chapter: str) -> None:
    preset = on_pages()[chapter].replace(" ", "")
    with explorer_page(browser, "sandbox", tmp_path, preset=preset) as (tab, complaints):
        for pair in preset.split(","):
            name, value = pair.split("=")
            if name == "view":
                assert value == "step"
            else:
                control = tab.locator(f"[data-input={name.replace('start', 'preset')}]")
                assert control.input_value() == value
        assert complaints == []


@pytest.mark.parametrize("width", [1280, 390])
def test_one_step_alone(browser: Browser, tmp_path: Path, width: int) -> None:
    """The brief view shows the rate and one step, and nothing of what many steps do."""
    with explorer_page(browser, "sandbox", tmp_path, width=width, preset="start=hubs,view=step") as (tab, complaints):
        attention = square(tab, "weight")
        after = bars(tab)
        move(tab, "t", 0)
        np.testing.assert_allclose(attention @ bars(tab), after, atol=1e-12)
        assert number(tab, "rate") == pytest.approx(filter_rate(attention))
        move(tab, "t", 12)
        np.testing.assert_allclose(bars(tab), after, atol=1e-12)
        gain = float(tab.locator("[data-words=decay]").get_attribute("data-gain"))
        assert gain == pytest.approx(filter_rate(attention))
        for many in ("[data-drawing=decay]", "[data-button=play]", "[data-number=second]", "[data-number=dobrushin]"):
            assert not tab.locator(many).is_visible()
        start(tab, "Local window")
        assert not re.search("Repeated|DC", tab.locator(".explorer-root").inner_text().replace("(DC)", ""))
        assert violations(tab) == {}
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert complaints == []


def rates_over(tab: Page, name: str, values: range) -> list[float]:
    found = []
    for value in values:
        move(tab, name, value)
        found.append(number(tab, "rate"))
    return found


def test_what_the_captions_promise(tab: Page) -> None:
    # chapter 2: hubs copy one difference to all tokens; a circulant matrix is diagonal until a cell is raised
    start(tab, "Two hubs")
    assert number(tab, "rate") > 1
    np.testing.assert_allclose(bars(tab), bars(tab)[0] * np.repeat([1, -1], 4), rtol=1e-9)
    start(tab, "Sink, rows agree")
    assert number(tab, "rate") < 1e-12
    for raised in (False, True):
        start(tab, "Shift by one")
        if raised:
            tab.locator("[data-row='2'][data-column='6']").click()
        entries = tab.locator("[data-drawing=frequency] [data-value]").evaluate_all(
            "(x) => x.map((y) => +y.dataset.value)"
        )
        off = np.reshape(entries, (8, 8)) - np.diag(np.diag(np.reshape(entries, (8, 8))))
        assert (np.abs(off).max() > 1e-4) == raised
    # chapter 3: three questions, and three answers
    start(tab, "Two hubs")
    assert number(tab, "second") < 0.01
    start(tab, "Shift by one")
    assert min(number(tab, name) for name in ("rate", "second", "dobrushin")) > 0.95
    start(tab, "Local window")
    move(tab, "signal", "random")
    gains = []
    for t in (6, 7, 12):
        move(tab, "t", t)
        gains.append(float(tab.locator("[data-words=decay]").get_attribute("data-gain")))
        assert gains[-1] < number(tab, "rate") ** t
    assert gains[1] / gains[0] == pytest.approx(number(tab, "second"), rel=0.02)
    # chapter 4: a temperature between the ends is best; mass without disagreement is no rate; hubs with length
    start(tab, "Sink, rows disagree")
    over_temperature = rates_over(tab, "temperature", range(-12, 13))
    best = int(np.argmax(over_temperature))
    assert 0 < best < 24
    assert (np.diff(over_temperature[: best + 1]) > 0).all()
    assert (np.diff(over_temperature[best:]) < 0).all()
    move(tab, "temperature", 0)
    heaviest = []
    for preset in ("Sink, rows disagree", "Sink, rows agree"):
        start(tab, preset)
        heaviest.append(square(tab, "weight").sum(0).max())
    assert heaviest[0] < heaviest[1]
    assert max(rates_over(tab, "temperature", range(-12, 13))) < 1e-12
    move(tab, "temperature", 0)
    start(tab, "Two hubs")
    np.testing.assert_allclose(rates_over(tab, "n", range(4, 17, 4)), np.sqrt(np.arange(4, 17, 4) / 2), rtol=0.05)
    # chapter 9: with the length the rate falls for random logits, on average, and rises for a sink that rows disagree about
    start(tab, "Random (Gaussian)")
    drawn = []
    for _ in range(10):
        tab.get_by_role("button", name="Draw again").click()
        drawn.append(rates_over(tab, "n", range(8, 17, 8)))
    fall = np.diff(drawn, axis=1)
    assert fall.mean() < -2 * fall.std(ddof=1) / np.sqrt(len(fall))
    start(tab, "Sink, rows disagree")
    assert (np.diff(rates_over(tab, "n", range(4, 17, 4))) > 0).all()
    masses = tab.locator(".mass").evaluate_all("(bars) => bars.map((bar) => +bar.dataset.mass)")
    assert int(np.argmax(masses)) == 0
