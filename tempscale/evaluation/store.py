"""Where the scores are kept: one SQLite database that survives a kill at any moment."""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Item", "Measured", "Store", "Unit"]


@dataclass(frozen=True)
class Unit:
    """A piece of work: what is evaluated, on what, and how. Any difference makes it another unit.

    `temperature` and `layers` are labels ("0.9", "LogLength(...)"; "all", "last:3"); `model_hash` covers weights, tokeniser,
    configuration and prompts; `data_hash` the task's data and its revision. `chunk_tokens` is the length of the pieces that
    longer texts are cut into (`tempscale.encoding.pieces`), 0 for texts as a whole.
    """

    model: str
    model_hash: str
    task: str
    task_type: str
    split: str
    subset: str
    temperature: str
    layers: str
    apply_to: str
    max_seq_length: int
    dtype: str
    data_hash: str
    chunk_tokens: int = 0

    @property
    def id(self) -> str:
        """The name of the unit: a hash of all that it consists of."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Measured:
    """What was found for a unit: its main score, and how that is computed from its items.

    `statistic` over the items' scores gives `main_score`: "mean"; "spearman" against their targets; or "none".
    `tokens` is what the model read, `versions` a JSON object of package versions, `scores` one of all that mteb computed.
    """

    main_score: float
    metric: str
    statistic: str
    device: str
    versions: str
    command: str
    seconds: float
    tokens: int
    scores: str = "{}"


class Item(NamedTuple):
    """One query, pair or row of a task.

    `tokens` is the length of its text or document before it is cut. Items with the same `cluster`, queries that share a
    relevant document, are not independent of each other; None where all are.
    """

    item: str
    tokens: int | None
    score: float
    target: float | None = None
    cluster: str | None = None


def digest(values: Iterable[Any], items: list[tuple[Any, ...]]) -> str:
    """Return a hash over all that is stored of a unit: its row, and the rows of its items."""
    return hashlib.sha256(json.dumps([list(values), items]).encode()).hexdigest()


FILE = "results.sqlite"
VERSION = 2
WAIT = 60.0  # seconds for another process to finish its transaction, which takes milliseconds


UNIT = [field.name for field in fields(Unit)]
MEASURED = [field.name for field in fields(Measured)]
COLUMNS = ["id", *UNIT, *MEASURED, "created"]

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS unit (id TEXT PRIMARY KEY, {", ".join([*UNIT, *MEASURED])}, created, digest);
CREATE TABLE IF NOT EXISTS item (unit TEXT, position INTEGER, item TEXT, tokens INTEGER, score REAL, target REAL,
    cluster TEXT, PRIMARY KEY (unit, position)) WITHOUT ROWID;
"""


class Store:
    """The finished units of a folder, and their items.

    A unit and its items are written in one transaction, with a digest over all of them: a unit is there completely, or not
    at all, and one that was altered since does not count as finished. Any number of processes may use one store. One of an
    earlier version is brought up to date when it is opened, after which the earlier tempscale no longer opens it.

    Args:
        out: a folder; the database is `results.sqlite` in it.
        create: make what is missing. Without, a folder that has no results is an error.

    Raises:
        FileNotFoundError: nothing to read, and not to be created.
        OSError: the database is damaged, of a later version, or cannot be written.

    >>> import tempfile
    >>> unit = Unit("minilm", "a1", "STS12", "STS", "test", "default", "0.9", "all", "both", 256, "float32", "b2")
    >>> with tempfile.TemporaryDirectory() as out, Store(out) as store:
    ...     measured = Measured(0.5, "accuracy", "mean", "cpu", "{}", "", 1.0, 9)
    ...     store.add(unit, measured, [Item("0", 9, 1.0), Item("1", 7, 0.0)])
    ...     store.finished(unit), store.items(unit.id).score.tolist(), store.units().temperature.tolist()
    (True, [1.0, 0.0], ['0.9'])
    """

    def __init__(self, out: str | Path, *, create: bool = True) -> None:
        self.path = Path(out) / FILE
        if not create and not self.path.is_file():
            raise FileNotFoundError(
                f"no results in {out}: it has no {FILE}; `tempscale evaluate --out {out}` makes one"
            )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"cannot make the folder {out} ({error.strerror}): name another") from error
        with self._one_sentence():
            # Autocommit: transactions are begun by hand, where they are needed.
            self._database = sqlite3.connect(self.path, timeout=WAIT, isolation_level=None)
            try:
                self._prepare()
            except BaseException:
                self._database.close()
                raise

    def _prepare(self) -> None:
        found = self._version()
        if found > VERSION:
            raise OSError(f"{self.path} is of version {found}, this tempscale reads {VERSION}: upgrade tempscale")
        if found < VERSION:
            self._database.execute("PRAGMA journal_mode = WAL")
            with self._transaction():
                for statement in _SCHEMA.split(";"):
                    self._database.execute(statement)
                self._database.execute(f"PRAGMA user_version = {VERSION}")

    def _version(self) -> int:
        version: int = self._database.execute("PRAGMA user_version").fetchone()[0]
        return version

    @contextmanager
    def _one_sentence(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and "malformed" not in str(error):
                raise OSError(
                    f"cannot use {self.path} ({error}): it needs a writable folder with space left; "
                    "what was finished before is kept"
                ) from error
            raise OSError(
                f"{self.path} is damaged ({error}): move it away and run again, or recover it with sqlite3's .recover"
            ) from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    def finished(self, unit: Unit) -> bool:
        """Whether a unit is there, complete and unaltered."""
        with self._one_sentence():
            return self._intact(unit.id)

    def _intact(self, unit_id: str) -> bool:
        row = self._row(unit_id)
        return row is not None and row[-1] == digest(row[:-1], self._items(unit_id))

    def _row(self, unit_id: str) -> tuple[Any, ...] | None:
        query = f"SELECT {', '.join(COLUMNS)}, digest FROM unit WHERE id = ?"
        row: tuple[Any, ...] | None = self._database.execute(query, (unit_id,)).fetchone()
        return row

    def _items(self, unit_id: str) -> list[tuple[Any, ...]]:
        query = "SELECT item, tokens, score, target, cluster FROM item WHERE unit = ? ORDER BY position"
        return self._database.execute(query, (unit_id,)).fetchall()

    def parts(self, unit: Unit) -> dict[str, dict[str, tuple[str, float]]]:
        """Return `scores` and `seconds` of the finished splits and subsets of a unit's task, all else being equal."""
        names = [name for name in UNIT if name not in ("split", "subset")]
        query = f"SELECT split, subset, scores, seconds FROM unit WHERE {' AND '.join(f'{name} = ?' for name in names)}"
        found: dict[str, dict[str, tuple[str, float]]] = {}
        with self._one_sentence():
            for split, subset, *measured in self._database.execute(query, [getattr(unit, name) for name in names]):
                if self._intact(replace(unit, split=split, subset=subset).id):
                    found.setdefault(split, {})[subset] = measured[0], measured[1]
        return found

    def add(self, unit: Unit, measured: Measured, items: Iterable[Item]) -> None:
        """Write a unit and its items at once. One that is finished already is kept as it is."""
        rows = [
            (str(name), tokens and int(tokens), _number(score), _number(target), cluster)
            for name, tokens, score, target, cluster in items
        ]
        created = datetime.now(UTC).isoformat(timespec="seconds")
        measures = asdict(measured) | {"main_score": _number(measured.main_score)}
        values = (unit.id, *asdict(unit).values(), *measures.values(), created)
        with self._one_sentence(), self._transaction():
            if self._intact(unit.id):
                return
            self._database.execute("DELETE FROM item WHERE unit = ?", (unit.id,))
            self._database.executemany(
                "INSERT INTO item VALUES (?, ?, ?, ?, ?, ?, ?)",
                ((unit.id, position, *row) for position, row in enumerate(rows)),
            )
            places = ", ".join("?" * (len(values) + 1))
            self._database.execute(
                f"INSERT OR REPLACE INTO unit ({', '.join(COLUMNS)}, digest) VALUES ({places})",
                (*values, digest(values, rows)),
            )

    def units(self) -> "pd.DataFrame":
        """Return one row for each finished unit, the oldest first; altered ones are left out."""
        import pandas as pd

        with self._one_sentence():
            ids = [row[0] for row in self._database.execute("SELECT id FROM unit ORDER BY created, id").fetchall()]
            rows = [row[:-1] for unit_id in ids if self._intact(unit_id) and (row := self._row(unit_id))]
        return pd.DataFrame(rows, columns=COLUMNS)

    def items(self, unit_id: str) -> "pd.DataFrame":
        """Return the items of a finished unit: item, tokens, score, target (NaN where there is none), cluster.

        Raises:
            KeyError: no such unit, or an altered one.
        """
        import pandas as pd

        with self._one_sentence():
            if not self._intact(unit_id):
                raise KeyError(f"no finished unit {unit_id!r} in {self.path}: see Store.units()")
            rows = self._items(unit_id)
        frame = pd.DataFrame(rows, columns=list(Item._fields))
        return frame.astype(
            {"tokens": "float" if frame.tokens.isna().any() else "int", "score": "float", "target": "float"}
        )

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def __enter__(self) -> Self:
        """Return the store, which is open already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the database, also after an exception."""
        self.close()


def _number(value: float | None) -> float | None:
    """Return what SQLite gives back: a plain float, and nothing for a NaN."""
    return None if value is None or value != value else float(value)
