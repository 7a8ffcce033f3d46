"""A diagnosis in words, figures and one self-contained HTML page."""

import itertools
import shlex
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from tempscale.embeddings.diagnosis import MOST, Diagnosis, neighbours
from tempscale.embeddings.page import definitions, drawn, page, table_of
from tempscale.plots import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

# Name and meaning of the measures.
MEASURES = {
    "mean_cosine": (
        "mean cosine",
        "of two different texts; 1 if all embeddings point the same way, 0 if they have no direction in common",
    ),
    "centroid_distance": ("distance to the centroid", "of a text's embedding to the mean of the others, on average"),
    "effective_rank": ("effective rank", "how many directions the embeddings use (RankMe)"),
    "uniformity": ("uniformity", "lower if they cover the sphere more evenly (Wang and Isola)"),
    "isoscore": ("IsoScore", "1 if they vary alike along all axes, 0 if along one only"),
    "hubness": ("hubness", "skew of the numbers of texts that have a text among their nearest"),
    "occurrence": (
        "occurrence as neighbour",
        "among the nearest in a collection of all lengths; above 1, a length takes neighbours from the others",
    ),
    "energy_distance": (
        "distance to the shortest",
        "energy distance of the distributions, and the p-value of a permutation test that they are one",
    ),
}


# A change of the mean cosine that counts as little: half of the rise of docstrings or reviews from 16 to 256 tokens.
LITTLE = 0.05


class Step(NamedTuple):
    """What to do next: a sentence, and the command that does it, if there is one."""

    sentence: str
    command: str = ""


def answer(found: Diagnosis) -> str:
    """Return whether longer texts are more alike: Yes, No, or Nothing can be told; with the number that decides.

    That is the change of the mean cosine from the shortest to the longest length. The answer is Yes if its whole interval
    is above 0; No if it is below 0, or within 0.05 of it; otherwise nothing can be told. Nor can it where most pairs have a
    text that the model cannot read, and where texts that begin alike show no rise, because what they share makes short cuts
    alike. Other doubts stand behind the Yes or No.
    """
    first, last = _ends(found)
    return (
        f"{_judged(found)[1]}. Their mean cosine goes from {first.value:.3f} at {first.length} tokens to {last.value:.3f} "
        f"at {last.length}, a change of {_signed(last, 'change')}."
    )


def _judged(found: Diagnosis) -> tuple[Literal["yes", "no", "open"], str]:
    """Return the answer, and the sentence that says it."""
    _, last = _ends(found)
    low, high = last.change_low, last.change_high
    cautions = {caution.kind: caution for caution in found.warnings}
    unknown = cautions.get("unknown")
    if unknown and (1 - unknown.texts / unknown.of) ** 2 < 0.5:
        reason = f"{unknown.texts} of {unknown.of} texts have characters that the model cannot read"
        return "open", f"Nothing can be told: {reason}"
    if "alike" in cautions and low <= 0:
        return "open", "Nothing can be told: the texts begin alike, which can hide a rise"
    doubts = "".join(f", {doubt}" for kind, doubt in _DOUBTS.items() if kind in cautions)
    if low > 0:
        little = ", but by little" if high < LITTLE else ""
        return "yes", f"Yes{little}{doubts}: longer texts are more alike to this model"
    if high < 0:
        return "no", f"No, the opposite{doubts}: longer texts are less alike to this model"
    if max(-low, high) <= LITTLE:
        return "no", f"No{doubts}: longer texts are hardly more or less alike to this model"
    return (
        "open",
        f"Nothing can be told: {last.texts} texts leave open whether longer ones are more alike to this model",
    )


_DOUBTS = {
    "alike": "and the rise may be larger, because the texts begin alike",
    "unknown": "as far as the model can read the texts",
    "spelled": "though the model may not know the language of the texts",
}


def verdict(found: Diagnosis) -> list[str]:
    """Return what was found: the `answer`, what of it is pooling, and, a sentence each, what a temperature changes."""
    first, _ = _ends(found)
    steps = found.pooling.set_index("effect")
    parts = [f"{name} {_signed(steps.loc[name], 'change')}" for name in steps.index if name not in ("", "total")]
    sentences = [
        answer(found),
        f"From the first {found.piece_tokens} tokens to {found.pieces * found.piece_tokens}, without those that the "
        f"model adds, the mean cosine changes by {_signed(steps.loc['total'], 'change')}. Taken apart: {', '.join(parts)}. "
        "Pooling is what averaging pieces does, without attention between them; attention what reading them together adds.",
    ]
    longest = _longest(found)
    for _, row in longest[longest.temperature != 1].iterrows():
        sentences.append(
            f"At temperature {_named(row.temperature)} the mean cosine at {row.length:g} tokens changes by "
            f"{_signed(row, 'change')}, and the rise from {first.length} tokens, {longest.rise.iloc[0]:.3f}, by "
            f"{_signed(row, 'rise_change')}."
        )
    return sentences


def next_steps(found: Diagnosis, model: str) -> list[Step]:
    """Return what to do next, from what was found.

    Args:
        found: the diagnosis.
        model: what the model is called on the command line.
    """
    name = shlex.quote(model)
    steps = []
    if any(caution.kind != "few" for caution in found.warnings):
        steps.append(Step("First do what the warning says, and run this again."))
    elif _judged(found)[0] == "open" and len(found.texts) < MOST:
        steps.append(Step(f"Give more texts that are long: up to {MOST} are used, and the intervals become narrower."))
    steps += [
        Step(
            "Alike embeddings do not by themselves mean worse search: what counts is whether the document that answers a "
            "query comes before the others, and no number here tells that."
        ),
        Step(
            "The one way to know is a file of your own queries, at least 40, each with the document that answers it, in the "
            "columns query and document. On one half of them this tries reading in pieces, taking away each side's mean "
            "direction, and temperatures; on the other half it measures what the best of them gains:",
            f"tempscale advise {name} pairs.csv",
        ),
        *map(Step, _worth_a_try(found)),
        Step(
            "Every setting, measured on all pairs, with intervals and by length (then: tempscale compare results):",
            f"tempscale evaluate {name} --tasks pairs.csv --temperatures 1.0,0.9 --out results",
        ),
    ]
    return steps


def _worth_a_try(found: Diagnosis) -> list[str]:
    """Return a sentence for each remedy that the diagnosis says something about."""
    sentences = []
    if found.longer:
        sentences.append(
            f"{found.longer} of {found.given} texts ({100 * found.longer / found.given:.3g}%) are longer than the "
            f"{found.window} tokens that the model reads, and what comes after is not read at all: reading them in pieces "
            "is worth a try."
        )
    judged, _ = _judged(found)
    if judged == "open":
        return sentences
    steps: Any = found.pooling.set_index("effect")
    pooling = steps.loc["pooling"]
    if judged == "yes" and pooling.change_low > 0:
        sentences.append(
            f"Averaging alone makes long texts more alike here, by {_signed(pooling, 'change')}: taking away the mean "
            "direction is aimed at that, and a temperature is not."
        )
    longest = _longest(found)
    tempered = longest[longest.temperature != 1]
    if len(tempered) and judged == "yes":
        best = tempered.sort_values("rise_change").iloc[0]
        names = ", ".join(map(_named, tempered.temperature))
        sentences.append(
            f"Temperature {_named(best.temperature)} makes the rise smaller, by {_signed(best, 'rise_change')} of "
            f"{longest.rise.iloc[0]:.3f}: it is worth a try."
            if best.rise_change_high < 0
            else f"No temperature that was tried ({names}) makes the rise smaller for certain: expect little of one."
        )
    elif len(tempered):
        sentences.append("There is no rise that a temperature could take away.")
    return sentences


def glossary(found: Diagnosis) -> str:
    """Return what the numbers in sentences mean."""
    return (
        f"The mean cosine is {MEASURES['mean_cosine'][1].removeprefix('of two different texts; ')}. In brackets stand "
        f"{100 * found.confidence:g}% intervals."
    )


def _ends(found: Diagnosis) -> tuple[Any, Any]:
    """Return the mean cosine at the shortest and at the longest length."""
    cosine = found.cut[found.cut.measure == "mean_cosine"]
    return cosine.iloc[0], cosine.iloc[-1]


def _longest(found: Diagnosis) -> "pd.DataFrame":
    table: pd.DataFrame = found.temperatures[found.temperatures.length == found.temperatures.length.max()]
    return table


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

    title = f"Are longer texts more alike to {about['model']}?"
    first, *others = verdict(found)
    parts = [f"<h1>{escape(title)}</h1>", f'<p class="answer">{escape(first)}</p>']
    parts += [
        f'<p class="warning"><strong>Warning.</strong> {escape(caution.sentence)}</p>' for caution in found.warnings
    ]
    parts.append(f"<h2>What to do next</h2>{_listed(next_steps(found, about['model']))}")
    parts += ["<h2>What was measured</h2>", f"<p>{escape(glossary(found))}</p>"]
    parts += [f"<p>{escape(sentence)}</p>" for sentence in others]
    parts.append(table_of("The same texts, cut: what changes with the number of tokens.", changes_as_text(found.cut)))
    for caption, (figure, description) in draw(found).items():
        parts.append(drawn(figure, caption, description))
    if found.natural is None:
        parts.append(f"<p>{_NO_BINS}</p>")
    else:
        parts.append(table_of("Other texts, at their own lengths.", changes_as_text(found.natural)))
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
    parts.append(table_of(caption, steps))
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
        parts.append(table_of(caption, changes))
    hubs = found.hubs.assign(text=found.hubs.text.map(_shortened))
    hubs.columns = ["text", *(f"at {name.removeprefix('occurrence_')} tokens" for name in hubs.columns[1:])]
    texts = len(found.texts)
    caption = (
        f"Who is a neighbour of too many: how often a text is among the {neighbours(texts)} nearest of the {texts}."
    )
    parts.append(table_of(caption, hubs))
    tables = [("The same texts, cut", found.cut), ("Other texts, at their own lengths", found.natural)]
    whole = [
        table_of(f"{name}: values with intervals, by number of tokens.", measures_as_text(table))
        for name, table in tables
        if table is not None
    ]
    parts.append(f"<details><summary>All measures at all lengths</summary>{''.join(whole)}</details>")
    parts.append(f"<h2>What the measures mean</h2>{definitions(list(MEASURES.values()))}")
    parts.append(f"<h2>Made with</h2>{definitions(list(about.items()))}")
    return page(title, parts)


def _listed(steps: Sequence[Step]) -> str:
    items = [
        f"<li>{escape(step.sentence)}{f'<br><code>{escape(step.command)}</code>' * bool(step.command)}</li>"
        for step in steps
    ]
    return f"<ul>{''.join(items)}</ul>"


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


_NO_BINS = "Other texts at their own lengths are not compared: that takes two ranges of lengths with 20 texts each."
