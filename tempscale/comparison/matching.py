"""Matched results: for each task of a model, the settings and the baseline on the same items."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tempscale.evaluation.store import Setting, Store
from tempscale.statistics.intervals import Floats

if TYPE_CHECKING:
    import pandas as pd

MODEL = ["model", "model_hash", "max_seq_length", "dtype"]
CELL = ["task", "split", "subset", "data_hash"]


class ChoiceError(ValueError):
    """What is to be compared is not in the store, or is ambiguous."""


class OnlyBaselineError(ValueError):
    """A model has nothing to compare with its baseline."""


@dataclass(frozen=True)
class Cell:
    """One task, split and subset: k settings against a baseline on n items.

    Attributes:
        main: (k + 1,) main scores, the baseline's first.
        scores: (k + 1, n) of the items, the baseline's first; n is 0 for a task without scores of items.
        tokens: (n,) lengths of the items' texts, NaN where unknown.
        target: (n,) what the scores should rank like, or None where the statistic is a mean.
        clusters: (n,) labels of items that are not independent of each other, or None where all are.
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
    clusters: npt.NDArray[np.object_] | None


def select_tasks(units: "pd.DataFrame", tasks: Sequence[str] | None) -> "pd.DataFrame":
    """Return the units of some tasks, of all if None, or raise ChoiceError."""
    if tasks is not None:
        there = sorted(set(units.task))
        if unknown := [task for task in tasks if task not in there]:
            raise ChoiceError(f"no results of the task {unknown[0]!r}: there are those of {', '.join(there)}")
        if not tasks:
            raise ChoiceError(f"no task to compare: name some of {', '.join(there)}, or leave tasks out for all")
    return units if tasks is None else units[units.task.isin(tasks)]


def select_model(units: "pd.DataFrame", model: str) -> "pd.DataFrame":
    """Return the units of a model, or raise ChoiceError."""
    found = units[units.model == model]
    if found.empty:
        raise ChoiceError(
            f"no results of the model {model!r} to compare against: there are those of "
            f"{', '.join(sorted(set(units.model)))}"
        )
    return found


def cells(
    store: Store, units: "pd.DataFrame", baseline: float, against: "pd.DataFrame | None" = None
) -> Iterator[Cell]:
    """Yield the cells of one model; `units` are its rows of `store.units()`.

    The baseline has no remedy. At temperature 1, where attention is untouched, layers and side do not matter; another
    baseline is matched on both. With the rows of another model as `against` the baseline is that model's, and the results
    of this one at the baseline temperature are a setting as well. If there are several, the one with the same
    max_seq_length and dtype is taken.

    Raises:
        ValueError: no baseline at all, nothing else, or other items under the same data.
        ChoiceError: several baselines of the other model for one cell.

    Warns:
        UserWarning: a task without a baseline; it is left out.
    """
    where = [] if baseline == 1 else ["layers", "apply_to"]
    candidates = units if against is None else against
    is_baseline = candidates.temperature.map(lambda label: as_number(label) == baseline) & (candidates.remedy == "")
    model = candidates.model.iloc[0]
    _check(candidates, is_baseline, baseline, alone=against is None)
    bases = candidates[is_baseline].sort_values(["layers", "apply_to"])
    settings = units[~is_baseline] if against is None else units
    by_layers = settings.sort_values(["layers", "apply_to", "remedy"])
    for key, others in by_layers.groupby([*CELL, *where]):
        others = others.iloc[np.argsort(others.temperature.map(_order), kind="stable")]
        first = bases[(bases[[*CELL, *where]] == list(key)).all(axis=1)]
        if first.empty:
            row = others.iloc[0]
            warnings.warn(
                f"left out: {row.task} ({row.split}, {row.subset}) has no result of {model} at the baseline "
                f"temperature {baseline:g} on the same data",
                stacklevel=3,
            )
        else:
            yield _cell(store, _the_one(first, others), others)


def _the_one(bases: "pd.DataFrame", others: "pd.DataFrame") -> "pd.Series[str]":
    """Return the baseline of a cell, or raise ChoiceError if several would do."""
    length_and_dtype = ["max_seq_length", "dtype"]
    same = bases[(bases[length_and_dtype] == others[length_and_dtype].iloc[0]).all(axis=1)]
    found = bases if same.empty else same
    kinds = found[MODEL].drop_duplicates().sort_values(MODEL)
    if len(kinds) > 1:
        row = found.iloc[0]
        listed = "; ".join(
            f"hash {one.model_hash}, max_seq_length {one.max_seq_length}, {one.dtype}" for one in kinds.itertuples()
        )
        raise ChoiceError(
            f"{row.task} ({row.split}, {row.subset}) has {len(kinds)} baselines of {row.model} to compare "
            f"{others.model.iloc[0]} with ({listed}): evaluate the model to compare with once, with the same max_seq_length "
            "and dtype, into a folder that holds no other results of it"
        )
    return found.iloc[0]


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


def _check(candidates: "pd.DataFrame", is_baseline: "pd.Series[bool]", baseline: float, *, alone: bool) -> None:
    """Raise ValueError without a baseline among the candidates, or, if they are all that there is, without anything else."""
    model = candidates.model.iloc[0]
    if not is_baseline.any():
        others = ", ".join(sorted(set((candidates.temperature + " " + candidates.remedy).str.rstrip())))
        raise ValueError(
            f"no results of {model} at the baseline temperature {baseline:g}, only {others}: "
            "evaluate it too, or name another baseline"
        )
    if alone and is_baseline.all():
        raise OnlyBaselineError(
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
        settings.append(Setting(*(unit[name] for name in Setting._fields)))
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
        clusters=base.cluster.to_numpy() if first.statistic == "mean" and base.cluster.notna().all() else None,
    )
