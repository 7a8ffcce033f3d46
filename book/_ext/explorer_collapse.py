"""The collapse explorer's data: the texts of chapter 1 at every length, temperature and way of reading.

A text is drawn at its angle from the mean direction of the other texts, as in chapter 1's maps. The direction on the map is
that of the same two axes throughout, so that a text moves steadily: those on which the packages differ most when texts
are read whole. A filled dot is a text that its own summary, as a query, finds first.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import stats
from sentence_transformers import SentenceTransformer

from tempscale import Projection, apply, docstrings, load_model, pairwise_cosine, patch
from tempscale.embeddings.geometry import directions
from tempscale.embeddings.sides import CrossFitted
from tempscale.models import MINILM_SHA256

Array = npt.NDArray[np.floating]

PACKAGES = ("numpy", "pandas", "scipy", "sklearn")
LENGTHS = (16, 32, 64, 128, 256, 512)
TEMPERATURES = (1.2, 1.0, 0.9, 0.8)
PIECE = 128
READINGS = ("whole", "pieces", "projected")
QUERY_TOKENS = 256
STEPS = 360  # of an angle per degree, so that 180 degrees fill two bytes


@dataclass(frozen=True)
class Texts:
    """Chapter 1's texts: the bodies of long docstrings, and the summaries that should find them."""

    names: list[str]
    bodies: list[str]
    summaries: list[str]

    @property
    def packages(self) -> npt.NDArray[np.intp]:
        """The number of each text's package: (n,)."""
        return np.array([PACKAGES.index(name.partition(".")[0]) for name in self.names])


@dataclass(frozen=True)
class Map:
    """What is shown of n texts at one setting; `first` is the text that each summary finds first."""

    angle: Array  # (n,) in degrees, from the mean direction of the others
    azimuth: Array  # (n,) in degrees, 0 to 360
    first: npt.NDArray[np.intp]
    cosine: tuple[float, float, float]  # mean over pairs, and its 95 % interval
    accuracy: tuple[float, float, float]  # and Wilson's 95 % interval


def sample() -> Texts:
    """Draw the texts as chapter 1 does."""
    texts = docstrings(PACKAGES)
    long = texts[texts.pair & (texts.tokens > 600)].sample(200, random_state=0)
    return Texts(long.name.tolist(), long.body.tolist(), long.summary.tolist())


def embed(
    model: SentenceTransformer, texts: Texts, temperature: float, lengths: Sequence[int] = LENGTHS
) -> dict[tuple[str, float, int], tuple[Array, Array]]:
    """Embed the summaries and the bodies, cut after so many tokens: (n, d) each, rows of length 1, by setting."""
    found = {}
    with patch(model, temperature):
        model.max_seq_length = QUERY_TOKENS
        queries = model.encode(texts.summaries).astype(float)
        for length in lengths:
            model.max_seq_length = length
            found["whole", temperature, length] = queries, model.encode(texts.bodies).astype(float)
    model.max_seq_length = max(LENGTHS)
    in_pieces = apply(model, f"temperature({temperature})+pieces({PIECE})")
    for length in lengths:
        _, whole = found["whole", temperature, length]
        # each half of the texts loses the mean direction of the other half
        halves = CrossFitted(Projection(), {"query": (texts.summaries, queries), "document": (texts.bodies, whole)})
        found["projected", temperature, length] = (
            halves.transform(texts.summaries, queries, "query"),
            halves.transform(texts.bodies, whole, "document"),
        )
        if length > PIECE:
            pieces = in_pieces.encode_document(cut(model, texts.bodies, length)).astype(float)
            found["pieces", temperature, length] = queries, pieces
    return found


def cut(model: SentenceTransformer, bodies: list[str], length: int) -> list[str]:
    """Cut each text where its first tokens end, special tokens counted."""
    ends = model.tokenizer(bodies, truncation=True, max_length=length, return_offsets_mapping=True)["offset_mapping"]
    return [body[: max(end for _, end in offsets)] for body, offsets in zip(bodies, ends, strict=True)]


def axes_of(packages: npt.NDArray[np.intp], documents: list[Array]) -> Array:
    """The two axes on which the mean residuals of packages differ most, over some embeddings of the same texts: (2, d)."""
    means = sum(np.stack([residual(x)[packages == k].mean(0) for k in range(len(PACKAGES))]) for x in documents)
    return np.linalg.svd(means - means.mean(0), full_matrices=False)[2][:2]


def residual(x: Array) -> Array:
    """What embeddings have beside their mean direction: (n, d)."""
    mean = x.mean(0)
    return x - (x @ mean)[:, None] * mean / (mean @ mean)


def seen(queries: Array, documents: Array, axes: Array) -> Map:
    """Measure one setting."""
    others = directions(documents.sum(0) - documents)
    angle = np.degrees(np.arccos((documents * others).sum(1)))
    azimuth = np.degrees(np.arctan2(*(residual(documents) @ axes.T).T)) % 360
    first = (queries @ documents.T).argmax(1)
    found = stats.binomtest(int((first == np.arange(len(first))).sum()), len(first))
    ci = found.proportion_ci(method="wilson")
    return Map(angle, azimuth, first, interval(documents), (found.statistic, ci.low, ci.high))


def interval(documents: Array) -> tuple[float, float, float]:
    """Mean cosine over pairs with the 95 % interval of chapter 1, from each text's mean cosine with the others."""
    n = len(documents)
    h = (documents @ documents.sum(0) - 1) / (n - 1)
    half = stats.t.ppf(0.975, n - 1) * 2 * stats.sem(h)
    mean = float(pairwise_cosine(documents).mean())
    return mean, mean - half, mean + half


def settings() -> list[tuple[str, float, int]]:
    """Reading, temperature and length of every map, in the order of the data; pieces only where a text has several."""
    every = [(reading, t, n) for reading in READINGS for t in TEMPERATURES for n in LENGTHS]
    return [(reading, t, n) for reading, t, n in every if reading != "pieces" or n > PIECE]


def measure(texts: Texts) -> list[Map]:
    """All maps, in the order of `settings`."""
    model = load_model("minilm", device="cpu")
    embedded = {}
    for temperature in TEMPERATURES:
        embedded |= embed(model, texts, temperature)
    axes = axes_of(texts.packages, [x for (r, t, _), (_, x) in embedded.items() if (r, t) == ("whole", 1.0)])
    return [seen(*embedded[setting], axes) for setting in settings()]


def packed(values: npt.ArrayLike, dtype: str) -> str:
    """Whole numbers as base64 of little-endian integers."""
    return base64.b64encode(np.rint(values).astype(dtype).tobytes()).decode("ascii")


def data(texts: Texts, maps: list[Map]) -> dict[str, object]:
    """What the script reads: maps as bytes, one after the other, and where they come from."""
    return {
        "made": {
            "command": "python book/_ext/explorer_data.py collapse",
            "model": f"all-MiniLM-L6-v2, sha256 {MINILM_SHA256}",
            "texts": ", ".join(f"{name} {version({'sklearn': 'scikit-learn'}.get(name, name))}" for name in PACKAGES),
            "versions": ", ".join(f"{name} {version(name)}" for name in ("tempscale", "torch", "transformers")),
        },
        "lengths": LENGTHS,
        "temperatures": TEMPERATURES,
        "piece": PIECE,
        "packages": PACKAGES,
        "names": texts.names,
        "summaries": texts.summaries,
        "package": texts.packages.tolist(),
        "angle": packed(np.stack([m.angle for m in maps]) * STEPS, "<u2"),
        "azimuth": packed(np.rint(np.stack([m.azimuth for m in maps]) * 256 / 360) % 256, "u1"),
        "first": packed(np.stack([m.first for m in maps]), "u1"),
        # without their mean direction the texts' own mean cosines do not vary to first order: no interval
        "cosine": [
            [round(x, 4) for x in (m.cosine[:1] if reading == "projected" else m.cosine)]
            for (reading, _, _), m in zip(settings(), maps, strict=True)
        ],
        "accuracy": [[round(x, 4) for x in m.accuracy] for m in maps],
    }


STILL = (16, 128, 512)
COLOURS = ("#0072b2", "#c24f00", "#00855f", "#b04f86")
RADIUS, REACH, GAP, TOP = 150, 108, 20, 34


def still(texts: Texts, maps: dict[tuple[str, float, int], Map]) -> str:
    """The static picture: the map of whole texts at three lengths."""
    scale, wide = RADIUS / REACH, 2 * RADIUS + GAP
    size = f"{len(STILL) * wide - GAP} {2 * RADIUS + TOP + 30}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" font-family="sans-serif" font-size="15">',
        f'<rect width="100%" height="100%" fill="#fff"/><g transform="translate({RADIUS} {RADIUS + TOP})">',
    ]
    for column, length in enumerate(STILL):
        shown = maps["whole", 1.0, length]
        turn, far = np.radians(shown.azimuth), np.minimum(shown.angle, REACH - 3) * scale
        x, y = far * np.cos(turn), -far * np.sin(turn)
        missed = shown.first != np.arange(len(x))
        parts.append(f'<g transform="translate({column * wide} 0)">')
        parts += [f'<circle r="{r * scale:.0f}" fill="none" stroke="#c9c9c9"/>' for r in (30, 60, 90)]
        median = np.median(shown.angle)
        parts.append(f'<circle r="{median * scale:.1f}" fill="#0b4f8f" fill-opacity=".1" stroke="#0b4f8f"/>')
        parts.append('<path d="M-6 0H6M0-6V6" stroke="#000" stroke-width="2"/>')
        for k, colour in enumerate(COLOURS):
            # a line of no length with round ends is a dot
            for chosen, stroke, width in (
                (texts.packages == k, colour, 7),
                ((texts.packages == k) & missed, "#fff", 4),
            ):
                dots = "".join(f"M{a:.1f} {b:.1f}h0" for a, b in zip(x[chosen], y[chosen], strict=True))
                parts.append(f'<path d="{dots}" stroke="{stroke}" stroke-width="{width}" stroke-linecap="round"/>')
        title = f"{length} tokens: mean cosine {shown.cosine[0]:.2f}, {100 * shown.accuracy[0]:.0f} % found"
        parts.append(f'<text y="{-RADIUS - 12}" text-anchor="middle">{title}</text></g>')
    parts.append("</g>")
    for k, (name, colour) in enumerate(zip(PACKAGES, COLOURS, strict=True)):
        at = (len(STILL) * wide - GAP) / 2 + (k - 1.5) * 110
        parts.append(f'<circle cx="{at - 50:.0f}" cy="{2 * RADIUS + TOP + 14}" r="5" fill="{colour}"/>')
        parts.append(f'<text x="{at - 40:.0f}" y="{2 * RADIUS + TOP + 19}">{name}</text>')
    return "\n".join([*parts, "</svg>\n"])


def build(folder: Path) -> None:
    """Write the data and the static picture."""
    texts = sample()
    maps = measure(texts)
    made = json.dumps(data(texts, maps), separators=(",", ":"), ensure_ascii=False)
    (folder / "collapse.json").write_text(made + "\n", "utf-8")
    (folder / "collapse.svg").write_text(still(texts, dict(zip(settings(), maps, strict=True))), "utf-8")
