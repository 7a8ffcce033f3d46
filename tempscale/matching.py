"""Matched results: for each task of a model, the settings and the baseline on the same items."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tempscale.resampling import Floats
from tempscale.store import Store

if TYPE_CHECKING:
    import pandas as pd

MODEL = ["model", "model_hash", "max_seq_length", "dtype"]
CELL = ["task", "split", "subset", "data_hash"]


class Setting(NamedTuple):
    """A temperature or schedule, and where it applies."""

    temperature: str
    layers: str
    apply_to: str


@dataclass(frozen=True)
class Cell:
    """One task, split and subset: k settings against a baseline on n items.

    Attributes:
        main: (k + 1,) main scores, the baseline's first.
        scores: (k + 1, n) of the items, the baseline's first; n is 0 for a task without scores of items.
        tokens: (n,) lengths of the items' texts, NaN where unknown.
        target: (n,) what the scores should rank like, or None where the statistic is a mean.
    """

    task: str
    split: str
    subset: str
    metric: str
    settings: list[Setting]
    main: Floats
    scores: Floats
    tokens: Floats
    target: Floats | None


def cells(store: Store, units: "pd.DataFrame", baseline: float) -> Iterator[Cell]:
    """Yield the cells of one model; `units` are its rows of `store.units()`.

    At baseline 1, where attention is untouched, layers and side do not matter; another baseline is matched on both.

    Raises:
        ValueError: no baseline at all, nothing else, or other items under the same data.

    Warns:
        UserWarning: a task without a baseline; it is left out.
    """
    where = [] if baseline == 1 else ["layers", "apply_to"]
    is_baseline = units.temperature.map(lambda label: as_number(label) == baseline)
    _check(units, is_baseline, baseline)
    for _, cell in units.sort_values(["layers", "apply_to"]).groupby([*CELL, *where]):
        first, others = cell[is_baseline[cell.index]], cell[~is_baseline[cell.index]]
        others = others.iloc[np.argsort(others.temperature.map(_order), kind="stable")]
        if first.empty:
            row = cell.iloc[0]
            warnings.warn(
                f"left out: {row.task} ({row.split}, {row.subset}) has no result of {row.model} at the baseline "
                f"temperature {baseline:g} on the same data",
                stacklevel=3,
            )
        elif not others.empty:
            yield _cell(store, first.iloc[0], others)


def as_number(label: str) -> float | None:
    """Return the number that a temperature's label stands for, or None for a schedule.

    >>> as_number("1.0") == as_number("1") == 1, as_number("LogLength(128)")
    (True, None)
    """
    try:
        return float(label)
    except ValueError:
        return None


def _order(label: str) -> float:
    """Sort hot to cold, schedules last."""
    number = as_number(label)
    return np.inf if number is None else -number


def _check(units: "pd.DataFrame", is_baseline: "pd.Series[bool]", baseline: float) -> None:
    model = units.model.iloc[0]
    others = ", ".join(sorted(set(units.temperature[~is_baseline])))
    if not is_baseline.any():
        raise ValueError(
            f"no results of {model} at the baseline temperature {baseline:g}, only {others}: "
            "evaluate it too, or name another baseline"
        )
    if is_baseline.all():
        raise ValueError(
            f"{model} has results only at the baseline temperature {baseline:g}: evaluate others to compare"
        )


def _cell(store: Store, first: "pd.Series[str]", others: "pd.DataFrame") -> Cell:
    # Without a statistic of items they say nothing, should there be any.
    usable = slice(0 if first.statistic == "none" else None)
    base = store.items(first.id)[usable]
    scores = [base.score.to_numpy()]
    settings = []
    for unit in others.to_dict("records"):
        items = store.items(unit["id"])[usable]
        if not items.item.equals(base.item):
            raise ValueError(
                f"{first.task} ({first.split}, {first.subset}): temperature {unit['temperature']} has other items "
                f"({len(items)}) than the baseline ({len(base)}): evaluate both again into a new folder"
            )
        scores.append(items.score.to_numpy())
        settings.append(Setting(unit["temperature"], unit["layers"], unit["apply_to"]))
    return Cell(
        task=first.task,
        split=first.split,
        subset=first.subset,
        metric=first.metric,
        settings=settings,
        main=np.array([first.main_score, *others.main_score], dtype=np.float64),
        scores=np.stack(scores),
        tokens=base.tokens.to_numpy(dtype=np.float64),
        target=base.target.to_numpy() if first.statistic == "spearman" else None,
    )
