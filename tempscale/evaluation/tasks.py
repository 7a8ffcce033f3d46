"""MTEB tasks by name, and their data: from the hub, or from folders; nothing here needs a network but the download."""

import copy
import difflib
import functools
import hashlib
import random
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

# Tasks of `own_tasks` that have a name; mteb knows the others.
OWN = ("DocstringRetrieval",)

# A name that ends so is a file of pairs.
_FILES = (".csv", ".tsv", ".jsonl", ".ndjson")


@dataclass
class Part:
    """One split and subset of a task: what a score belongs to.

    `folder` holds its data, or is None for data from the hub, or of the task's own making.
    """

    task: Any
    split: str
    subset: str
    folder: Path | None
    _hash: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """The name of the task."""
        return str(self.task.metadata.name)

    @property
    def has_sides(self) -> bool:
        """Whether the task distinguishes queries and documents."""
        from mteb.abstasks import AbsTaskRetrieval

        prompt_types = (getattr(self.task, f"input{number}_prompt_type", None) for number in (1, 2))
        return isinstance(self.task, AbsTaskRetrieval) or any(prompt_types)

    @property
    def data_hash(self) -> str:
        """A hash of the data: of a folder's files, of the hub's name and revision, or of the loaded rows of own tasks."""
        if not self._hash:
            if self.folder:
                self._hash = folder_hash(self.folder)
            elif self._is_of_mteb:
                source = self.task.metadata.dataset
                self._hash = hashlib.sha256(f"{source['path']}@{source['revision']}".encode()).hexdigest()[:16]
            else:
                self.load()
                self._hash = _rows_hash(self.task.dataset)
        return self._hash

    @property
    def data_version(self) -> str:
        """The state of the data, for people: the hash of a folder, the hub's revision, an own task's revision and hash."""
        if self.folder:
            return self.data_hash
        revision = str(self.task.metadata.dataset["revision"])
        return revision if self._is_of_mteb else f"{revision} {self.data_hash}"

    @property
    def _is_of_mteb(self) -> bool:
        return type(self.task).__module__.startswith("mteb.")

    def load(self) -> None:
        """Load the data of the task, of all its parts at once, unless that was done.

        Raises:
            OSError: neither a folder nor the hub has them.
            ValueError: they are not what the task expects.
        """
        from datasets.exceptions import DatasetsError

        from tempscale.evaluation.columns import read_once

        if self.task.data_loaded:
            return
        self.task.rng_state, self.task.np_rng = random.Random(self.task.seed), np.random.default_rng(self.task.seed)
        try:
            with _cache(folder_hash(self.folder) if self.folder else None):
                self.task.load_data()
            read_once(self.task.dataset)
        except (OSError, ValueError, KeyError, ImportError, DatasetsError) as error:
            raise self.unreadable(error) from error

    def unload(self) -> None:
        """Let the data of the task go."""
        self.task.dataset, self.task.data_loaded = None, False

    def fresh(self) -> Any:
        """Return the task for this part alone, with the loaded data and random numbers as after loading.

        So a score does not depend on what was evaluated before.
        """
        task = copy.copy(self.task)
        task.rng_state, task.np_rng = copy.deepcopy((self.task.rng_state, self.task.np_rng))
        task.filter_eval_splits([self.split])
        task.hf_subsets = [self.subset]
        return task

    def unreadable(self, error: Exception) -> Exception:
        """Return one sentence about data that cannot be used."""
        first = (str(error).splitlines() or [""])[0] if not isinstance(error, KeyError) else f"{error} is missing"
        if self.folder or self.task.data_loaded:
            return ValueError(f"cannot use the data of {self.name} in {self.folder or 'the hub'}: {first or error!r}")
        return OSError(
            f"cannot load the data of {self.name} from the hub ({first}): check the network, or put them into a folder "
            f"{self.name} of --data-dir (TEMPSCALE_DATA)"
        )


def find_parts(names: Iterable[Any], data_dir: str | Path | None) -> list[Part]:
    """Return the parts of tasks, in the order of their names, each once.

    Args:
        names: names of tasks and benchmarks ("STS12", "MTEB(eng, v1)", "LongEmbed"), files of pairs ("mine.csv", see
            `tempscale.evaluation.own_tasks`), or task objects of mteb. A task that consists of others (CQADupstackRetrieval)
            stands for those.
        data_dir: folder that holds a folder for a task, of its name; a task without one comes from the hub.

    Raises:
        ValueError: a name that mteb does not know, or a task that is not about text alone.
        NotADirectoryError: data_dir is not a folder.
    """
    if data_dir is not None and not Path(data_dir).is_dir():
        raise NotADirectoryError(
            f"no folder {data_dir}: --data-dir (TEMPSCALE_DATA) names one with a folder for each task"
        )
    tasks = {task.metadata.name: task for name in names for task in _tasks(name)}
    if not tasks:
        raise ValueError("no task given: name at least one, such as STS12 or LongEmbed")
    return [part for task in tasks.values() for part in _parts(task, data_dir)]


def split_names(names: str) -> list[str]:
    """Return the names of a list with commas; those inside brackets belong to a name.

    >>> split_names("STS12, MTEB(eng, v1)")
    ['STS12', 'MTEB(eng, v1)']
    """
    return [name.strip() for name in re.split(r",(?![^(]*\))", names) if name.strip()]


def _parts(task: Any, data_dir: str | Path | None) -> list[Part]:
    if set(task.metadata.modalities) != {"text"}:
        raise ValueError(
            f"{task.metadata.name} has {', '.join(task.metadata.modalities)}: expected a task of text alone"
        )
    folder = Path(data_dir) / task.metadata.name if data_dir is not None else None
    if folder is None or not folder.is_dir():
        folder = None
    elif not any(folder.rglob("*.*")):
        raise ValueError(f"the data folder {folder} is empty: it should hold what the hub has for {task.metadata.name}")
    else:
        # The metadata belong to the class: change a copy.
        source = {**task.metadata.dataset, "path": str(folder)}
        task.metadata = task.metadata.model_copy(update={"dataset": source})
    first = Part(task, "", "", folder)
    return [Part(task, split, subset, folder, first._hash) for split in task.eval_splits for subset in task.hf_subsets]


def _tasks(name: Any) -> list[Any]:
    """Return the tasks that a name stands for."""
    import mteb

    if not isinstance(name, str):
        found = [copy.copy(name)]
    elif name.lower().endswith(_FILES):
        found = [_pairs(name)]
    elif name in OWN:
        from tempscale.evaluation import own_tasks

        found = [getattr(own_tasks, name)()]
    else:
        try:
            found = [mteb.get_task(name)]
        except KeyError:
            if name not in _benchmarks():
                raise ValueError(f"no task or benchmark {name!r} in mteb: {_suggestion(name)}") from None
            found = [copy.copy(task) for task in mteb.get_benchmark(name).tasks]
    return [one for task in found for one in (map(copy.copy, task.tasks) if task.is_aggregate else [task])]


def _pairs(path: str) -> Any:
    from tempscale.evaluation.own_tasks import read_pairs

    try:
        return read_pairs(path)
    except OSError as error:
        raise ValueError(str(error)) from error


@functools.cache
def _benchmarks() -> tuple[str, ...]:
    import mteb

    return tuple(benchmark.name for benchmark in mteb.get_benchmarks())


def _suggestion(name: str) -> str:
    import mteb

    known = [*OWN, *_benchmarks(), *(task.metadata.name for task in mteb.get_tasks())]
    lower = {one.lower(): one for one in known}
    near = [lower[one] for one in difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)]
    return f"did you mean {' or '.join(near)}?" if near else "`mteb available-tasks` lists them"


@functools.cache
def folder_hash(folder: Path) -> str:
    """Return a hash of the names and contents of a folder's files; a folder is taken not to change while we run."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            total.update(f"{path.relative_to(folder).as_posix()} {digest}\n".encode())
    return total.hexdigest()[:16]


def _rows_hash(dataset: Any) -> str:
    """Return a hash of loaded data: dictionaries of whatever mteb keeps in them, down to rows."""
    total = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, dict):
            for key in sorted(value):
                total.update(f"{key}:".encode())
                add(value[key])
        elif hasattr(value, "column_names"):
            for row in value:
                total.update(repr(row).encode())
        else:
            total.update(repr(value).encode())

    add(dataset)
    return total.hexdigest()[:16]


@contextmanager
def _cache(data_hash: str | None) -> Iterator[None]:
    """Keep the cache of `datasets` apart for each state of a folder: it does not notice a changed file."""
    import datasets

    before = datasets.config.HF_DATASETS_CACHE
    if data_hash:
        datasets.config.HF_DATASETS_CACHE = Path(before) / f"tempscale-{data_hash}"
    try:
        yield
    finally:
        datasets.config.HF_DATASETS_CACHE = before
