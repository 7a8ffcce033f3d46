"""Does a temperature help? Paired differences to a baseline from a store of results: per task, by length, overall."""

import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tempscale.comparison.held_out import leave_one_task_out
from tempscale.comparison.matching import (
    MODEL,
    Cell,
    ChoiceError,
    OnlyBaselineError,
    cells,
    select_model,
    select_tasks,
)
from tempscale.evaluation.store import Setting, Store
from tempscale.statistics.intervals import Floats, holm
from tempscale.statistics.paired import Paired, paired

if TYPE_CHECKING:
    import pandas as pd

# Fewer items, or clusters of them, get no interval: a percentile bootstrap of a handful of values promises too much.
MIN_ITEMS = 10


@dataclass(frozen=True, eq=False)  # the same result, not an equal one
class Result:
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
    choice: str = ""


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
    "remedy",
    "metric",
    "items",
    "choice",
    "baseline",
    "score",
    "difference",
    "low",
    "high",
    "half_width",
    "p",
    "p_holm",
    "model_hash",
    "against",
]


def compare(
    out: str | Path,
    *,
    tasks: Sequence[str] | None = None,
    against: str | None = None,
    baseline: float = 1.0,
    confidence: float = 0.95,
    bins: int | Sequence[float] = 4,
    resamples: int = 4000,
    seed: int = 0,
) -> "pd.DataFrame":
    """Compare every setting in a store with the baseline temperature, on the same items.

    A setting is a temperature or schedule with the layers and the side it applies to, and a remedy for long texts if there
    is one, such as reading them in pieces. It is compared only with the same model, data, max_seq_length and dtype, without
    a remedy. Intervals are percentile bootstrap intervals over items (queries, pairs, rows), p-values those of the paired
    randomisation test (`tempscale.statistics.paired`). Corpora and tasks are fixed: nothing is said about other tasks.

    Args:
        out: folder that `evaluate` wrote.
        tasks: names of the tasks to compare on; all by default. So one chooses on some tasks, and reports on others.
        against: name of a model (`Unit.model`, such as "minilm"): the results of every other model are compared with its
            baseline, on the same items, for instance a whitened copy of a model with the model. Of several baselines of
            that model the one with the same max_seq_length and dtype is taken.
        baseline: temperature to compare with. At 1 layers and side do not matter; another is compared on equal ones.
        confidence: coverage of each interval. Intervals are not corrected for their number; `p_holm` is.
        bins: number of length bins with about equally many items of each task, or inner edges in tokens: [128, 512].
        resamples: number of resamples, of the bootstrap and of the randomisation.
        seed: seed of both. Each task has a stream of its own, whatever else the store holds.

    Returns:
        One row for each comparison; `difference` is score minus baseline, in the units of the score. The scopes are

        - "task", a setting on a task, the mean over its splits and subsets; `p_holm` corrects over a setting's tasks;
        - "part", one split and subset of a task that has several; `p_holm` corrects over the parts of a setting;
        - "length", the items of a part in a bin of `tokens`; `p_holm` corrects over parts and bins of a setting;
        - "overall", the mean over a setting's tasks, each task counting once; `p_holm` corrects over the settings;
        - "held-out", on this task, the setting with the best mean on all *other* tasks; `choice` says whether that is a
          "setting" or the "baseline", which is a candidate too; `p_holm` corrects over tasks;
        - "held-out overall", the mean of those differences, what choosing on some tasks gained on others; its interval
          and p-value repeat the choice in every resample (`tempscale.comparison.held_out`).

        A task without scores of items, or with fewer than ten, has a difference but no interval, and no share in the last
        three. `half_width` is about the smallest difference that the items can tell from none.

    Raises:
        FileNotFoundError: no results in the folder.
        ChoiceError: a task or a model that the store does not have, or several baselines of `against` for one task.
        ValueError: nothing at the baseline temperature, nothing but it, or different items under the same data.

    Warns:
        UserWarning: tasks without a baseline, settings without some parts of a task, or settings that lack tasks of the
            held-out comparison; they are left out.
    """
    import pandas as pd

    with Store(out, create=False) as store:
        units = store.units()
        if units.empty:
            raise ValueError(f"no finished results in {out}: run tempscale evaluate first")
        units = select_tasks(units, tasks)
        other = None if against is None else select_model(units, against)
        rows: list[dict[str, Any]] = []
        problems: list[str] = []
        for _, group in units.groupby(MODEL, sort=False):
            model = {name: group[name].iloc[0] for name in MODEL}
            base = None if model["model"] == against else other
            try:
                matched = list(cells(store, group, float(baseline), base))
            except ChoiceError:
                raise
            except ValueError as error:
                # A model may be there only to be compared against.
                if model["model"] != against or not isinstance(error, OnlyBaselineError):
                    problems.append(str(error))
                continue
            results = [result for cell in matched for result in _results(cell, bins, resamples, seed)]
            model["against"] = model["model"] if base is None else against
            rows += [model | row for row in _compare(results, repr(float(baseline)), confidence)]
    if not rows:
        raise ValueError(problems[0] if problems else f"no task in {out} has both a baseline and another temperature")
    for problem in problems:
        warnings.warn(f"left out: {problem}", stacklevel=2)
    return pd.DataFrame(rows, columns=COLUMNS)


def _compare(results: list[Result], baseline: str, confidence: float) -> Iterator[dict[str, Any]]:
    """Yield the rows of one model."""
    whole = [result for result in results if not result.tokens]
    on_tasks = _by_task(whole)
    tasks: dict[str, dict[Setting, Result]] = {}
    for result in on_tasks:
        if result.sample:
            tasks.setdefault(result.task, {})[result.setting] = result
    settings = list(dict.fromkeys(setting for of_task in tasks.values() for setting in of_task))
    overall = [_average([of_task[s] for of_task in tasks.values() if s in of_task], s) for s in settings]
    yield from _rows("task", on_tasks, confidence)
    yield from _rows("part", [result for result in whole if result not in on_tasks], confidence)
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


def _held_out(
    tasks: dict[str, dict[Setting, Result]], settings: Sequence[Setting], baseline: Setting
) -> Iterator[Result]:
    """Yield for each task the result of the setting that is best on the others, and last their mean."""
    joined = [Paired.join([sample for s in settings if (sample := of_task[s].sample)]) for of_task in tasks.values()]
    choices, mean = leave_one_task_out(joined)
    for of_task, sample, choice in zip(tasks.values(), joined, choices, strict=True):
        result = of_task[settings[choice]]
        if choice < 0:
            same = np.zeros((len(sample.bootstrap), 1))
            nothing = Paired(result.baseline, np.zeros(1), same, same)
            result = replace(result, setting=baseline, difference=0.0, sample=nothing)
        yield replace(result, choice="setting" if choice >= 0 else "baseline")
    items = sum(of_task[settings[0]].items for of_task in tasks.values())
    yield Result(Setting("", "", ""), items, mean.baseline, mean.difference.item(), mean, choice="each")


def _rows(
    scope: str, results: Sequence[Result], confidence: float, *, one_family: bool = False
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
            "choice": result.choice,
            "baseline": result.baseline,
            "score": result.baseline + result.difference,
            "difference": result.difference,
            "low": low,
            "high": high,
            "half_width": (high - low) / 2,
            **dict(zip(("p", "p_holm"), of_result, strict=True)),
        }


def _results(cell: Cell, bins: int | Sequence[float], resamples: int, seed: int) -> Iterator[Result]:
    """Yield the results of a cell's settings on all its items, then on those of each length bin."""
    names = (cell.task, cell.split, cell.subset)
    # Streams by name: two tasks of the same size must not be resampled alike.
    stream = zlib.crc32("/".join(names).encode())
    everything = np.ones(len(cell.tokens), dtype=bool)
    for number, (tokens, chosen) in enumerate([("", everything), *_length_bins(cell.tokens, bins)]):
        scores, target = cell.scores[:, chosen], None if cell.target is None else cell.target[chosen]
        clusters = None if cell.clusters is None else cell.clusters[chosen]
        independent = scores.shape[1] if clusters is None else len(set(clusters))
        if independent >= MIN_ITEMS and (target is None or np.ptp(target) > 0):
            sample = paired(
                scores[0],
                scores[1:],
                target=target,
                clusters=clusters,
                resamples=resamples,
                seed=[seed, stream, number],
            )
            for k, setting in enumerate(cell.settings):
                one = sample.select([k])
                yield Result(
                    setting, scores.shape[1], one.baseline, one.difference.item(), one, *names, cell.metric, tokens
                )
        elif not tokens:
            for setting, score in zip(cell.settings, cell.main[1:], strict=True):
                yield Result(setting, scores.shape[1], cell.main[0], score - cell.main[0], None, *names, cell.metric)


def _average(results: Sequence[Result], setting: Setting, task: str = "") -> Result:
    """Return the mean over results, each counting once; without an interval where one of them has none."""
    samples = [result.sample for result in results if result.sample]
    items = sum(result.items for result in results)
    metric = results[0].metric if task else ""
    if len(samples) < len(results):
        baseline = float(np.mean([result.baseline for result in results]))
        difference = float(np.mean([result.difference for result in results]))
        return Result(setting, items, baseline, difference, None, task, metric=metric)
    sample = Paired.average(samples)
    return Result(setting, items, sample.baseline, sample.difference.item(), sample, task, metric=metric)


def _by_task(parts: Sequence[Result]) -> list[Result]:
    """Return the result of each setting on each task: the mean over its parts, which are its splits and subsets.

    Warns:
        UserWarning: a setting without results of some of a task's parts; it has no result on the task.
    """
    tasks: dict[str, dict[Setting, list[Result]]] = {}
    for part in parts:
        tasks.setdefault(part.task, {}).setdefault(part.setting, []).append(part)
    found = []
    for task, of_task in tasks.items():
        complete = {(part.split, part.subset) for of_setting in of_task.values() for part in of_setting}
        for setting, of_setting in of_task.items():
            if len(of_setting) == len(complete) == 1:
                found += of_setting
            elif {(part.split, part.subset) for part in of_setting} == complete:
                found.append(_average(of_setting, setting, task))
            else:
                warnings.warn(
                    f"{setting.label} on {task}: {len(of_setting)} of its {len(complete)} splits and subsets have results, "
                    "so it has no mean",
                    stacklevel=4,
                )
    return found


def _length_bins(tokens: Floats, bins: int | Sequence[float]) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    """Return the name of each length bin and which items it holds; none where lengths are unknown."""
    if not len(tokens) or np.isnan(tokens).any():
        return []
    edges = np.quantile(tokens, np.arange(1, bins) / bins) if isinstance(bins, int) else np.asarray(bins)
    number = np.searchsorted(np.unique(edges), tokens, side="right")
    held = [number == b for b in np.unique(number)]
    return [(f"{tokens[chosen].min():.0f}-{tokens[chosen].max():.0f}", chosen) for chosen in held]
