"""Does a temperature help? Paired differences to a baseline from a store of results: per task, by length, overall."""

import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tempscale.held_out import leave_one_task_out
from tempscale.matching import MODEL, Cell, Setting, cells
from tempscale.paired import Paired, paired
from tempscale.resampling import Floats
from tempscale.stats import holm
from tempscale.store import Store

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = [
    "scope",
    "model",
    "max_seq_length",
    "dtype",
    "task",
    "split",
    "subset",
    "tokens",
    "temperature",
    "layers",
    "apply_to",
    "metric",
    "items",
    "baseline",
    "score",
    "difference",
    "low",
    "high",
    "half_width",
    "p",
    "p_holm",
    "model_hash",
]

# Fewer items than this get no interval: a percentile bootstrap of a handful of values promises too much.
MIN_ITEMS = 10


def compare(
    out: str | Path,
    *,
    baseline: float = 1.0,
    confidence: float = 0.95,
    bins: int | Sequence[float] = 4,
    resamples: int = 4000,
    seed: int = 0,
) -> "pd.DataFrame":
    """Compare every setting in a store with the baseline temperature, on the same items.

    A setting is a temperature or schedule with the layers and the side it applies to. It is compared only with the same
    model, data, max_seq_length and dtype. Intervals are percentile bootstrap intervals over items (queries, pairs, rows),
    p-values those of the paired randomisation test (`tempscale.paired`). Corpora and tasks are fixed: nothing is said about
    other tasks than these.

    Args:
        out: folder that `evaluate` wrote.
        baseline: the temperature to compare with. At 1 layers and side do not matter; another is compared on equal ones.
        confidence: of each interval. Intervals are not corrected for their number; `p_holm` is.
        bins: number of length bins with about equally many items of each task, or inner edges in tokens: [128, 512].
        resamples: of the bootstrap and of the randomisation.
        seed: of both. Each task has a stream of its own, whatever else the store holds.

    Returns:
        One row for each comparison; `difference` is score minus baseline, in the units of the score. The scopes are

        - "task", a setting on a task (split, subset); `p_holm` corrects over the tasks of a setting;
        - "length", the items of a task in a bin of `tokens`; `p_holm` corrects over tasks and bins of a setting;
        - "overall", the mean over a setting's tasks, each task counting once; `p_holm` corrects over the settings;
        - "held-out", on this task, the setting with the best mean on all *other* tasks (the baseline is a candidate);
          `p_holm` corrects over tasks;
        - "held-out overall", the mean of those differences, what choosing on some tasks gained on others; its interval
          and p-value repeat the choice in every resample (`tempscale.held_out`).

        A task without scores of items, or with fewer than ten, has a difference but no interval, and no part in the last
        three. `half_width` is about the smallest difference that the items can tell from none.

    Raises:
        FileNotFoundError: no results in the folder.
        ValueError: nothing at the baseline temperature, nothing but it, or different items under the same data.

    Warns:
        UserWarning: tasks without a baseline, or settings that lack tasks of the held-out comparison; they are left out.
    """
    import pandas as pd

    with Store(out, create=False) as store:
        units = store.units()
        if units.empty:
            raise ValueError(f"no finished results in {out}: run tempscale evaluate first")
        rows: list[dict[str, Any]] = []
        problems: list[str] = []
        for _, group in units.groupby(MODEL, sort=False):
            model = {name: group[name].iloc[0] for name in MODEL}
            try:
                matched = list(cells(store, group, float(baseline)))
            except ValueError as error:
                problems.append(str(error))
                continue
            results = [result for cell in matched for result in _measure(cell, bins, resamples, seed)]
            rows += [model | row for row in _compare(results, f"{baseline:g}", confidence)]
    if not rows:
        raise ValueError(problems[0] if problems else f"no task in {out} has both a baseline and another temperature")
    for problem in problems:
        warnings.warn(f"left out: {problem}", stacklevel=2)
    return pd.DataFrame(rows, columns=COLUMNS)


@dataclass(frozen=True)
class _Result:
    """A setting against the baseline: on a task, on some of its items, or on average."""

    setting: Setting
    items: int
    baseline: float
    difference: float
    sample: Paired | None
    task: str = ""
    split: str = ""
    subset: str = ""
    metric: str = ""
    tokens: str = ""


def _measure(cell: Cell, bins: int | Sequence[float], resamples: int, seed: int) -> Iterator[_Result]:
    """Yield the results of a cell's settings on all its items, then on those of each length bin."""
    names = (cell.task, cell.split, cell.subset)
    # Streams by name: two tasks of the same size must not be resampled alike.
    stream = zlib.crc32("/".join(names).encode())
    everything = np.ones(len(cell.tokens), dtype=bool)
    for number, (tokens, chosen) in enumerate([("", everything), *_length_bins(cell.tokens, bins)]):
        scores, target = cell.scores[:, chosen], None if cell.target is None else cell.target[chosen]
        if scores.shape[1] >= MIN_ITEMS and (target is None or np.ptp(target) > 0):
            sample = paired(scores[0], scores[1:], target=target, resamples=resamples, seed=[seed, stream, number])
            for k, setting in enumerate(cell.settings):
                one = sample.select([k])
                yield _Result(
                    setting, scores.shape[1], one.baseline, one.difference.item(), one, *names, cell.metric, tokens
                )
        elif not tokens:
            for setting, score in zip(cell.settings, cell.main[1:], strict=True):
                yield _Result(setting, scores.shape[1], cell.main[0], score - cell.main[0], None, *names, cell.metric)


def _length_bins(tokens: Floats, bins: int | Sequence[float]) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    """Return the name of each length bin and which items it holds; none where lengths are unknown."""
    if not len(tokens) or np.isnan(tokens).any():
        return []
    edges = np.quantile(tokens, np.arange(1, bins) / bins) if isinstance(bins, int) else np.asarray(bins)
    number = np.searchsorted(np.unique(edges), tokens, side="right")
    held = [number == b for b in np.unique(number)]
    return [(f"{tokens[chosen].min():.0f}-{tokens[chosen].max():.0f}", chosen) for chosen in held]


def _compare(results: list[_Result], baseline: str, confidence: float) -> Iterator[dict[str, Any]]:
    """Yield the rows of one model."""
    whole = [result for result in results if not result.tokens]
    by_task: dict[str, dict[Setting, list[_Result]]] = {}
    for result in whole:
        if result.sample:
            by_task.setdefault(result.task, {}).setdefault(result.setting, []).append(result)
    tasks = {
        task: {setting: _average(of_setting, setting, task) for setting, of_setting in of_task.items()}
        for task, of_task in by_task.items()
    }
    settings = list(dict.fromkeys(setting for of_task in tasks.values() for setting in of_task))
    overall = [_average([of_task[s] for of_task in tasks.values() if s in of_task], s) for s in settings]
    yield from _rows("task", whole, confidence)
    yield from _rows("length", [result for result in results if result.tokens], confidence)
    yield from _rows("overall", overall, confidence, one_family=True)
    complete = [setting for setting in settings if all(setting in of_task for of_task in tasks.values())]
    if len(complete) < len(settings):
        warnings.warn(
            f"{len(settings) - len(complete)} of {len(settings)} settings lack some of the {len(tasks)} tasks, and are "
            "left out of the held-out comparison",
            stacklevel=3,
        )
    if len(tasks) > 1 and complete:
        held_out = list(_held_out(tasks, complete, Setting(baseline, "all", "both")))
        yield from _rows("held-out", held_out[:-1], confidence, one_family=True)
        yield from _rows("held-out overall", held_out[-1:], confidence)


def _average(results: Sequence[_Result], setting: Setting, task: str = "") -> _Result:
    """Return the mean over results, each counting once."""
    sample = Paired.average([result.sample for result in results if result.sample])
    items = sum(result.items for result in results)
    return _Result(setting, items, sample.baseline, sample.difference.item(), sample, task)


def _held_out(
    tasks: dict[str, dict[Setting, _Result]], settings: Sequence[Setting], baseline: Setting
) -> Iterator[_Result]:
    """Yield for each task the result of the setting that is best on the others, and last their mean."""
    joined = [Paired.join([sample for s in settings if (sample := of_task[s].sample)]) for of_task in tasks.values()]
    choices, mean = leave_one_task_out(joined)
    for of_task, sample, choice in zip(tasks.values(), joined, choices, strict=True):
        result = of_task[settings[choice]]
        if choice < 0:
            same = np.zeros((len(sample.bootstrap), 1))
            nothing = Paired(result.baseline, np.zeros(1), same, same)
            result = replace(result, setting=baseline, difference=0.0, sample=nothing)
        yield result
    items = sum(of_task[settings[0]].items for of_task in tasks.values())
    yield _Result(Setting("chosen", "", ""), items, mean.baseline, mean.difference.item(), mean)


def _rows(
    scope: str, results: Sequence[_Result], confidence: float, *, one_family: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield results as rows, with Holm's correction over those of a setting, or over all."""
    p = np.array([result.sample.p_value().item() if result.sample else np.nan for result in results])
    p_holm = p.copy()
    family = np.array(["" if one_family else str(result.setting) for result in results])
    for name in np.unique(family):
        members = (family == name) & ~np.isnan(p)
        p_holm[members] = holm(p[members])
    for result, *of_result in zip(results, p, p_holm, strict=True):
        low = high = np.nan
        if result.sample:
            _, low, high = (bound.item() for bound in result.sample.interval(confidence))
        yield {
            "scope": scope,
            **{name: getattr(result, name) for name in ("task", "split", "subset", "metric", "tokens", "items")},
            **result.setting._asdict(),
            "baseline": result.baseline,
            "score": result.baseline + result.difference,
            "difference": result.difference,
            "low": low,
            "high": high,
            "half_width": (high - low) / 2,
            **dict(zip(("p", "p_holm"), of_result, strict=True)),
        }
