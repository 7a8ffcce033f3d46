"""A comparison for reading: tasks by settings in points, which are hundredths of a score, and what there is to say of it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

from tempscale.comparison.matching import hot_to_cold, listing
from tempscale.evaluation.store import Setting
from tempscale.statistics.intervals import LEVEL

if TYPE_CHECKING:
    import pandas as pd

HEADINGS = ("task", "tokens", "setting", "items", "baseline", "difference", "95 % interval", "p")


class Style(Enum):
    """What a cell says besides the difference: its interval, half the width of that, or nothing."""

    interval = " [{low:+.2f}, {high:+.2f}]"
    half_width = " ±{half:.2f}"
    bare = ""


# A mean says its interval in every style, folded where a cell is narrower.
_OF_MEANS = {
    Style.interval: Style.interval.value,
    Style.half_width: Style.interval.value.replace(" [", "      \n["),  # differences stay below each other
    Style.bare: Style.interval.value.replace(" ", "\n"),
}


@dataclass(frozen=True)
class Cell:
    """A difference in points with its interval, NaN where there is none.

    >>> cell = Cell(0.412, 0.1, 0.724, "*")
    >>> [cell.text(style) for style in Style]
    ['+0.41* [+0.10, +0.72]', '+0.41* ±0.31', '+0.41*']
    """

    difference: float
    low: float
    high: float
    marks: str = ""
    is_mean: bool = False

    def text(self, style: Style) -> str:
        """Return the cell for reading; line breaks are where to fold it."""
        said = points(self.difference, "+") + self.marks
        if np.isnan(self.low):
            return said
        about = _OF_MEANS[style] if self.is_mean else style.value
        return said + about.format(low=self.low, high=self.high, half=(self.high - self.low) / 2)


# Headings in the first row, labels in the first column.
Table = list[list[str | Cell]]


def points(score: float, sign: str = "") -> str:
    """Return a score or a difference in points.

    >>> points(0.25), points(0.25, "+"), points(float("nan"))
    ('0.25', '+0.25', 'NaN')
    """
    return "NaN" if np.isnan(score) else f"{score:{sign}.2f}"


def in_points(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Return a comparison with scores and differences in points."""
    names = ["baseline", "difference", "low", "high", "within", "within_low", "within_high"]
    return frame.assign(**{name: 100 * frame[name] for name in names})


def by_model(frame: "pd.DataFrame") -> Iterator[tuple[str, "pd.DataFrame"]]:
    """Yield the rows of each model, with its name and what else tells it from others."""
    of_model = ["model", "max_seq_length", "dtype"]
    hashes = frame.groupby(of_model).model_hash.transform("nunique")
    for key, rows in frame.groupby([*of_model, "model_hash", "against"], sort=False):
        name, tokens, dtype, model_hash, against = key
        several = hashes[rows.index[0]] > 1
        title = f"{name}{f' ({model_hash})' if several else ''}, {tokens} tokens, {dtype}"
        yield title + (f", against {against}" if against != name else ""), rows


def matrices(rows: "pd.DataFrame") -> Iterator[tuple[str, Table]]:
    """Yield the matrices of a model, each with its title.

    One has tasks and means as its rows, the baseline's score and the settings as its columns; a setting without a result on
    a task has "–" there. Where a baseline other than 1 differs with layers and side, there is one for each of these. The
    last is about benchmarks of several sources, if there are any.

    Args:
        rows: rows of one model, `in_points`.
    """
    tasks = rows[rows.scope == "task"]
    if tasks.empty:  # splits or subsets are missing
        return
    tasks = tasks.assign(label=labels(tasks))
    baselines = tasks.groupby("label").baseline
    first = tasks.assign(baseline=baselines.transform("first"))
    means = _means(rows)
    means = means.assign(label=[f"mean of {tasks:.0f} tasks" for tasks in means.tasks])
    if (baselines.max() - baselines.min()).max() > 0.01:
        for (layers, side), some in tasks.groupby(["layers", "apply_to"], sort=False):
            same = means[(means.layers == layers) & (means.apply_to == side)]
            yield f"{layers} {side}", _table([*_entries(some), *_entries(same)])
    else:
        yield "", _table([*_entries(first), *_entries(means)])
    if (known := tasks[tasks.within.notna()]).size:
        yield "Within the sources of a benchmark", _table(_by_source(known))


def labels(rows: "pd.DataFrame") -> list[str]:
    """Return the task of each row, with split, subset and state of the data where they are not the usual ones."""
    states = rows[rows.task != ""].groupby("task").data_hash.nunique()
    found = []
    for row in rows.to_dict("records"):
        where = [row[name] for name, usual in (("split", "test"), ("subset", "default")) if row[name] != usual]
        state = f"({row['data_hash']})" if states.get(row["task"], 1) > 1 else ""
        found.append(" ".join(part for part in (row["task"], *where, state) if part))
    return found


def setting(row: Mapping[Any, Any]) -> Setting:
    """Return the setting of a row."""
    return Setting(*(row[name] for name in Setting._fields))


# Label and baseline of a table's row, setting, and what is known of it.
_Entry = tuple[str, str, Setting, Cell]


def _entries(rows: "pd.DataFrame") -> Iterator[_Entry]:
    for row in rows.to_dict("records"):
        marks = "" if not row["p_holm"] <= LEVEL else "**" if row["p_holm_all"] <= LEVEL else "*"
        cell = Cell(row["difference"], row["low"], row["high"], marks, row["scope"] == "overall")
        yield row["label"], points(row["baseline"]), setting(row), cell


def _by_source(rows: "pd.DataFrame") -> Iterator[_Entry]:
    for row, (label, baseline, of_row, pooled) in zip(rows.to_dict("records"), _entries(rows), strict=True):
        yield f"{label}, pooled", baseline, of_row, pooled
        within = Cell(row["within"], row["within_low"], row["within_high"])
        yield f"{label}, within {row['sources']:.0f} sources", "", of_row, within


def _table(entries: Iterable[_Entry]) -> Table:
    rows: dict[tuple[str, str], dict[Setting, Cell]] = {}
    for label, baseline, of_entry, cell in entries:
        rows.setdefault((label, baseline), {})[of_entry] = cell
    found = dict.fromkeys(key for row in rows.values() for key in row)
    columns = sorted(found, key=lambda column: hot_to_cold(column.temperature))
    width = max(len(cell.marks) for row in rows.values() for cell in row.values())
    table: Table = [["", "baseline", *(column.label for column in columns)]]
    for (label, baseline), row in rows.items():
        cells = [replace(row[one], marks=row[one].marks.ljust(width)) if one in row else "–" for one in columns]
        table.append([label, baseline, *cells])
    return table


def long_table(rows: "pd.DataFrame") -> list[tuple[str, ...]]:
    """Return rows `in_points` as text, below `HEADINGS`."""
    table: list[tuple[str, ...]] = [HEADINGS]
    for label, row in zip(labels(rows), rows.to_dict("records"), strict=True):
        known = row["low"] == row["low"]
        interval = Style.interval.value.format(low=row["low"], high=row["high"]).strip() if known else ""
        p = f"{row['p_holm']:.2g}{'*' if row['p_holm'] <= LEVEL else ''}" if known else ""
        numbers = (str(row["items"]), points(row["baseline"]), points(row["difference"], "+"), interval, p)
        table.append((label, row["tokens"], setting(row).label, *numbers))
    return table


def held_out(rows: "pd.DataFrame") -> Iterator[str]:
    """Yield a sentence about the choice of a setting on other tasks, if there was one; of one model's rows, `in_points`."""
    for row in rows[rows.scope == "held-out overall"].to_dict("records"):
        gain = Cell(row["difference"], row["low"], row["high"]).text(Style.interval)
        yield f"The setting best on the other tasks changes the score of the one left out by {gain} points, on average."


def families(rows: "pd.DataFrame") -> str:
    """Say over what Holm's correction ran for rows, "" if there was nothing to correct."""
    return listing([family for family in rows.family.unique() if family])


def caption(frame: "pd.DataFrame") -> str:
    """Say what is in the matrices of a comparison."""
    said = "Scores and differences from the baseline are in points, hundredths of the score."
    tasks = frame[(frame.scope == "task") & frame.p_holm.notna()]
    if tasks.empty:
        return said
    resampled = {str(words): list(of_words.task.unique()) for words, of_words in tasks.groupby("interval", sort=False)}
    listed = [f"{words} ({listing(names)})" if len(resampled) > 1 else words for words, names in resampled.items()]
    means = _means(frame[frame.p_holm.notna()])
    number = ((frame.scope == "overall") & frame.p_holm.notna()).sum()
    of_means = (f" (means: {families(means)})", f" (means: the {number} means)") if len(means) else ("", "")
    return (
        f"{said} 95 % intervals, in brackets or as ± half their width, resample {'; '.join(listed)}. * p at most {LEVEL} "
        f"after Holm's correction over {families(tasks)}{of_means[0]}; ** also over the {_differences(len(tasks))}"
        f"{of_means[1]}."
    )


def _means(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Return the rows of means over several tasks."""
    return frame[(frame.scope == "overall") & (frame.tasks > 1)]


def conclusion(frame: "pd.DataFrame") -> str:
    """Say in one sentence which differences are more than chance; of a comparison `in_points`."""
    tested = frame[(frame.scope == "task") & frame.p_holm_all.notna()]
    if tested.empty:
        return "No difference has an interval: there are no tasks with scores of at least ten items."
    real = tested[tested.p_holm_all <= LEVEL]
    means = _means(frame[frame.p_holm_all <= LEVEL])
    of_means = f"; the mean over tasks changes at {_named(means, frame)}" if len(means) else ""
    if len(real):
        up = int((real.difference > 0).sum())
        return (
            f"{len(real)} of {_differences(len(tested))} {'is' if len(real) == 1 else 'are'} more than chance after the "
            f"correction over all of them ({up} up, {len(real) - up} down): {_named(real, frame)}{of_means}."
        )
    said = "No setting changes the score of a task by more than chance would"
    if marked := int((tested.p_holm <= LEVEL).sum()):
        all_of_them = _differences(len(tested))
        said += (
            f", after the correction over the {all_of_them} ({marked} would, marked *, after that over a setting alone)"
        )
    return f"{said}{of_means}."


def _differences(number: int) -> str:
    return f"{number} difference{'s' * (number != 1)} on tasks"


def _named(rows: "pd.DataFrame", frame: "pd.DataFrame") -> str:
    """Return the settings of differences, the largest first."""
    several = frame.model.nunique() > 1
    named = []
    for row in rows.sort_values("difference", key=abs, ascending=False).to_dict("records"):
        where = (f" on {row['task']}" if row["task"] else "") + (f" of {row['model']}" if several else "")
        named.append(f"{setting(row).label}{where} {points(row['difference'], '+')}")
    return listing(named)
