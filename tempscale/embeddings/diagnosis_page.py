"""A diagnosis in words, figures and one self-contained HTML page."""

import base64
import io
import itertools
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from tempscale.embeddings.diagnosis import Diagnosis
from tempscale.plots import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

# Name and meaning of the measures.
MEASURES = {
    "mean_cosine": ("mean cosine", "of two different texts; 1 if all embeddings point the same way"),
    "centroid_distance": ("distance to the centroid", "of a text's embedding to the mean of the others, on average"),
    "effective_rank": ("effective rank", "how many directions the embeddings use (RankMe)"),
    "uniformity": ("uniformity", "lower if they cover the sphere more evenly (Wang and Isola)"),
    "isoscore": ("IsoScore", "1 if they vary alike along all axes, 0 if along one only"),
    "hubness": ("hubness", "skew of the numbers of texts that have a text among their 10 nearest"),
    "occurrence": (
        "occurrence as neighbour",
        "among the 10 nearest in a collection of all lengths; above 1, a length takes neighbours from the others",
    ),
    "energy_distance": (
        "distance to the shortest",
        "energy distance of the distributions, and the p-value of a permutation test that they are one",
    ),
}


def verdict(found: Diagnosis) -> list[str]:
    """Return the answers, a sentence each: is there collapse, what of it is pooling, what does a temperature change."""
    cosine = found.cut[found.cut.measure == "mean_cosine"]
    first, last = cosine.iloc[0], cosine.iloc[-1]
    if last.change_low > 0:
        answer = "Yes, there is length collapse"
    elif last.change_high < 0:
        answer = "No, the opposite: longer texts are less alike"
    else:
        answer = f"No length collapse that {last.texts} texts could show"
    sentences = [
        f"{answer}: the mean cosine of different texts goes from {first.value:.3f} at {first.length} tokens to "
        f"{last.value:.3f} at {last.length}, a change of {_signed(last, 'change')}. The mean cosine is 1 if all embeddings "
        "point the same way, and 0 if they have no direction in common; in brackets stands the confidence interval."
    ]
    steps = found.pooling.set_index("effect")
    parts = [f"{name} {_signed(steps.loc[name], 'change')}" for name in steps.index if name not in ("", "total")]
    sentences.append(
        f"From the first {found.piece_tokens} tokens to {found.pieces * found.piece_tokens}, without those that the "
        f"model adds, the mean cosine changes by {_signed(steps.loc['total'], 'change')}. Taken apart: {', '.join(parts)}. "
        "Pooling is what averaging pieces does, without attention between them; attention what reading them together adds."
    )
    longest = found.temperatures[found.temperatures.length == last.length]
    for _, row in longest[longest.temperature != 1].iterrows():
        sentences.append(
            f"At temperature {_named(row.temperature)} the mean cosine at {row.length:g} tokens changes by "
            f"{_signed(row, 'change')}, and the rise from {first.length} tokens, {longest.rise.iloc[0]:.3f}, by "
            f"{_signed(row, 'rise_change')}."
        )
    sentences.append(
        "Whether a search suffers, no cosine tells, only queries with the texts that answer them: tempscale evaluate."
    )
    return sentences


def changes_as_text(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return a `collapse_report` as text: a row per measure, its values at the first and at the last length, the change.

    A distance from the first length is itself the change.
    """
    import pandas as pd

    lengths = table.length.unique()
    first, last = (table[table.length == length].set_index("measure") for length in (lengths[0], lengths[-1]))
    rows = []
    for measure, (title, _) in MEASURES.items():
        end = last.loc[measure]
        if measure in first.index:
            rows.append((title, f"{_number(first.value[measure])} → {_number(end.value)}", _signed(end, "change")))
        else:
            rows.append((title, "", _value(end)))
    return pd.DataFrame(rows, columns=["", f"{lengths[0]} → {lengths[-1]} tokens", "change"])


def measures_as_text(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return a `collapse_report` as text: a row per measure, headed by its title, and a column per length."""
    text = table.assign(text=[_value(row) for row in table.itertuples()])
    wide = text.pivot(index="measure", columns="length", values="text").reindex(list(MEASURES))
    titles = {measure: title for measure, (title, _) in MEASURES.items()}
    return wide[table.length.unique()].fillna("").rename(index=titles).rename_axis(index="", columns=None).reset_index()


@style()
def draw(found: Diagnosis) -> "dict[str, tuple[Figure, str]]":
    """Return the figures by caption, each with its description for those who do not see it."""
    from matplotlib.figure import Figure

    lengths = found.temperatures.length.unique()
    by_temperature = Figure(figsize=(7, 3.4))
    axis = by_temperature.subplots()
    markers = itertools.cycle("os^vD*Xp")
    for tau, part in found.temperatures.groupby("temperature", sort=False):
        axis.plot(part.length, part.mean_cosine, marker=next(markers), label=f"temperature {_named(tau)}")
    cosine = found.cut[found.cut.measure == "mean_cosine"]
    axis.fill_between(lengths, cosine.low.astype(float), cosine.high.astype(float), alpha=0.15)
    axis.set_xscale("log", base=2)
    axis.set(xticks=lengths, xticklabels=lengths, xlabel="tokens", ylabel="mean cosine")
    axis.legend()

    accounting = Figure(figsize=(7, 2.6))
    axis = accounting.subplots()
    steps = found.pooling[found.pooling.effect != ""].iloc[::-1]
    error = [steps.change - steps.change_low, steps.change_high - steps.change]
    axis.errorbar(steps.change, range(len(steps)), xerr=error, marker="o", linestyle="none", capsize=3)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set(yticks=range(len(steps)), yticklabels=steps.effect, xlabel="change of the mean cosine")
    return {
        "The same texts cut to different lengths: mean cosine of different texts. The band is the interval at "
        "temperature 1.": (
            by_temperature,
            "Curves of the mean cosine against the number of tokens, one a temperature.",
        ),
        "What the change from a text's opening to the whole text is made of, with intervals.": (
            accounting,
            "Points with intervals for content, pooling, positions, attention and the total.",
        ),
    }


def html(found: Diagnosis, about: Mapping[str, str]) -> str:
    """Return the report as one page that needs nothing else: no script, no network, texts escaped."""
    import pandas as pd

    title = f"Length collapse in {about['model']}"
    parts = [f"<h1>{escape(title)}</h1>", f"<p>{_COLLAPSE}</p>"]
    parts += [f'<p class="warning"><strong>Warning.</strong> {escape(sentence)}</p>' for sentence in found.warnings]
    parts += [f"<p>{escape(sentence)}</p>" for sentence in verdict(found)]
    parts.append(_table("The same texts, cut: what changes with the number of tokens.", changes_as_text(found.cut)))
    parts.append(_definitions(list(MEASURES.values())))
    for caption, (figure, description) in draw(found).items():
        image = f'<img src="data:image/svg+xml;base64,{_svg(figure)}" alt="{escape(description)}">'
        parts.append(f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>")
    if found.natural is None:
        parts.append(f"<p>{_NO_BINS}</p>")
    else:
        parts.append(_table("Other texts, at their own lengths.", changes_as_text(found.natural)))
    steps = pd.DataFrame(
        {
            "step": found.pooling.condition,
            "mean cosine": found.pooling.cosine.map("{:.3f}".format),
            "effect": found.pooling.effect,
            "change": [_signed(row, "change") if row.effect else "" for row in found.pooling.itertuples()],
            "share of the total": [_share(row) for row in found.pooling.itertuples()],
        }
    )
    caption = f"From the opening, {found.piece_tokens} tokens, to all {found.pieces} pieces of that length."
    parts.append(_table(caption, steps))
    tempered = found.temperatures[found.temperatures.temperature != 1]
    if len(tempered):
        changes = pd.DataFrame(
            {
                "temperature": tempered.temperature.map(_named),
                "tokens": tempered.length,
                "mean cosine": tempered.mean_cosine.map("{:.3f}".format),
                "change": [_signed(row, "change") for row in tempered.itertuples()],
                "change of the rise": [
                    "" if row.length == tempered.length.min() else _signed(row, "rise_change")
                    for row in tempered.itertuples()
                ],
            }
        )
        caption = (
            "Temperatures, against temperature 1. The intervals hold together. Rises are over the shortest length."
        )
        parts.append(_table(caption, changes))
    hubs = found.hubs.assign(text=found.hubs.text.map(_shortened))
    hubs.columns = ["text", *(f"at {name.removeprefix('occurrence_')} tokens" for name in hubs.columns[1:])]
    caption = f"Who is a neighbour of too many: how often a text is among the 10 nearest of the {len(found.texts)}."
    parts.append(_table(caption, hubs))
    tables = [("The same texts, cut", found.cut), ("Other texts, at their own lengths", found.natural)]
    whole = [
        _table(f"{name}: values with intervals, by number of tokens.", measures_as_text(table))
        for name, table in tables
        if table is not None
    ]
    parts.append(f"<details><summary>All measures at all lengths</summary>{''.join(whole)}</details>")
    parts.append(f"<h2>Made with</h2>{_definitions(list(about.items()))}")
    return _PAGE.format(title=escape(title), body="\n".join(parts))


def _table(caption: str, table: "pd.DataFrame") -> str:
    """Return a table with a caption; its first column heads the rows. Cells are escaped by pandas."""
    import pandas as pd

    first = table.columns[0]
    with pd.option_context("display.max_colwidth", None):
        text = table.set_index(first).rename_axis(index=None, columns=first).to_html(border=0)
    head, body = text.replace("<thead>", f"<caption>{escape(caption)}</caption><thead>", 1).split("<tbody>")
    text = head.replace("<th>", '<th scope="col">') + "<tbody>" + body.replace("<th>", '<th scope="row">')
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">{text}</div>'


def _definitions(pairs: Sequence[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(term)}</dt><dd>{escape(meaning)}</dd>" for term, meaning in pairs) + "</dl>"


@style()
def _svg(figure: "Figure") -> str:
    content = io.BytesIO()
    figure.savefig(content, format="svg", metadata={"Date": None})
    return base64.b64encode(content.getvalue()).decode("ascii")


def _named(temperature: Any) -> str:
    return temperature if isinstance(temperature, str) else f"{temperature:g}"


def _number(value: float) -> str:
    return "undefined" if value != value else f"{value:.{1 if abs(value) >= 10 else 3}f}"


def _value(row: Any) -> str:
    p_value = f", p = {row.p_value:.2g}" if row.p_value == row.p_value else ""
    return f"{_number(row.value)} [{_number(row.low)}, {_number(row.high)}]{p_value}"


def _signed(row: Any, name: str) -> str:
    value, low, high = (getattr(row, column) for column in (name, f"{name}_low", f"{name}_high"))
    digits = 1 if abs(value) >= 10 else 3
    return "undefined" if value != value else f"{value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def _share(row: Any) -> str:
    if row.share == row.share:
        return f"{row.share:.0%} [{row.share_low:.0%}, {row.share_high:.0%}]"
    return "the total may be 0" if row.effect else ""


def _shortened(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 120 else f"{words[:119]}…"


_COLLAPSE = "Length collapse: the longer texts are, the more alike are their embeddings, whatever they say."
_NO_BINS = "Other texts at their own lengths are not compared: that takes two ranges of lengths with 40 texts each."

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }}
h1 {{ line-height: 1.2; overflow-wrap: anywhere; }}
figure {{ margin: 2rem 0; }}
img {{ max-width: 100%; height: auto; }}
figcaption, caption {{ text-align: left; color: #444; padding: .4rem 0; }}
.scroll {{ overflow-x: auto; margin: 2rem 0; }}
table {{ border-collapse: collapse; font-size: .9rem; }}
th, td {{ padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #ddd; }}
td {{ font-variant-numeric: tabular-nums; }}
details td {{ white-space: nowrap; }}
th[scope=row] {{ font-weight: normal; min-width: 9rem; overflow-wrap: anywhere; }}
.warning {{ border-left: .3rem solid #b35900; background: #fff4e5; padding: .5rem .8rem; overflow-wrap: anywhere; }}
dt {{ font-weight: 600; }}
dd {{ margin: 0 0 .5rem; overflow-wrap: anywhere; }}
@media (max-width: 40rem) {{
  table {{ font-size: .8rem; }}
  th, td {{ padding-right: .4rem; }}
  th[scope=row] {{ min-width: 4rem; }}
}}
</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""
