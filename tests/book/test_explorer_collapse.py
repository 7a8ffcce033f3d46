"""The collapse explorer: its data, and what the page shows, against the package's own numbers."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import explorers
import numpy as np
import pytest
from playwright.sync_api import Browser, Locator
from support.explorer_page import explorer_page
from support.pages import opened, violations
from support.touch import PHONE, drag

from tempscale import docstrings, load_model, pairwise_cosine, patch
from tempscale.encoding.cutting import cut_texts

DATA = json.loads((explorers.FOLDER / "collapse.json").read_text("utf-8"))
N = 200
# Rounding of sums in float32, which differs between machines; at most two ranks may change with it.
NOISE, RANKS = 1e-4, 2
PAGES = ("index", "phenomenon")
REGENERATED = [("whole", 1.0, 32), ("whole", 0.8, 16), ("projected", 0.8, 16), ("pieces", 1.0, 256)]


def setting_number(reading: str, temperature: float, length: int) -> int:
    """Where a setting stands in the data, counted anew: pieces only where a text is longer than one."""
    numbers = [
        (r, t, n)
        for r in ("whole", "pieces", "projected")
        for t in DATA["temperatures"]
        for n in DATA["lengths"]
        if r != "pieces" or n > DATA["piece"]
    ]
    return numbers.index((reading, temperature, length))


def stored(name: str, dtype: str, setting: tuple[str, float, int]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(DATA[name]), dtype).reshape(-1, N)[setting_number(*setting)]


class Regenerated:
    """A few settings, embedded as chapter 1 and the remedies' definitions say."""

    def __init__(self) -> None:
        texts = docstrings(["numpy", "pandas", "scipy", "sklearn"])
        self.texts = texts[texts.pair & (texts.tokens > 600)].sample(N, random_state=0)
        self.model = load_model("minilm", device="cpu")
        self.embedded = {setting: self._embed(*setting) for setting in REGENERATED}

    @cache  # noqa: B019 (one object, which lives as long as the module's tests)
    def _queries(self, temperature: float) -> np.ndarray:
        self.model.max_seq_length = 256
        with patch(self.model, temperature):
            return self.model.encode(self.texts.summary.tolist()).astype(float)

    def _embed(self, reading: str, temperature: float, length: int) -> tuple[np.ndarray, np.ndarray]:
        bodies, sizes = self.texts.body.tolist(), [1] * N
        queries = self._queries(temperature)
        with patch(self.model, temperature):
            self.model.max_seq_length = length
            if reading == "pieces":
                encoded = self.model.tokenizer(bodies, truncation=True, max_length=length, return_offsets_mapping=True)
                ends = [max(end for _, end in offsets) for offsets in encoded["offset_mapping"]]
                bodies = [body[:end] for body, end in zip(bodies, ends, strict=True)]
                found = cut_texts(self.model, bodies, [length] * N, DATA["piece"])
                bodies, sizes = found.texts, found.numbers
                assert set(sizes) == {3}
            x = self.model.encode(bodies).astype(float)
        if reading == "projected":
            return self._without_mean(self.texts.summary, queries), self._without_mean(self.texts.body, x)
        means = [part.mean(0) for part in np.split(x, np.cumsum(sizes)[:-1])]
        return queries, np.stack([mean / np.linalg.norm(mean) for mean in means])

    def _without_mean(self, texts: list[str], x: np.ndarray) -> np.ndarray:
        """Each half without the mean direction of the other; which half a text is in, a hash of it says."""
        half = np.array([hashlib.sha256(text.encode()).digest()[0] % 2 for text in texts])
        found = x.copy()
        for k in (0, 1):
            mean = x[half != k].mean(0)
            found[half == k] -= np.outer(x[half == k] @ mean, mean) / (mean @ mean)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def angle(self, setting: tuple[str, float, int], text: int) -> float:
        """In degrees, from the mean of the other texts."""
        x = self.embedded[setting][1]
        mean = np.delete(x, text, axis=0).mean(0)
        return float(np.degrees(np.arccos(x[text] @ mean / np.linalg.norm(mean))))

    def mean_cosine(self, setting: tuple[str, float, int]) -> float:
        return float(pairwise_cosine(self.embedded[setting][1]).mean())

    def first(self, setting: tuple[str, float, int]) -> np.ndarray:
        queries, documents = self.embedded[setting]
        return np.array([max(range(N), key=lambda k: queries[i] @ documents[k]) for i in range(N)])


@pytest.fixture(scope="module")
def package() -> Regenerated:
    return Regenerated()


def test_the_data_say_what_made_them_and_are_of_chapter_1s_texts(package: Regenerated) -> None:
    assert set(DATA["made"]) == {"command", "model", "texts", "versions"}
    assert re.fullmatch(r"all-MiniLM-L6-v2, sha256 [0-9a-f]{64}", DATA["made"]["model"])
    assert DATA["names"] == package.texts.name.tolist()
    assert DATA["summaries"] == package.texts.summary.tolist()
    assert [DATA["packages"][k] for k in DATA["package"]] == [name.partition(".")[0] for name in DATA["names"]]


@pytest.mark.parametrize("setting", REGENERATED)
def test_the_data_are_the_packages_own(package: Regenerated, setting: tuple[str, float, int]) -> None:
    mean, *interval = DATA["cosine"][setting_number(*setting)]
    assert mean == pytest.approx(package.mean_cosine(setting), abs=NOISE)
    if setting[0] == "projected":
        assert interval == []
    else:
        # twice the standard error of a mean over texts, by its definition
        x = package.embedded[setting][1]
        h = [(x[i] @ np.delete(x, i, axis=0).T).mean() for i in range(N)]
        half = 2 * 1.97196 * np.std(h, ddof=1) / np.sqrt(N)
        assert interval == pytest.approx([mean - half, mean + half], abs=NOISE)
    degrees = stored("angle", "<u2", setting) / 360
    expected = [package.angle(setting, text) for text in range(N)]
    assert degrees == pytest.approx(expected, abs=0.05)
    first = package.first(setting)
    assert (stored("first", "u1", setting) != first).sum() <= RANKS
    hits = (stored("first", "u1", setting) == np.arange(N)).sum()
    accuracy, low, high = DATA["accuracy"][setting_number(*setting)]
    assert accuracy == pytest.approx(hits / N)
    assert (low, high) == pytest.approx(wilson(hits / N), abs=NOISE)


def wilson(share: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of the texts: where its distance is 1.96 of its own standard errors."""
    z2 = 1.959964**2 / N
    centre, half = (share + z2 / 2) / (1 + z2), (z2 * share * (1 - share) + z2**2 / 4) ** 0.5 / (1 + z2)
    return centre - half, centre + half


def test_azimuths_tell_packages_apart() -> None:
    """The map's two axes are chosen for that: most of the nearest neighbours in direction are of one package."""
    turn = stored("azimuth", "u1", ("whole", 1.0, 128)) / 128 * np.pi
    near = np.cos(turn[:, None] - turn) - 3 * np.eye(N)
    package = np.array(DATA["package"])
    same = (package[np.argsort(near, axis=1)[:, -5:]] == package[:, None]).mean()
    chance = ((np.bincount(package) / N) ** 2).sum()
    assert same > 2 * chance


@pytest.fixture(params=PAGES)
def explorer(request: pytest.FixtureRequest, browser: Browser, site: Path, address: str) -> Iterator[Locator]:
    """The explorer of a page, offline; in the end the browser has nothing to complain about."""
    if not (site / "book" / f"{request.param}.html").is_file():
        pytest.skip(f"{request.param} is not in this book")
    with opened(browser, f"{address}/book/{request.param}.html") as (tab, complaints):
        tab.context.set_offline(True)
        yield tab.locator("figure[data-explorer=collapse]")
        assert complaints == []


def press(explorer: Locator, **chosen: str) -> None:
    """Choose by the keyboard alone."""
    if not explorer.get_by_role("group", name="Temperature").is_visible():
        explorer.locator("summary").press("Enter")
    for group, name in chosen.items():
        button = explorer.get_by_role("group", name=group).get_by_role("button", name=name, exact=True)
        button.focus()
        button.press("Enter")


def readouts(explorer: Locator) -> tuple[float, float]:
    """The mean cosine and the accuracy that are shown."""
    cosine, accuracy = explorer.locator("dl output").all_text_contents()
    return float(cosine.replace("−", "-")), float(accuracy.removesuffix(" %")) / 100


def test_the_page_shows_the_packages_own_numbers(explorer: Locator, package: Regenerated) -> None:
    slider = explorer.get_by_role("slider")
    slider.focus()
    shown = partial(explorer.locator(".collapse-dot").evaluate_all, "(all) => all.map((dot) => dot.style.transform)")
    for setting in REGENERATED:
        reading, temperature, length = setting
        slider.press("Home")
        for _ in range(DATA["lengths"].index(length)):
            slider.press("ArrowRight")
        words = {"whole": "whole", "pieces": "in pieces", "projected": "mean removed"}[reading]
        press(explorer, **{"Each text is embedded": words, "Temperature": str(temperature)})
        assert slider.get_attribute("aria-valuetext") == f"{length} tokens"
        cosine, accuracy = readouts(explorer)
        assert cosine == pytest.approx(package.mean_cosine(setting), abs=0.0005 + NOISE)
        missed = explorer.locator(".collapse-dot.missed").count()
        assert abs(missed - (package.first(setting) != np.arange(N)).sum()) <= RANKS
        assert accuracy == pytest.approx(1 - missed / N, abs=0.005 + 1e-9)
        places = np.array([re.findall(r"-?[\d.]+(?=px)", place) for place in shown()], float)
        # the map shows up to 101 degrees, and 104 at its border, which is 220 from the centre
        expected = [min(package.angle(setting, text), 101) for text in range(N)]
        assert np.hypot(*places.T) * 104 / 220 == pytest.approx(expected, abs=0.1)


def test_remedies_are_folded_where_the_page_asks_for_it(browser: Browser, site: Path, address: str) -> None:
    for page, folded in (("index", False), ("phenomenon", True)):
        with opened(browser, f"{address}/book/{page}.html") as (tab, _):
            shown = tab.locator("figure[data-explorer=collapse]").get_by_role("group", name="Temperature").is_visible()
            assert shown != folded


def test_what_the_captions_promise() -> None:
    def course(reading: str, lengths: list[int] = DATA["lengths"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Median angle, mean cosine and accuracy by length."""
        settings = [(reading, 1.0, length) for length in lengths]
        angles = [np.median(stored("angle", "<u2", setting)) for setting in settings]
        at = [setting_number(*setting) for setting in settings]
        return np.array(angles), *(np.array([DATA[key][k][0] for k in at]) for key in ("cosine", "accuracy"))

    angle, cosine, accuracy = course("whole")
    assert (np.diff(angle) < 0).all()
    assert (np.diff(accuracy[:4]) > 0).all()  # up to 128 tokens
    assert np.ptp(accuracy[3:]) < 0.02
    _, without, found = course("projected")
    assert np.abs(without).max() < 0.01
    assert np.abs(found - accuracy).max() < 0.04
    _, pieces, fewer = course("pieces", [256, 512])
    assert (fewer < accuracy[4:]).all()
    assert pieces[0] > cosine[4]
    assert pieces[1] < cosine[5]


def test_a_text_is_followed_by_the_keyboard_and_by_pointing(explorer: Locator) -> None:
    detail, angles = explorer.locator(".collapse-detail"), stored("angle", "<u2", ("whole", 1.0, 32)) / 360
    explorer.get_by_role("slider").press("ArrowRight")
    chosen = explorer.get_by_role("combobox", name="Follow a text")
    chosen.focus()
    chosen.press("ArrowDown")
    text = int(chosen.evaluate("(list) => list.value"))
    cosine = np.cos(np.radians(angles[text]))
    assert detail.text_content().startswith(f"{DATA['names'][text]} “{DATA['summaries'][text]}”")
    assert float(re.search(r"cosine (\S+)\. ", detail.text_content())[1]) == pytest.approx(cosine, abs=0.006)
    assert explorer.locator(".collapse-chosen.shown").count() == 1

    dots = explorer.locator(".collapse-dot")
    far = int(angles.argmax())  # by itself, at the border
    dots.nth(far).hover(force=True)
    assert detail.text_content().startswith(DATA["names"][far])
    explorer.locator("figcaption").hover()
    assert detail.text_content().startswith(DATA["names"][text]), "what was chosen is back"


def test_it_works_by_touch(browser: Browser, tmp_path: Path) -> None:
    with explorer_page(browser, "collapse", tmp_path, width=390, **PHONE) as (tab, complaints):
        explorer, detail = tab.locator("figure[data-explorer=collapse]"), tab.locator(".collapse-detail")
        drag(explorer.get_by_role("slider"), 1)
        assert explorer.get_by_role("slider").get_attribute("aria-valuetext") == "512 tokens"
        explorer.get_by_role("button", name="in pieces").tap()
        assert explorer.get_by_role("button", name="in pieces").get_attribute("aria-pressed") == "true"
        explorer.get_by_text("Remedies").tap()
        assert not explorer.get_by_role("group", name="Temperature").is_visible()
        explorer.get_by_role("button", name="Play").tap()
        explorer.get_by_role("button", name="Pause").tap()
        drag(explorer.get_by_role("slider"), 0.2)
        assert explorer.get_by_role("slider").get_attribute("aria-valuetext") == "32 tokens"

        tab.wait_for_timeout(1000)  # until the dots rest
        far = int((stored("angle", "<u2", ("whole", 1.0, 32))).argmax())  # by itself, at the border
        explorer.locator(".collapse-dot").nth(far).tap(force=True)
        assert detail.text_content().startswith(DATA["names"][far])
        # on a phone it stands right below the map, before the numbers
        assert detail.bounding_box()["y"] < explorer.locator(".collapse-side").bounding_box()["y"]
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        assert complaints == []


def test_it_plays_until_paused(explorer: Locator) -> None:
    slider = explorer.get_by_role("slider")
    explorer.get_by_role("button", name="Play").press("Enter")
    assert slider.get_attribute("aria-valuetext") == "32 tokens"
    explorer.page.wait_for_timeout(1600)
    explorer.get_by_role("button", name="Pause").press("Enter")
    reached = slider.get_attribute("aria-valuetext")
    assert reached != "32 tokens"
    explorer.page.wait_for_timeout(1600)
    assert slider.get_attribute("aria-valuetext") == reached


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible_in_use(browser: Browser, site: Path, address: str, scheme: str) -> None:
    with opened(browser, f"{address}/book/phenomenon.html", width=390, scheme=scheme) as (tab, _):
        explorer = tab.locator("figure[data-explorer=collapse]")
        press(explorer, **{"Each text is embedded": "mean removed", "Temperature": "0.8"})
        explorer.get_by_role("combobox").select_option("7")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        assert violations(tab) == {}


def test_it_works_from_a_folder(browser: Browser, site: Path) -> None:
    with opened(browser, (site / "book" / "phenomenon.html").as_uri()) as (tab, complaints):
        assert readouts(tab.locator("figure[data-explorer=collapse]"))[0] > 0
        assert complaints == []


def test_nothing_moves_for_those_who_want_it_so(browser: Browser, address: str, site: Path) -> None:
    for wish, seconds in (("reduce", "0s"), ("no-preference", "0.8s")):
        with browser.new_context(reduced_motion=wish) as context:
            tab = context.new_page()
            tab.goto(f"{address}/book/phenomenon.html")
            dot = tab.locator(".collapse-dot").first
            assert dot.evaluate("(node) => getComputedStyle(node).transitionDuration") == seconds


@pytest.mark.parametrize(("scripts", "medium"), [(True, "print"), (False, "screen"), (False, "print")])
def test_paper_and_browsers_without_scripts_show_one_picture(
    browser: Browser, address: str, site: Path, scripts: bool, medium: str
) -> None:
    with browser.new_context(java_script_enabled=scripts) as context:
        tab = context.new_page()
        tab.goto(f"{address}/book/phenomenon.html")
        tab.emulate_media(media=medium)
        explorer = tab.locator("figure[data-explorer=collapse]")
        assert not explorer.locator(".explorer-root").is_visible()
        (image,) = [one for one in explorer.locator("img").all() if one.is_visible()]
        assert image.bounding_box()["height"] > 100
