"""A setting against the baseline, measured: on a task, on the items of one length, or on average over tasks."""

import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tempscale.matching import Cell, Setting
from tempscale.paired import Paired, paired
from tempscale.resampling import Floats

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


def measure(cell: Cell, bins: int | Sequence[float], resamples: int, seed: int) -> Iterator[Result]:
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


def average(results: Sequence[Result], setting: Setting, task: str = "") -> Result:
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


def by_task(parts: Sequence[Result]) -> list[Result]:
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
                found.append(average(of_setting, setting, task))
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
