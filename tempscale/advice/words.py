"""Remedies, their costs and what was found about them, in plain words."""

from typing import TYPE_CHECKING

from tempscale.embeddings.postprocess import AllButTheTop, Centring, Projection, Whitening
from tempscale.embeddings.remedies import Remedy
from tempscale.encoding.reading import Pieces
from tempscale.patching.schedules import temperature_label

if TYPE_CHECKING:
    import pandas as pd

_SIDES = {"both": "", "query": " for queries", "document": " for documents"}
_POOLS = {"mean": "", "max": ", scored by the best", "mean+max": ", scored by the best and the mean together"}


def in_words(remedy: Remedy) -> str:
    """Return what a remedy does.

    >>> from tempscale import read_remedy
    >>> in_words(read_remedy("pieces(128)+project")), in_words(read_remedy("temperature(0.9, side=query)"))
    ('read in pieces of 128 tokens, take away the mean direction of each side', 'a temperature of 0.9 for queries')
    """
    steps = []
    if not remedy.is_plain:
        _, layers, _ = remedy.labels()
        where = "" if layers == "all" else f" in layers {layers}"
        steps.append(f"a temperature of {temperature_label(remedy.temperature)}{where}{_SIDES[remedy.side]}")
    if remedy.pieces is not None:
        steps.append(_pieces(remedy.pieces))
    match remedy.vectors:
        case Centring():
            steps.append("take away the mean of each side")
        case Projection():
            steps.append("take away the mean direction of each side")
        case AllButTheTop() | Whitening():
            steps.append(f"{remedy.vectors} for each side")
    return ", ".join(steps) or "no remedy"


def _pieces(pieces: Pieces) -> str:
    overlap = f" that overlap by {pieces.overlap}" if pieces.overlap else ""
    late = " after reading them at once" if pieces.late else ""
    return f"read in pieces of {pieces.tokens} tokens{overlap}{late}{_POOLS[pieces.pool]}"


def kind_of_step(remedy: Remedy) -> str:
    """Return what kind of remedy it is, for a sentence about all of a kind.

    >>> from tempscale import read_remedy
    >>> kind_of_step(read_remedy("temperature(0.9)")), kind_of_step(read_remedy("pieces(128)+project"))
    ('A temperature', 'Pieces with a step on vectors')
    """
    kinds = [
        name
        for name, there in (
            ("a temperature", not remedy.is_plain),
            ("pieces", remedy.pieces is not None),
            ("a step on vectors", remedy.vectors is not None),
        )
        if there
    ]
    words = " with ".join(kinds)
    return words[:1].upper() + words[1:]


def points(value: float, sign: str = "+") -> str:
    """Return a difference of scores in points, hundredths.

    >>> points(0.02149), points(-0.001)
    ('+2.1', '-0.1')
    """
    return f"{100 * value:{sign}.1f}"


def cost(tokens: float, vectors: float = 1.0) -> str:
    """Return what a side costs more than without a remedy, from ratios of tokens read and vectors kept.

    >>> cost(1.0), cost(1.26), cost(1.26, 3.4)
    ('none', '1.3 times the tokens', '1.3 times the tokens, 3.4 vectors a text')
    """
    more = [f"{tokens:.1f} times the tokens"] if round(tokens, 1) != 1 else []
    if vectors > 1:
        more.append(f"{vectors:.1f} vectors a text")
    return ", ".join(more) or "none"


def cells(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return the table of an `Advice` as text, for people."""
    import pandas as pd

    each = zip(*(table[name].map(points) for name in ("difference", "low", "high")), strict=True)
    return pd.DataFrame(
        {
            "remedy": table.remedy,
            "extra cost of a query": table.query_cost,
            "of the index": table.index_cost,
            "difference in points": [f"{difference} [{low}, {high}]" for difference, low, high in each],
            "better": table.better.map("{:.0%}".format),
            "worse": table.worse.map("{:.0%}".format),
        }
    )
