"""Matched results: for each task of a model, the settings and the baseline on the same items."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tempscale.evaluation.store import NO_ITEMS, Setting, Store
from tempscale.statistics.intervals import Floats

if TYPE_CHECKING:
    import pandas as pd

MODEL = ["model", "model_hash", "max_seq_length", "dtype"]
CELL = ["task", "data_hash", "split", "subset"]


class ChoiceError(ValueError):
    """What is to be compared is not in the store, or is ambiguous."""


class OnlyBaselineError(ValueError):
    """A model has nothing to compare with its baseline."""


@dataclass(frozen=True)
class Cell:
    """One task, split and subset: k settings against a baseline on n items.

    Attributes:
        cut: (k,) shares of texts that the settings cut at the window, NaN where unknown.
        prompts: of the k settings, as in `Measured`; "" where unknown.
        main: (k + 1,) main scores, the baseline's first.
        scores: (k + 1, n) of the items, the baseline's first; n is 0 for a task without scores of items.
        tokens: (n,) lengths of the items' texts, NaN where unknown.
        target: (n,) what the scores should rank like, or None where the statistic is a mean.
        clusters: (n,) labels of items that are not independent of each other, or None where all are.
        members: ids of the texts of each of the n items, where items share some; None where none does, or that is unknown.
        sources: (n,) names of the collections that the items come from, None where unknown.
        training_sets: (k + 1, S) main scores with each of the S training sets of a classification, the baseline's first;
            None where there are none, or some unit did not keep them. All settings have the same sets.
        is_trained: whether the items' scores depend on training sets.
    """

    task: str
    split: str
    subset: str
    data_hash: str
    metric: str
    settings: list[Setting]
    cut: Floats
    prompts: list[str]
    main: Floats
    scores: Floats
    tokens: Floats
    target: Floats | None
    clusters: npt.NDArray[np.object_] | None
    members: list[list[str]] | None
    sources: npt.NDArray[np.object_]
    training_sets: Floats | None
    is_trained: bool


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


def newest(units: "pd.DataFrame", notes: list[str]) -> "pd.DataFrame":
    """Return the units of the newest state of what bears one name; `notes` gets a sentence about the others, if any.

    A model is known by its name and dtype, whose weights differ; of several under one name the one counts that was measured
    last. Then the same goes for the data of a task.

    Args:
        units: rows of `Store.units()`, the oldest first.
    """
    left_out = []
    for name, state, kind in ((["model", "dtype"], "model_hash", "model"), (["task"], "data_hash", "data")):
        is_newest = units[state] == units.groupby(name)[state].transform("last")
        for one, of_name in (~is_newest).groupby(units[name[0]]):
            if of_name.any():
                other = f"{'another' if kind == 'model' else 'other'} {kind}"
                left_out.append(f"{one}, {of_name.sum()} of {_units(len(of_name))} of {other}")
        units = units[is_newest]
    if left_out:
        notes.append(
            f"older results under the same name are left out ({'; '.join(left_out)}): versions='all' (--versions all) "
            "shows them, too"
        )
    return units


def different_versions(units: "pd.DataFrame") -> str:
    """Return one sentence about packages of which units were measured with several versions, "" if there are none."""
    found = {text: json.loads(text) for text in units.versions.unique()}
    packages = sorted({package for versions in found.values() for package in versions})
    differing = []
    for package in packages:
        counts = Counter(str(found[text].get(package, "none")) for text in units.versions)
        if len(counts) > 1:
            listed = ", ".join(f"{version} in {_units(number)}" for version, number in counts.items())
            differing.append(f"{package} ({listed})")
    if not differing:
        return ""
    mixed = [str(key[0]) for key, of_task in units.groupby(["task", *MODEL]).versions if of_task.nunique() > 1]
    where = f", also on one task ({listing(list(dict.fromkeys(mixed)))})" if mixed else ""
    return (
        f"measured with different versions of {'; '.join(differing)}{where}: a difference may be the package's; evaluate "
        "everything again into a new folder to rule that out"
    )


def _units(number: int) -> str:
    return f"{number} unit{'s' * (number != 1)}"


def listing(names: Sequence[str], most: int = 5) -> str:
    """Return names for a sentence, the first few of them.

    >>> listing(["A", "B"]), listing(["A", "B", "C", "D"], 2)
    ('A, B', 'A, B and 2 more')
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def cells(
    store: Store,
    units: "pd.DataFrame",
    baseline: float,
    against: "pd.DataFrame | None",
    notes: list[str],
) -> Iterator[Cell]:
    """Yield the cells of one model; `units` are its rows of `store.units()`.

    The baseline has no remedy. At temperature 1, where attention is untouched, layers and side do not matter; another
    baseline is matched on both. With the rows of another model as `against` the baseline is that model's, and the results
    of this one at the baseline temperature are a setting as well. If there are several, the one with the same
    max_seq_length and dtype is taken. A task without a baseline is left out, of which `notes` gets a sentence.

    Raises:
        ValueError: no baseline at all, nothing else, or other items under the same data.
        ChoiceError: several baselines of the other model for one cell.
    """
    where = [] if baseline == 1 else ["layers", "apply_to"]
    candidates = units if against is None else against
    is_baseline = candidates.temperature.map(lambda label: as_number(label) == baseline) & (candidates.remedy == "")
    model = candidates.model.iloc[0]
    _check(candidates, is_baseline, baseline, alone=against is None)
    key = [*CELL, *where]
    bases = dict(list(candidates[is_baseline].sort_values(["layers", "apply_to"]).groupby(key)))
    settings = units[~is_baseline] if against is None else units
    by_layers = settings.sort_values(["layers", "apply_to", "remedy"])
    alone: dict[str, None] = {}
    for of_cell, others in by_layers.groupby(key):
        others = others.iloc[np.argsort(others.temperature.map(hot_to_cold), kind="stable")]
        if of_cell in bases:
            yield _cell(store, _the_one(bases[of_cell], others), others)
        else:
            row = others.iloc[0]
            alone[f"{row.task} ({row.split}, {row.subset})"] = None
    if alone:
        notes.append(
            f"left out: {listing(list(alone))} {'has' if len(alone) == 1 else 'have'} no result of {model} at the baseline "
            f"temperature {baseline!r} on the same data"
        )


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


def hot_to_cold(label: str) -> float:
    """Sort hot to cold, schedules last."""
    number = as_number(label)
    return np.inf if number is None else -number


def _check(candidates: "pd.DataFrame", is_baseline: "pd.Series[bool]", baseline: float, *, alone: bool) -> None:
    """Raise ValueError without a baseline among the candidates, or, if they are all that there is, without anything else."""
    model = candidates.model.iloc[0]
    if not is_baseline.any():
        others = ", ".join(sorted(set((candidates.temperature + " " + candidates.remedy).str.rstrip())))
        raise ValueError(
            f"no results of {model} at the baseline temperature {baseline!r}, only {others}: "
            "evaluate it too, or name another baseline"
        )
    if alone and is_baseline.all():
        raise OnlyBaselineError(
            f"{model} has results only at the baseline temperature {baseline!r}: evaluate others to compare"
        )


def _cell(store: Store, first: "pd.Series[str]", others: "pd.DataFrame") -> Cell:
    tables = [store.item_table(unit_id) for unit_id in (first.id, *others.id)]
    if first.statistic == "none":  # the items say nothing, should there be any
        tables = [NO_ITEMS] * len(tables)
    base = tables[0]
    names = base.column("item")
    for temperature, items in zip(others.temperature, tables[1:], strict=True):
        # Of one opening of a store equal labels are often the same, which is seen at once.
        if items.labels is not base.labels and items.column("item") != names:
            raise ValueError(
                f"{first.task} ({first.split}, {first.subset}): temperature {temperature} has other items "
                f"({len(items.scores)}) than the baseline ({len(names)}): evaluate both again into a new folder"
            )
    clusters = base.column("cluster")
    tokens, target = (np.array(base.column(name), dtype=np.float64) for name in ("tokens", "target"))
    main = np.array([first.main_score, *others.main_score], dtype=np.float64)
    is_trained = first.task_type in _TRAINED and first.statistic == "mean"
    return Cell(
        task=first.task,
        split=first.split,
        subset=first.subset,
        data_hash=first.data_hash,
        metric=first.metric,
        settings=[Setting(*row) for row in others[list(Setting._fields)].itertuples(index=False)],
        cut=others.cut.to_numpy(dtype=np.float64),
        prompts=[prompts if isinstance(prompts, str) else "" for prompts in others.prompts],
        main=main,
        scores=np.stack([table.scores for table in tables]),
        tokens=tokens,
        target=target if first.statistic == "spearman" else None,
        clusters=np.array(clusters, dtype=object) if first.statistic == "mean" and None not in clusters else None,
        members=_shared(base.column("texts")),
        sources=np.array(base.column("source"), dtype=object),
        training_sets=_training_sets([first["scores"], *others["scores"]], first.metric, main) if is_trained else None,
        is_trained=is_trained,
    )


# Types of tasks of mteb whose score is a mean over training sets that it draws, from the same seed for every model.
_TRAINED = ("Classification", "MultilabelClassification")


def _shared(texts: Sequence[str | None]) -> list[list[str]] | None:
    """Return the ids of the texts of each item, if two items share one.

    >>> _shared(["a b", "b c"]), _shared(["a a", "b c"]), _shared([None, "b c"])
    ([['a', 'b'], ['b', 'c']], None, None)
    """
    members = [ids.split() for ids in texts if ids is not None]
    number = Counter(one for ids in members for one in set(ids))
    return members if len(members) == len(texts) and max(number.values(), default=0) > 1 else None


def _training_sets(scores: Sequence[str], metric: str, main: Floats) -> Floats | None:
    """Return the score with each training set, (units, S), from mteb's scores as JSON; None where they are not known.

    >>> _training_sets(['{"scores_per_experiment": [{"accuracy": 0.5}, {"accuracy": 0.7}]}'], "accuracy", np.array([0.6]))
    array([[0.5, 0.7]])
    """
    units = [json.loads(text).get("scores_per_experiment", []) for text in scores]
    if min(map(len, units)) < 2 or len(set(map(len, units))) > 1:
        return None
    sets = np.array([[of_set.get(metric, np.nan) for of_set in unit] for unit in units], dtype=np.float64)
    return sets if np.allclose(sets.mean(axis=1), main, rtol=0, atol=1e-6) else None
