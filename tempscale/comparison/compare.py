"""Does a temperature help? Paired differences to a baseline from a store of results: per task, by length, overall."""

import itertools
import warnings
import zlib
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from tempscale.comparison.held_out import leave_one_task_out
from tempscale.comparison.matching import (
    MODEL,
    Cell,
    ChoiceError,
    OnlyBaselineError,
    cells,
    different_versions,
    listing,
    newest,
    select_model,
    select_tasks,
)
from tempscale.evaluation.store import Setting, Store
from tempscale.statistics.intervals import LEVEL, Floats, holm
from tempscale.statistics.paired import Paired, paired
from tempscale.statistics.within import paired_within

if TYPE_CHECKING:
    import pandas as pd

# Fewer items, or clusters of them, get no interval: a percentile bootstrap of a handful of values promises too much.
MIN_ITEMS = 10


@dataclass(frozen=True, eq=False)  # the same result, not an equal one
class Result:
    """A setting against the baseline: on a task, on some of its items, or on average; NaN is what is not known.

    The fields are columns of `compare`, which says what they mean.
    """

    setting: Setting
    items: int
    baseline: float
    difference: float
    low: float = np.nan
    high: float = np.nan
    p: float = np.nan
    task: str = ""
    split: str = ""
    subset: str = ""
    metric: str = ""
    tokens: str = ""
    choice: str = ""
    data_hash: str = ""
    cut: float = np.nan
    prompts: str = ""
    interval: str = ""
    low_conditional: float = np.nan
    high_conditional: float = np.nan
    within: float = np.nan
    within_low: float = np.nan
    within_high: float = np.nan
    within_p: float = np.nan
    sources: float = np.nan
    tasks: float = np.nan


@dataclass
class Task:
    """What was found on a task, on one state of its data.

    Attributes:
        whole: results on the task.
        parts: results on its splits and subsets, where there are several.
        lengths: results on bins of length.
        sampled: settings with intervals on the whole task, in the order of the columns of `sample`.
        sample: what resampling says about them.
        incomplete: settings that lack parts, for people.
        bins: number of length bins.
        missing: number of those without results.
    """

    name: str
    is_newest: bool
    whole: list[Result] = field(default_factory=list)
    parts: list[Result] = field(default_factory=list)
    lengths: list[Result] = field(default_factory=list)
    sampled: list[Setting] = field(default_factory=list)
    sample: Paired | None = None
    incomplete: list[str] = field(default_factory=list)
    bins: int = 0
    missing: int = 0

    def result(self, setting: Setting) -> Result:
        """Return the result of a setting on the task."""
        return next(result for result in self.whole if result.setting == setting)

    def sample_of(self, settings: Sequence[Setting]) -> Paired:
        """Return what resampling says about some of the settings that have intervals."""
        assert self.sample is not None
        columns = [self.sampled.index(setting) for setting in settings]
        return self.sample if columns == list(range(len(self.sampled))) else self.sample.select(columns)


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
    "data_hash",
    "cut",
    "prompts",
    "interval",
    "low_conditional",
    "high_conditional",
    "within",
    "within_low",
    "within_high",
    "within_p",
    "sources",
    "tasks",
    "family",
    "p_holm_all",
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
    versions: Literal["newest", "all"] = "newest",
    lengths: bool = True,
) -> "pd.DataFrame":
    """Compare every setting in a store with the baseline temperature, on the same items.

    For one setting on one task read three columns: `difference`, and `low` and `high`, the ends of its interval. An interval
    that includes zero is no finding.

    A setting is a temperature or schedule with its layers and side, and a remedy if there is one. It is compared with the
    baseline of the same model, data, max_seq_length and dtype, without a remedy. Intervals are percentile bootstrap
    intervals over items (queries, pairs, rows), p-values those of the paired randomisation test
    (`tempscale.statistics.paired`). Corpora and tasks are fixed: nothing is said about other tasks. Items that belong
    together stay together: queries that share a relevant document are resampled together, pairs that share a sentence
    widen the interval (`variance_inflation`), and for a classification the training sets that mteb drew count as drawn.

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
        versions: what to do where the data of a task, or a model, changed under one name: compare on the "newest" alone,
            which is what was measured last, or on "all", each by itself and told apart by `data_hash` and `model_hash`.
            Means over tasks take the newest of a model's data in any case.
        lengths: whether to compare by length, too, which takes most of the time.

    Returns:
        One row for each comparison. Read these columns first.

        - `scope`, what is compared; the list below;
        - `difference`, score minus baseline, in the units of the score, with its interval from `low` to `high`;
        - `half_width`, about the smallest difference that the items can tell from none;
        - `p`, and `p_holm`, corrected for what `family` says; `p_holm_all` corrects over all rows of the scope "task", of
          all settings and models, and likewise over all of "overall", and is NaN elsewhere;
        - `cut`, the share of texts that were cut at max_seq_length, and `prompts`, what was put in front of them, as JSON.

        The scopes:

        - "task", a setting on a task, the mean over its splits and subsets; `p_holm` corrects over a setting's tasks;
        - "part", one split and subset of a task that has several; `p_holm` corrects over the parts of a setting;
        - "length", the items of a part in a bin of `tokens`; `p_holm` corrects over parts and bins of a setting;
        - "overall", the mean over a setting's `tasks`, each task counting once; `p_holm` corrects over the settings that
          were run on the same tasks;
        - "held-out", on this task, the setting with the best mean on all *other* tasks; `choice` says whether that is a
          "setting" or the "baseline", which is a candidate too; `p_holm` corrects over tasks;
        - "held-out overall", the mean of those differences, what choosing on some tasks gained on others; its interval
          and p-value repeat the choice in every resample (`tempscale.comparison.held_out`).

        A task without scores of items, or with fewer than ten, has a difference but no interval, and no share in the last
        three; nor has one whose score is not defined, which has no difference either.

        `interval` says what is resampled: "items", "clusters of items", "items that share texts", "items, training sets
        fixed" or "items and training sets", several of them for a mean. `low`, `high` and `p` hold for other training sets
        as well where the scores with each of them are known, as they are for whole tasks; `low_conditional` and
        `high_conditional` hold for these training sets, and equal `low` and `high` without any.

        `within` is the mean over `sources`, the collections that a task was put together from, of the difference of the
        correlation inside each, with `within_low`, `within_high` and `within_p`: no setting gains there by telling sources
        apart. It is there for correlations over two sources or more that have ten items each, on a single split and subset.

    Raises:
        FileNotFoundError: no results in the folder.
        ChoiceError: a task or a model that the store does not have, or several baselines of `against` for one task.
        ValueError: nothing at the baseline temperature, nothing but it, different items under the same data, or `versions`
            of another name.

    Warns:
        UserWarning: one sentence each about what is left out (tasks without a baseline, older states of a name, units that
            were altered, settings that lack parts or tasks, lengths with too few items), about scores that are not
            defined, about packages that differ, and about a table too large for the number of resamples.

    >>> import tempfile
    >>> from tempscale import docstrings, evaluate
    >>> folder = tempfile.mkdtemp()
    >>> texts = docstrings(["numpy"]).query("pair").head(40)[["summary", "body"]]
    >>> texts.set_axis(["query", "document"], axis=1).to_csv(f"{folder}/mine.csv", index=False)
    >>> _ = evaluate("minilm", f"{folder}/mine.csv", [1.0, 0.5], out=f"{folder}/scores", progress=False)
    >>> table = compare(f"{folder}/scores", lengths=False)
    >>> row = table[table.scope == "task"].iloc[0]
    >>> row.task, row.temperature, bool(row.low < 0 < row.high)
    ('mine', '0.5', True)
    """
    import pandas as pd

    if versions not in ("newest", "all"):
        raise ValueError(f"versions must be 'newest' or 'all', not {versions!r}")
    notes: list[str] = []
    rows: list[dict[str, Any]] = []
    how = _How(confidence, bins, resamples, seed, lengths)
    try:
        # All units are read, to see whether they were altered, and then their items.
        with Store(out, create=False, keep_items=True) as store:
            units = select_tasks(_units(store, out, notes), tasks)
            if versions == "newest":
                units = newest(units, notes)
            rows += _all_rows(store, units, against, float(baseline), how, notes)
        frame = pd.DataFrame(rows, columns=COLUMNS)
        for scope in ("task", "overall"):
            tested = (frame.scope == scope) & frame.p.notna()
            frame.loc[tested, "p_holm_all"] = holm(frame.p[tested])
            if tested.sum() > LEVEL * (resamples + 1):
                notes.append(
                    f"{tested.sum()} differences are too many for {resamples} resamples: corrected over all of them none "
                    f"can reach {LEVEL}; compare fewer tasks at a time, or ask for {round(tested.sum() / LEVEL)} resamples"
                )
        return frame
    finally:
        for note in notes:
            warnings.warn(note, stacklevel=2)


@dataclass(frozen=True)
class _How:
    """How to resample; as the arguments of `compare`."""

    confidence: float
    bins: int | Sequence[float]
    resamples: int
    seed: int
    lengths: bool


def _units(store: Store, out: str | Path, notes: list[str]) -> "pd.DataFrame":
    """Return the units of a store, and note those that were altered."""
    units = store.units()
    if number := len(store.altered):
        names = listing(list(store.altered.values()))
        was, is_left = ("unit was", "is left") if number == 1 else ("units were", "are left")
        notes.append(f"{number} {was} altered since ({names}), and {is_left} out: run evaluate again")
    if units.empty:
        raise ValueError(f"no finished results in {out}: run tempscale evaluate first")
    return units


def _all_rows(
    store: Store, units: "pd.DataFrame", against: str | None, baseline: float, how: _How, notes: list[str]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of all models."""
    other = None if against is None else select_model(units, against)
    if differing := different_versions(units):
        notes.append(differing)
    problems: list[str] = []
    tasks: list[Task] = []
    for _, group in units.groupby(MODEL, sort=False):
        model = {name: group[name].iloc[0] for name in MODEL}
        base = None if model["model"] == against else other
        data = group.groupby("task").data_hash.last()
        try:
            matched = cells(store, group, baseline, base, notes)
            by_task = itertools.groupby(matched, key=lambda cell: (cell.task, cell.data_hash))
            of_model = [_task(name, list(parts), data[name] == state, how) for (name, state), parts in by_task]
        except ChoiceError:
            raise
        except ValueError as error:
            # A model may be there only to be compared against.
            if model["model"] != against or not isinstance(error, OnlyBaselineError):
                problems.append(str(error))
            continue
        model["against"] = model["model"] if base is None else against
        for row in _model_rows(of_model, repr(baseline), how.confidence, notes):
            yield model | row
        tasks += of_model
    if not tasks:
        raise ValueError(
            problems[0] if problems else f"no task in {store.path.parent} has both a baseline and another temperature"
        )
    notes += [f"left out: {problem}" for problem in problems]
    notes += _notes(tasks)


def _notes(tasks: Sequence[Task]) -> Iterator[str]:
    """Yield a sentence for each kind of result that is missing."""
    if incomplete := [name for task in tasks for name in task.incomplete]:
        yield f"without a mean over the splits and subsets of a task, for lack of some: {listing(incomplete)}"
    if undefined := [
        f"{task.name} at {result.setting.label}"
        for task in tasks
        for result in task.whole
        if np.isnan(result.difference)
    ]:
        yield (
            f"not defined, and left out of the means over tasks: {listing(undefined)}; the score of the setting or of its "
            "baseline is NaN, as where all gold scores are equal"
        )
    if short := [f"{task.name} ({task.missing} of {task.bins})" for task in tasks if task.missing]:
        yield (
            f"lengths without a row: {listing(list(dict.fromkeys(short)))}; they have fewer than {MIN_ITEMS} items, or "
            "clusters of them, or nothing to rank"
        )


def _model_rows(tasks: Sequence[Task], baseline: str, confidence: float, notes: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of one model."""
    for scope, by_task in (
        ("task", [task.whole for task in tasks]),
        ("part", [task.parts for task in tasks]),
        ("length", [task.lengths for task in tasks]),
    ):
        results = list(itertools.chain(*by_task))
        yield from _rows(scope, results, [result.setting for result in results])
    sampled = [task for task in tasks if task.sample and task.is_newest]
    settings = list(dict.fromkeys(setting for task in sampled for setting in task.sampled))
    having = {setting: [task for task in sampled if setting in task.sampled] for setting in settings}
    overall = []
    for setting, those in having.items():
        samples = [task.sample_of([setting]) for task in those]
        mean = _average([task.result(setting) for task in those], samples, confidence)
        overall.append(replace(mean, tasks=len(those)))
    # Means over other tasks are no alternatives to one another.
    yield from _rows("overall", overall, [tuple(task.name for task in those) for those in having.values()])
    complete = [setting for setting in settings if all(setting in task.sampled for task in sampled)]
    if len(complete) < len(settings):
        notes.append(
            f"{len(settings) - len(complete)} of {len(settings)} settings lack some of the {len(sampled)} tasks, and are "
            "left out of the held-out comparison"
        )
    if len(sampled) > 1 and complete:
        *held_out, gained = _held_out(sampled, complete, Setting(baseline, "all", "both"), confidence)
        yield from _rows("held-out", held_out, [None] * len(held_out))
        yield from _rows("held-out overall", [gained], [None])


def _held_out(
    tasks: Sequence[Task], settings: Sequence[Setting], baseline: Setting, confidence: float
) -> Iterator[Result]:
    """Yield for each task the result of the setting that is best on the others, and last their mean."""
    choices, mean = leave_one_task_out([task.sample_of(settings) for task in tasks])
    for task, choice in zip(tasks, choices, strict=True):
        result = task.result(settings[choice])
        if choice < 0:
            nothing: dict[str, Any] = dict.fromkeys(_UNKNOWN, 0.0) | {"p": 1.0}
            result = replace(result, setting=baseline, difference=0.0, **nothing, **_NOT_WITHIN)
        yield replace(result, choice="setting" if choice >= 0 else "baseline")
    first = [task.result(settings[0]) for task in tasks]
    yield Result(
        Setting("", "", ""),
        sum(result.items for result in first),
        mean.baseline,
        mean.difference.item(),
        **_uncertainty(mean, confidence)[0],
        choice="each",
        interval=_resampled_by(first),
        tasks=len(tasks),
    )


def _rows(scope: str, results: Sequence[Result], families: Sequence[Hashable]) -> Iterator[dict[str, Any]]:
    """Yield results as rows, with Holm's correction over those of a family; `families` has a label for each result."""
    p_holm, family = np.full(len(results), np.nan), [""] * len(results)
    members: dict[Hashable, list[int]] = {}
    for number, (result, label) in enumerate(zip(results, families, strict=True)):
        if not np.isnan(result.p):
            members.setdefault(label, []).append(number)
    for numbers in members.values():
        p_holm[numbers] = holm([results[number].p for number in numbers])
        for number in numbers:
            family[number] = _family(scope, len(numbers), results[number].tasks)
    for result, corrected, corrected_over in zip(results, p_holm.tolist(), family, strict=True):
        values = {name: value for name, value in vars(result).items() if name != "setting"}
        yield {
            "scope": scope,
            **values,
            **result.setting._asdict(),
            "score": result.baseline + result.difference,
            "half_width": (result.high - result.low) / 2,
            "p_holm": corrected,
            "family": corrected_over,
            "p_holm_all": np.nan,
        }


def _family(scope: str, number: int, tasks: float) -> str:
    """Say over how many tests of which kind Holm's correction ran.

    >>> _family("task", 6, np.nan), _family("overall", 1, 6)
    ('the 6 tasks of this setting', 'the only setting run on these 6 tasks')
    """
    noun, which = {
        "task": ("task", "of this setting"),
        "part": ("part", "of this setting"),
        "length": ("length bin", "of this setting"),
        "overall": ("setting", "run on this task" if tasks == 1 else f"run on these {tasks:.0f} tasks"),
        "held-out": ("task", "held out"),
        "held-out overall": ("mean", "over held-out tasks"),
    }[scope]
    return f"the only {noun} {which}" if number == 1 else f"the {number} {noun}s {which}"


def _task(name: str, parts: Sequence[Cell], is_newest: bool, how: _How) -> Task:
    """Compare on the parts of a task, its splits and subsets, and on their mean."""
    task = Task(name, is_newest)
    found: dict[Setting, list[tuple[Result, Paired | None]]] = {}
    for cell in parts:
        for result, sample in _whole(cell, how):
            found.setdefault(result.setting, []).append((result, sample))
        if how.lengths:
            bins = _length_bins(cell.tokens, how.bins)
            of_bins = [list(_of_length(cell, number, *one, how)) for number, one in enumerate(bins, start=1)]
            task.lengths += itertools.chain(*of_bins)
            task.bins += len(bins)
            task.missing += sum(not results for results in of_bins)
    number = len({(cell.split, cell.subset) for cell in parts})
    samples = []
    for setting, of_setting in found.items():
        results, (*of_parts,) = zip(*of_setting, strict=True)
        if number > 1:
            task.parts += results
        if len(results) < number:
            task.incomplete.append(f"{setting.label} on {name} ({len(results)} of {number})")
            continue
        one, sample = results[0], of_parts[0]
        if number > 1:
            one = replace(_average(results, of_parts, how.confidence), task=name, metric=one.metric)
            sample = None if None in of_parts else Paired.average(of_parts)
        task.whole.append(one)
        if sample is not None:
            task.sampled.append(setting)
            samples.append(sample)
    if samples:
        task.sample = Paired.join(samples)
    return task


def _whole(cell: Cell, how: _How) -> Iterator[tuple[Result, Paired | None]]:
    """Yield the results of a cell's settings on all its items, each with its sample."""
    everything = np.ones(len(cell.tokens), dtype=bool)
    sampled, sample = _resampled(cell, everything, 0, how)
    bare = list(_bare(cell))
    if sample is None:
        yield from ((result, None) for result in bare)
        return
    bounds, within = _uncertainty(sample, how.confidence), _within_sources(cell, sampled, how)
    interval = _interval(cell, everything)
    for k, result in enumerate(bare):
        if k in sampled:
            at = sampled.index(k)
            numbers: dict[str, Any] = {"baseline": sample.baseline, "difference": sample.difference[at].item()}
            yield replace(result, **numbers, **bounds[at], **within[at], interval=interval), sample.select([at])
        else:
            yield result, None


def _of_length(cell: Cell, number: int, tokens: str, chosen: npt.NDArray[np.bool_], how: _How) -> Iterator[Result]:
    """Yield the results of a cell's settings on the items of a length bin."""
    sampled, sample = _resampled(cell, chosen, number, how)
    if sample:
        bare, interval = list(_bare(cell)), _interval(cell, chosen)
        for k, difference, bounds in zip(
            sampled, sample.difference.tolist(), _uncertainty(sample, how.confidence), strict=True
        ):
            numbers: dict[str, Any] = {
                "items": int(chosen.sum()),
                "baseline": sample.baseline,
                "difference": difference,
            }
            yield replace(bare[k], tokens=tokens, **numbers, **bounds, interval=interval)


def _bare(cell: Cell) -> Iterator[Result]:
    """Yield the results of a cell's settings without what takes resampling."""
    base = cell.main[0].item()
    differences = (cell.main[1:] - base).tolist()
    for values in zip(cell.settings, differences, cell.cut.tolist(), cell.prompts, strict=True):
        setting, difference, cut, prompts = values
        yield Result(
            setting,
            cell.scores.shape[1],
            base,
            difference,
            task=cell.task,
            split=cell.split,
            subset=cell.subset,
            metric=cell.metric,
            data_hash=cell.data_hash,
            cut=cut,
            prompts=prompts,
        )


def _resampled(cell: Cell, chosen: npt.NDArray[np.bool_], number: int, how: _How) -> tuple[list[int], Paired | None]:
    """Resample some items under all settings that have scores for them; return which settings those are, too."""
    scores = cell.scores[:, chosen]
    target = None if cell.target is None else cell.target[chosen]
    clusters = None if cell.clusters is None else cell.clusters[chosen]
    independent = scores.shape[1] if clusters is None else len(set(clusters))
    if independent < MIN_ITEMS:
        return [], None
    # What is all equal has no rank correlation.
    if target is not None and not np.ptp(target) > 0:
        return [], None
    defined = [bool(np.isfinite(row).all() and (target is None or np.ptp(row) > 0)) for row in scores]
    sampled = [k for k, is_defined in enumerate(defined[1:]) if is_defined]
    if not defined[0] or not sampled:
        return [], None
    whole = chosen.all()  # with each training set mteb keeps the score of all items alone
    sets = cell.training_sets if whole else None
    sample = paired(
        scores[0],
        scores[1:] if all(defined) else scores[1:][sampled],
        target=target,
        clusters=clusters,
        members=_members(cell, chosen),
        training_sets=None if sets is None else (sets[0], sets[1:][sampled]),
        resamples=how.resamples,
        seed=[*_stream(cell, how), number],
    )
    return sampled, sample


def _stream(cell: Cell, how: _How) -> list[int]:
    """Return the seed of a cell, by its name: two tasks of the same size must not be resampled alike."""
    return [how.seed, zlib.crc32("/".join((cell.task, cell.split, cell.subset)).encode())]


def _members(cell: Cell, chosen: npt.NDArray[np.bool_]) -> list[list[str]] | None:
    """Return the ids of the texts of some items, None where no two of the cell's items share any."""
    return None if cell.members is None else [cell.members[number] for number in np.flatnonzero(chosen)]


def _interval(cell: Cell, chosen: npt.NDArray[np.bool_]) -> str:
    """Say what is resampled for an interval over some items of a cell."""
    if cell.clusters is not None and len(set(cell.clusters)) < len(cell.clusters):
        return "clusters of items"
    if cell.members is not None:
        return "items that share texts"
    if cell.training_sets is not None and chosen.all():
        return "items and training sets"
    return "items, training sets fixed" if cell.is_trained else "items"


def _resampled_by(results: Sequence[Result]) -> str:
    """Say what is resampled for the interval of a mean over results."""
    return "; ".join(sorted({result.interval for result in results}))


_NOT_WITHIN: dict[str, Any] = dict.fromkeys(("within", "within_low", "within_high", "within_p", "sources"), np.nan)


def _within_sources(cell: Cell, sampled: Sequence[int], how: _How) -> list[dict[str, Any]]:
    """Return the columns about differences within sources for some settings of a cell."""
    nothing = [_NOT_WITHIN] * len(sampled)
    if cell.target is None:
        return nothing
    scores = cell.scores[[0, *(k + 1 for k in sampled)]]
    ranked = np.vstack([cell.target, scores])
    sources = [
        source
        for source, number in Counter(source for source in cell.sources if source is not None).items()
        if number >= MIN_ITEMS and (np.ptp(ranked[:, cell.sources == source], axis=1) > 0).all()
    ]
    if len(sources) < 2:
        return nothing
    chosen = np.isin(cell.sources, sources)
    sample = paired_within(
        scores[0, chosen],
        scores[1:, chosen],
        cell.sources[chosen],
        target=cell.target[chosen],
        members=_members(cell, chosen),
        resamples=how.resamples,
        seed=[*_stream(cell, how), 0],
    )
    return [
        {
            "within": difference,
            **{f"within_{name}": bounds[name] for name in ("low", "high", "p")},
            "sources": len(sources),
        }
        for difference, bounds in zip(sample.difference.tolist(), _uncertainty(sample, how.confidence), strict=True)
    ]


def _uncertainty(sample: Paired, confidence: float) -> list[dict[str, Any]]:
    """Return the bounds of the intervals and the p-value of each setting, by the names of the columns."""
    _, low, high = sample.interval(confidence)
    _, low_conditional, high_conditional = sample.interval(confidence, sets_fixed=True)
    columns = {
        "low": low,
        "high": high,
        "p": sample.p_value(),
        "low_conditional": low_conditional,
        "high_conditional": high_conditional,
    }
    return [dict(zip(columns, values, strict=True)) for values in np.stack(list(columns.values()), axis=1).tolist()]


def _average(results: Sequence[Result], samples: Sequence[Paired | None], confidence: float) -> Result:
    """Return the mean over results of a setting, each counting once; without an interval where one has no sample."""
    about = replace(
        results[0],
        items=sum(result.items for result in results),
        task="",
        split="",
        subset="",
        metric="",
        cut=float(np.mean([result.cut for result in results])),
        prompts=_common([result.prompts for result in results]),
        data_hash=_common([result.data_hash for result in results]),
        **_NOT_WITHIN,
    )
    known = [sample for sample in samples if sample]
    # Not the samples' baseline: settings of other layers may be compared with another one.
    means: dict[str, Any] = {
        name: float(np.mean([getattr(result, name) for result in results])) for name in ("baseline", "difference")
    }
    if len(known) < len(results):
        return replace(about, **means, interval="", **_UNKNOWN)
    uncertainty = _uncertainty(Paired.average(known), confidence)[0]
    return replace(about, **means, **uncertainty, interval=_resampled_by(results))


_UNKNOWN: dict[str, Any] = dict.fromkeys(("low", "high", "p", "low_conditional", "high_conditional"), np.nan)


def _common(labels: Sequence[str]) -> str:
    """Return the label that all share, or nothing."""
    return labels[0] if len(set(labels)) == 1 else ""


def _length_bins(tokens: Floats, bins: int | Sequence[float]) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    """Return the name of each length bin and which items it holds; none where lengths are unknown."""
    if not len(tokens) or np.isnan(tokens).any():
        return []
    edges = np.quantile(tokens, np.arange(1, bins) / bins) if isinstance(bins, int) else np.asarray(bins)
    number = np.searchsorted(np.unique(edges), tokens, side="right")
    held = [number == b for b in np.unique(number)]
    return [(f"{tokens[chosen].min():.0f}-{tokens[chosen].max():.0f}", chosen) for chosen in held]
