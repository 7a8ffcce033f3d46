"""Advice as one self-contained HTML page."""

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

from tempscale.advice.advise import Advice
from tempscale.advice.words import cells
from tempscale.embeddings.page import definitions, drawn, page, table_of
from tempscale.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HOW = """
Every remedy was measured on the same queries, with nDCG@10: 1 if the right document comes first, 0 if it is not among the
first ten. A point is a hundredth of it. Half of the queries choose a remedy and the others judge it, in turn and over many
random halves: the gain at the top is that on queries that did not choose. The intervals in the table hold for all remedies
together, with 90 % confidence, and know nothing of the choice. What a remedy takes away from vectors was learned from other
texts than those it was measured on.
"""


def html(found: Advice, about: Mapping[str, str]) -> str:
    """Return advice as a page: the answer, the table, the figure, what else was seen, and what it was made with."""
    title = f"What helps {about['model']} on these queries"
    answer, *others = found.sentences()
    parts = [f"<h1>{escape(title)}</h1>", f"<p><strong>{escape(answer)}</strong></p>"]
    parts += [f"<p>{escape(sentence)}</p>" for sentence in others]
    caption = f"nDCG@10 on {len(found.scores)} queries; without a remedy {100 * found.baseline:.1f} points."
    parts.append(table_of(caption, cells(found.table)))
    caption = "Differences from the model as it is, with intervals that hold together."
    parts.append(drawn(draw(found), caption, "A point with an interval for each remedy; the numbers are in the table."))
    if found.evidence is not None or found.notes:
        seen = [*(found.evidence.sentences() if found.evidence else ()), *found.notes]
        parts.append(f"<h2>The texts</h2>{''.join(f'<p>{escape(sentence)}</p>' for sentence in seen)}")
    parts.append(f"<h2>How it was measured</h2><p>{escape(_HOW)}</p>")
    parts.append(f"<h2>Made with</h2>{definitions(list(about.items()))}")
    return page(title, parts)


@style()
def draw(found: Advice) -> "Figure":
    """Return a figure of the differences, in points, the recommended remedy filled."""
    from matplotlib.figure import Figure

    table = found.table.iloc[::-1]
    figure = Figure(figsize=(7, 0.8 + 0.36 * len(table)))
    axis = figure.subplots()
    differences = 100 * table[["difference", "low", "high"]].to_numpy(dtype=float)
    for row, (label, (difference, low, high)) in enumerate(zip(table.remedy, differences, strict=True)):
        is_chosen = label == str(found.recommended)
        axis.errorbar(
            difference,
            row,
            xerr=[[difference - low], [high - difference]],
            marker="o",
            color="C1" if is_chosen else "C0",
            markerfacecolor="C1" if is_chosen else "white",
            capsize=3,
        )
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set(yticks=range(len(table)), yticklabels=table.remedy, xlabel="points of nDCG@10 against no remedy")
    return figure
