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

from tempscale.evaluation.pair_files import is_pair_file
from tempscale.texts.files import TABLES

# Tasks of `own_tasks` that have a name; mteb knows the others.
OWN = ("DocstringRetrieval",)

# A name that ends so, or has a folder before it, is a file, but none of pairs.
_NO_PAIRS = (
    ".txt",
    ".text",
    ".md",
    ".pdf",
    ".xlsx",
    ".xls",
    ".ods",
    ".docx",
    ".zip",
    ".arrow",
    ".gz",
    ".bz2",
    ".xz",
    ".db",
)


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
            self._check_values()
        except (OSError, ValueError, KeyError, ImportError, StopIteration, DatasetsError) as error:
            problem = self.unreadable(self._empty_file() or error)
            self.unload()
            raise problem from error

    def _empty_file(self) -> ValueError | None:
        empty = (
            [path for path in self.folder.rglob("*.*") if path.is_file() and not path.stat().st_size]
            if self.folder
            else []
        )
        return ValueError(f"{empty[0].name} has no rows") if empty else None

    def _check_values(self) -> None:
        """Raise ValueError where a text, a label or a gold score is missing: a null would be read as the word "None"."""
        used = {*self.task.eval_splits, getattr(self.task, "train_split", None), "corpus", "queries"}
        names = _columns_of(self.task)
        for (*_, last), data in _data_sets(self.task.dataset):
            if last not in used:
                continue
            if not data.num_rows:
                raise ValueError(f"{last!r} has no rows")
            for name in names.intersection(data.column_names):
                missing = _missing(data, name)
                if missing:
                    raise ValueError(
                        f"{missing} of {data.num_rows} values of {name!r} in {last!r} are missing: "
                        "fill them in, or leave the rows out"
                    )

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
        from datasets.exceptions import DatasetsError

        if isinstance(error, DatasetsError) and isinstance(error.__cause__, Exception):
            error = error.__cause__  # which says what is wrong
        first = (str(error).splitlines() or [""])[0] if not isinstance(error, KeyError) else f"{error} is missing"
        first = first or repr(error)
        if self.folder or self.task.data_loaded:
            return ValueError(f"cannot use the data of {self.name} in {self.folder or 'the hub'}: {first}")
        return OSError(
            f"cannot load the data of {self.name} from the hub ({first}): check the network, or put them into a folder "
            f"{self.name} of --data-dir (TEMPSCALE_DATA)"
        )


def find_parts(names: Iterable[Any], data_dir: str | Path | None) -> list[Part]:
    """Return the parts of tasks, in the order of their names, each once.

    Args:
        names: names of tasks and benchmarks ("STS12", "MTEB(eng, v1)", "LongEmbed"), of subsets of a task
            ("AmazonCounterfactualClassification(en, de)"), files of pairs ("mine.csv", or a
            `tempscale.evaluation.pair_files.PairFile`), or task objects of mteb. A task that consists of others
            (CQADupstackRetrieval) stands for those.
        data_dir: folder that holds a folder for a task, of its name or its name on the hub ("mteb/sts12-sts", or
            "sts12-sts"); a task without one comes from the hub.

    Raises:
        ValueError: a name that mteb does not know, a file that is none or cannot be read, different tasks of one name, or a
            task that is not about text alone.
        NotADirectoryError: data_dir is not a folder.
    """
    if data_dir is not None and not Path(data_dir).is_dir():
        raise NotADirectoryError(
            f"no folder {data_dir}: --data-dir (TEMPSCALE_DATA) names one with a folder for each task"
        )
    given = list(names)
    for name in given:
        if isinstance(name, str):
            _check_file(name)
    tasks: dict[str, Any] = {}
    for task in (task for name in given for task in _tasks(name)):
        first = tasks.setdefault(task.metadata.name, task)
        if (type(first), _origin(first)) != (type(task), _origin(task)):
            raise ValueError(
                f"two different tasks are named {task.metadata.name!r}, {_described(first)} and {_described(task)}: "
                "rename one, as results go by the name"
            )
        first.hf_subsets = list(dict.fromkeys([*first.hf_subsets, *task.hf_subsets]))
    if not tasks:
        raise ValueError("no task given: name at least one, such as STS12 or LongEmbed")
    return [part for task in tasks.values() for part in _parts(task, data_dir)]


def _origin(task: Any) -> object:
    """Return what tells tasks of one type and name apart: for mteb's there is nothing."""
    return getattr(task, "origin", None)


def _described(task: Any) -> str:
    origin = _origin(task)
    return str(origin[0]) if isinstance(origin, tuple) and isinstance(origin[0], str) else f"a {type(task).__name__}"


def split_names(names: str) -> list[str]:
    """Return the names of a list with commas; those inside brackets or double quotes belong to a name.

    The name of a file with commas may also stand alone, without quotes.

    >>> split_names('STS12, MTEB(eng, v1),"questions, answers.csv"')
    ['STS12', 'MTEB(eng, v1)', 'questions, answers.csv']
    """
    if Path(names).is_file():
        return [names]
    found = re.findall(r'(?:"[^"]*"|\([^)]*\)|[^,])+', names)
    return [name.strip().strip('"') for name in found if name.strip()]


def _parts(task: Any, data_dir: str | Path | None) -> list[Part]:
    if set(task.metadata.modalities) != {"text"}:
        raise ValueError(
            f"{task.metadata.name} has {', '.join(task.metadata.modalities)}: expected a task of text alone"
        )
    folder = None if data_dir is None else _folder(task, Path(data_dir))
    if folder is None:
        pass
    elif not any(folder.rglob("*.*")):
        raise ValueError(f"the data folder {folder} is empty: it should hold what the hub has for {task.metadata.name}")
    else:
        # The metadata belong to the class: change a copy.
        source = {**task.metadata.dataset, "path": str(folder)}
        task.metadata = task.metadata.model_copy(update={"dataset": source})
    first = Part(task, "", "", folder)
    return [Part(task, split, subset, folder, first._hash) for split in task.eval_splits for subset in task.hf_subsets]


def _folder(task: Any, data_dir: Path) -> Path | None:
    """Return the folder with the data of a task: of its name, or of the hub's with or without its owner."""
    path = str(task.metadata.dataset.get("path", task.metadata.name))
    found = (data_dir / name for name in (task.metadata.name, path, path.rpartition("/")[2]))
    return next((folder for folder in found if folder.is_dir()), None)


def _check_file(name: str) -> None:
    """Raise ValueError if a name of a task is that of a file that is not there, or none of pairs."""
    if is_pair_file(name):
        for path in (name, getattr(name, "options", {}).get("documents", "-")):
            if path != "-" and not Path(path).exists():
                raise ValueError(f"cannot read {path}: no such file")
    elif name.lower().endswith(_NO_PAIRS) or "/" in name:
        known = f"a file of pairs ends in {', '.join(TABLES)}, or these with .gz"
        what = "is no file of pairs" if Path(name).exists() else "is no file, and no task"
        raise ValueError(f"{name} {what}: {known}, and a task goes by its name, such as STS12")


def _tasks(name: Any) -> list[Any]:
    """Return the tasks that a name stands for."""
    import mteb

    if not isinstance(name, str):
        found = [copy.copy(name)]
    elif is_pair_file(name):
        found = [_pairs(name)]
    elif name in OWN:
        from tempscale.evaluation import own_tasks

        found = [getattr(own_tasks, name)()]
    else:
        try:
            found = [mteb.get_task(name)]
        except KeyError:
            found = _of_benchmark(name) or _of_subsets(name)
            if not found:
                raise ValueError(f"no task or benchmark {name!r} in mteb: {_suggestion(name)}") from None
    return [one for task in found for one in (map(copy.copy, task.tasks) if task.is_aggregate else [task])]


def _of_benchmark(name: str) -> list[Any]:
    """Return the tasks of a benchmark, none if there is no such benchmark."""
    import mteb

    return [copy.copy(task) for task in mteb.get_benchmark(name).tasks] if name in _benchmarks() else []


def _of_subsets(name: str) -> list[Any]:
    """Return the task of a name such as "Task(en, de)", with these subsets alone; none if there is no such task."""
    import mteb

    match = re.fullmatch(r"\s*([^()]+?)\s*\(([^()]*)\)\s*", name)
    try:
        task = mteb.get_task(match[1]) if match else None
    except KeyError:
        return []
    if match is None or task is None:
        return []
    wanted = [subset.strip() for subset in match[2].split(",")]
    unknown = [subset for subset in wanted if subset not in task.hf_subsets]
    if unknown:
        near = difflib.get_close_matches(unknown[0], task.hf_subsets, n=1, cutoff=0.5)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"{match[1]} has no subset {unknown[0]!r}: it has {', '.join(task.hf_subsets)}{meant}")
    task.hf_subsets = wanted
    return [task]


def _pairs(path: str) -> Any:
    from tempscale.evaluation.own_tasks import read_pairs

    try:
        return read_pairs(path, **getattr(path, "options", {}))
    except (OSError, ImportError) as error:
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


def _data_sets(data: Any, path: tuple[str, ...] = ("",)) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the data sets in what mteb keeps, nested dictionaries, each with its keys."""
    if hasattr(data, "column_names") and not isinstance(data, dict):
        yield path, data
    elif isinstance(data, dict):
        for key, value in data.items():
            yield from _data_sets(value, (*path, key))


def _columns_of(task: Any) -> set[str]:
    """Return the names of the columns that a task reads, as it names them itself, and as mteb names those of retrieval."""
    from mteb.abstasks import AbsTaskRetrieval, AbsTaskSTS

    found = {"text", "title"} if isinstance(task, AbsTaskRetrieval) else set()
    found |= {"score"} if isinstance(task, AbsTaskSTS) else set()
    for attribute in dir(task):
        if attribute.endswith(("column_name", "column_names")):
            names = getattr(task, attribute)
            found.update([names] if isinstance(names, str) else names if isinstance(names, (list, tuple)) else [])
    return found


def _missing(data: Any, name: str) -> int:
    """Return how many values of a column are null or NaN; those in lists count, too."""
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.compute as pc  # type: ignore[import-untyped]

    column = data.select_columns([name]).with_format("arrow")[:][name]
    missing = 0
    while True:
        missing += pc.sum(pc.is_null(column, nan_is_null=pa.types.is_floating(column.type))).as_py() or 0
        if not pa.types.is_list(column.type):
            return int(missing)
        column = pc.list_flatten(column)


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
