"""Where the scores are kept: one SQLite database that survives a kill at any moment."""

import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from tempscale.evaluation import claims
from tempscale.evaluation.migration import migrate

if TYPE_CHECKING:
    import pandas as pd

FILE = "results.sqlite"
VERSION = 3
WAIT = 60.0  # seconds for another process to finish its transaction, which takes milliseconds


class Setting(NamedTuple):
    """What is varied for one model: a temperature, where it applies, and what else is done about long texts.

    All are labels, such as "0.9", "last:3", "document" and "pieces(128)"; no remedy is "".
    """

    temperature: str
    layers: str
    apply_to: str
    remedy: str = ""

    @property
    def label(self) -> str:
        """The setting for reading.

        >>> Setting("0.9", "last:3", "both").label, Setting("1.0", "all", "both", "pieces(128)").label
        ('0.9 last:3 both', '1.0 pieces(128)')
        """
        where = " ".join((self.temperature, self.layers, self.apply_to)).removesuffix(" all both").strip()
        return f"{where} {self.remedy}".rstrip()


@dataclass(frozen=True)
class Unit:
    """A piece of work: what is evaluated, on what, and how. Any difference makes it another unit.

    `temperature` and `layers` are labels ("0.9", "LogLength(...)"; "all", "last:3"); `model_hash` covers weights, tokeniser,
    configuration and prompts; `data_hash` the task's data and its revision. `remedy` is the label of what is done about long
    texts besides a temperature: "pieces(128)" where they are read in pieces of at most 128 tokens
    (`tempscale.encoding.pieces`), and "" where nothing is.
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
    remedy: str = ""

    @property
    def id(self) -> str:
        """The name of the unit: a hash of all that it consists of."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16]

    @property
    def setting(self) -> Setting:
        """What is varied."""
        return Setting(self.temperature, self.layers, self.apply_to, self.remedy)


@dataclass(frozen=True)
class Measured:
    """What was found for a unit: its main score, and how that is computed from its items.

    `statistic` over the items' scores gives `main_score`: "mean"; "spearman" against their targets; or "none".
    `tokens` is what the model read, `versions` a JSON object of package versions, `scores` one of all that mteb computed.
    `data_version` names the state of the data (`tempscale.evaluation.tasks.Part`). `prompts` is a JSON object of what was
    put in front of the texts, by side ("query", "document"; "text" where a task has no sides), and `cut` the share, 0 to 1,
    of all texts that are longer than the model reads. These three are None in units of version 2, which did not keep them.
    """

    main_score: float
    metric: str
    statistic: Literal["mean", "spearman", "none"]
    device: str
    versions: str
    command: str
    seconds: float
    tokens: int
    scores: str = "{}"
    data_version: str | None = None
    prompts: str | None = None
    cut: float | None = None


class Item(NamedTuple):
    """One query, pair or row of a task.

    `tokens` is the length of its text or document before it is cut. Items with the same `cluster`, queries that share a
    relevant document, are not independent of each other; None where all are. `source` names the collection that it comes
    from, where the data say so. `texts` are the ids of the two sentences of a pair, with a space between them: two pairs
    that share a sentence share an id.

    >>> Item("0", 12, 0.8, 5.0, source="headlines", texts="a1 b7").texts.split()
    ['a1', 'b7']
    """

    item: str
    tokens: int | None
    score: float
    target: float | None = None
    cluster: str | None = None
    source: str | None = None
    texts: str | None = None


class ItemTable(NamedTuple):
    """The items of a unit, in their order: what the items are (the fields of `Item` but the score), and their scores.

    `labels` are columns (item, tokens, target, cluster, source, texts); units of one opening that have equal ones share
    them. `scores` are (n,), NaN where one is not defined.
    """

    labels: tuple[tuple[Any, ...], ...]
    scores: npt.NDArray[np.float64]

    def column(self, name: str) -> tuple[Any, ...]:
        """Return a field of all items other than the score."""
        return self.labels[_LABELS.index(name)]


_LABELS = [name for name in Item._fields if name != "score"]
NO_ITEMS = ItemTable(((),) * len(_LABELS), np.empty(0))
UNIT = [field.name for field in fields(Unit)]
MEASURED = [field.name for field in fields(Measured)]
COLUMNS = ["id", *UNIT, *MEASURED, "created"]

_SCHEMA = f"""
CREATE TABLE unit (id TEXT PRIMARY KEY, {", ".join([*UNIT, *MEASURED])}, created, digest);
CREATE TABLE item (unit TEXT, position INTEGER, item TEXT, tokens INTEGER, score REAL, target REAL, cluster TEXT,
    source TEXT, texts TEXT, PRIMARY KEY (unit, position)) WITHOUT ROWID;
CREATE TABLE claim (unit TEXT PRIMARY KEY, owner TEXT, until REAL);
"""


class Store:
    """The finished units of a folder, and their items.

    A unit and its items are written in one transaction, with a digest over all of them: a unit is there completely, or not
    at all, and one that was altered since does not count as finished. The digest of a unit is verified once for each
    opening of the store, when it is first read; `altered` names those for which it failed.

    Any number of processes of one machine may use a store at once, and share work by claiming units. A claim holds for as
    long as its process lives and the store is open (`tempscale.evaluation.claims`).

    A store of version 2 becomes one of version 3 when it is opened; nothing in it has to be run again.

    Args:
        out: folder; the database is `results.sqlite` in it.
        create: whether to make what is missing. Without, a folder that has no results is an error, and one in which nothing
            may be written is read where it is, or from a copy among the temporary files where that cannot be done.
        keep_items: whether all items stay in memory once they are read: 8 bytes each, and what the items are once for all
            units that have the same. For whoever reads all units, and then their items.

    Attributes:
        path: path of the database.
        altered: units read so far that were altered since they were written, for people, by their ids.

    Raises:
        FileNotFoundError: nothing to read, and not to be created.
        OSError: the database is damaged, of another version, or cannot be written.

    >>> import tempfile
    >>> unit = Unit("minilm", "a1", "STS12", "STS", "test", "default", "0.9", "all", "both", 256, "float32", "b2")
    >>> with tempfile.TemporaryDirectory() as out, Store(out) as store:
    ...     assert store.claim(unit)
    ...     measured = Measured(0.5, "accuracy", "mean", "cpu", "{}", "", 1.0, 9)
    ...     store.add(unit, measured, [Item("0", 9, 1.0), Item("1", 7, 0.0)])
    ...     store.finished(unit), store.items(unit.id).score.tolist(), store.units().temperature.tolist()
    (True, [1.0, 0.0], ['0.9'])
    """

    def __init__(self, out: str | Path, *, create: bool = True, keep_items: bool = False) -> None:
        self.path = Path(out) / FILE
        if not create and not self.path.is_file():
            raise FileNotFoundError(
                f"no results in {out}: it has no {FILE}; `tempscale evaluate --out {out}` makes one"
            )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"cannot make the folder {out} ({error.strerror}): name another") from error
        self.altered: dict[str, str] = {}
        self._verified: set[str] = set()
        self._kept: dict[str, ItemTable] | None = {} if keep_items else None
        self._labels: dict[tuple[tuple[Any, ...], ...], tuple[tuple[Any, ...], ...]] = {}
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._owner = claims.new_owner()
        self._heartbeat: claims.Heartbeat | None = None
        with self._explained():
            may_write = all(os.access(path, os.W_OK) for path in (self.path, self.path.parent) if path.exists())
            self._database = self._connect(str(self.path)) if may_write or create else self._connect_to_read()
            try:
                self._prepare()
            except BaseException:
                self._close()
                raise

    def _connect(self, database: str, *, uri: bool = False) -> sqlite3.Connection:
        # Autocommit: transactions are begun by hand, where they are needed.
        return sqlite3.connect(database, timeout=WAIT, isolation_level=None, uri=uri)

    def _connect_to_read(self) -> sqlite3.Connection:
        """Open a database beside which nothing can be written."""
        with suppress(sqlite3.OperationalError):
            database = self._connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)
            if database.execute("PRAGMA user_version").fetchone()[0] == VERSION:
                return database
            database.close()
        # An older version, or a database that SQLite cannot read without files beside it, so nobody is writing it now.
        self._copy = tempfile.TemporaryDirectory(prefix="tempscale-")
        try:
            for path in (self.path, self.path.with_name(f"{FILE}-wal")):
                if path.exists():
                    shutil.copyfile(path, Path(self._copy.name) / path.name)
        except OSError as error:
            self._copy.cleanup()
            raise OSError(
                f"cannot copy {self.path}, beside which nothing may be written, to the temporary files ({error.strerror}): "
                "name a folder with space in TMPDIR"
            ) from error
        return self._connect(str(Path(self._copy.name) / FILE))

    def _prepare(self) -> None:
        found = self._version()
        if found > VERSION:
            raise OSError(f"{self.path} is of version {found}, this tempscale reads {VERSION}: upgrade tempscale")
        if found == 1:
            raise OSError(
                f"{self.path} is of version 1, this tempscale reads {VERSION}: open it once with tempscale 0.1, which "
                "brings it up to version 2, or evaluate into a new folder"
            )
        if found == 0:
            self._database.execute("PRAGMA journal_mode = WAL")
        if found < VERSION:
            with self._transaction():
                found = self._version()  # another process may have been faster
                if found == 2:
                    migrate(self._database)
                elif found == 0:
                    for statement in _SCHEMA.split(";"):
                        self._database.execute(statement)
                self._database.execute(f"PRAGMA user_version = {VERSION}")

    def _version(self) -> int:
        return int(self._database.execute("PRAGMA user_version").fetchone()[0])

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise OSError(self._explanation(error)) from error
        except UnicodeDecodeError as error:  # the message of an error that has damaged names in it
            raise OSError(self._explanation(sqlite3.DatabaseError(error.reason))) from error

    def _explanation(self, error: sqlite3.DatabaseError) -> str:
        """Return one sentence that says what is wrong, and what to do."""
        name = getattr(error, "sqlite_errorname", "")
        if not isinstance(error, sqlite3.OperationalError) or "malformed" in str(error):
            return (
                f"{self.path} is damaged ({error}): move it away and run again, or recover it with sqlite3's .recover"
            )
        if name == "SQLITE_ERROR":  # what was asked for is not there
            return (
                f"{self.path} does not hold the tables of a store ({error}): another program wrote or changed it; move it "
                "away and run again"
            )
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return (
                f"cannot use {self.path} ({error}): another process has been writing for {WAIT:.0f} s; end it, or try again "
                "when it is done"
            )
        return (
            f"cannot use {self.path} ({error}): a store needs space and permission to write, also where it is only read; "
            "make room, or copy its folder to where you may write; what was finished before is kept"
        )

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
        """Whether a unit is there, complete and, when it was first read here, unaltered."""
        with self._explained():
            return bool(self._rows("id = ?", [unit.id]))

    def _rows(self, where: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        """Return the rows (`COLUMNS`) of the unaltered units for which a condition holds, the oldest first."""
        query = f"SELECT {', '.join(COLUMNS)}, digest FROM unit WHERE {where} ORDER BY created, rowid"
        return [row[:-1] for row in self._fetch(query, values) if self._unaltered(row)]

    def _fetch(self, query: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        try:
            return self._database.execute(query, values).fetchall()
        except sqlite3.OperationalError as error:
            if "decode" not in str(error):
                raise
        # Bytes that are no text are those of a unit that was altered, which its digest shows.
        self._database.text_factory = lambda raw: raw.decode(errors="replace")
        try:
            return self._database.execute(query, values).fetchall()
        finally:
            self._database.text_factory = str

    def _unaltered(self, row: tuple[Any, ...]) -> bool:
        """Whether the digest of a unit, last in its row, is that of the row and its items."""
        unit_id = row[0]
        if unit_id not in self._verified:
            items = self._items(unit_id)
            if row[-1] != _digest(row[:-1], items):
                task, split, subset, *setting = (row[COLUMNS.index(name)] for name in _NAMED)
                where = " ".join(map(str, (task, split, *([] if subset == "default" else [subset]))))
                self.altered[unit_id] = f"{where} at {Setting(*map(str, setting)).label}"
                return False
            self._verified.add(unit_id)
            if self._kept is not None:
                self._kept[unit_id] = self._item_table(items)
        self.altered.pop(unit_id, None)
        return True

    def _items(self, unit_id: str) -> list[tuple[Any, ...]]:
        return self._fetch(f"SELECT {', '.join(Item._fields)} FROM item WHERE unit = ? ORDER BY position", (unit_id,))

    def _item_table(self, rows: list[tuple[Any, ...]]) -> ItemTable:
        columns = list(zip(*rows, strict=True)) or [()] * len(Item._fields)
        scores = np.array(columns.pop(Item._fields.index("score")), dtype=np.float64)
        labels = tuple(columns)
        shared = labels if self._kept is None else self._labels.setdefault(labels, labels)
        return ItemTable(shared, scores)

    def claim(self, unit: Unit) -> bool:
        """Take a unit to run it: until it is added or released, or the store is closed, no other process gets it.

        Returns:
            False if the unit is finished, or another process has it.
        """
        self._heartbeat = self._heartbeat or claims.Heartbeat(self.path, self._owner)
        with self._explained(), self._transaction():
            if self._rows("id = ?", [unit.id]) or self._claim_of_another(unit):
                return False
            claim = claims.Claim(self._owner, time.time() + claims.LEASE)
            self._database.execute("INSERT OR REPLACE INTO claim VALUES (?, ?, ?)", (unit.id, *claim))
        return True

    def claim_of_another(self, unit: Unit) -> claims.Claim | None:
        """Return the claim of another process, or of another opening of the store, on a unit, if there is one."""
        with self._explained():
            return self._claim_of_another(unit)

    def _claim_of_another(self, unit: Unit) -> claims.Claim | None:
        query = "SELECT owner, until FROM claim WHERE unit = ? AND owner != ?"
        found = self._database.execute(query, (unit.id, self._owner)).fetchone()
        claim = found and claims.Claim(*found)
        return None if claim is None or claim.expired else claim

    def release(self, unit: Unit) -> None:
        """Give a unit up that was claimed here; others may take it."""
        with self._explained():
            self._database.execute("DELETE FROM claim WHERE unit = ? AND owner = ?", (unit.id, self._owner))

    def parts(self, unit: Unit) -> dict[str, dict[str, tuple[str, float]]]:
        """Return `scores` and `seconds` of the finished splits and subsets of a unit's task, all else being equal."""
        equal = {name: value for name, value in asdict(unit).items() if name not in ("split", "subset")}
        split, subset, scores, seconds = map(COLUMNS.index, ("split", "subset", "scores", "seconds"))
        found: dict[str, dict[str, tuple[str, float]]] = {}
        with self._explained():
            for row in self._rows(" AND ".join(f"{name} = ?" for name in equal), list(equal.values())):
                if replace(unit, split=row[split], subset=row[subset]).id == row[0]:
                    found.setdefault(row[split], {})[row[subset]] = row[scores], row[seconds]
        return found

    def add(self, unit: Unit, measured: Measured, items: Iterable[Item]) -> None:
        """Write a unit and its items at once, and end its claim. One that is finished already is kept as it is."""
        rows = [
            (_text(name), tokens and int(tokens), _number(score), _number(target), *map(_text, labels))
            for name, tokens, score, target, *labels in items
        ]
        created = datetime.now(UTC).isoformat(timespec="seconds")
        measures = asdict(measured) | {"main_score": _number(measured.main_score)}
        values = (unit.id, *asdict(unit).values(), *measures.values(), created)
        with self._explained(), self._transaction():
            self._database.execute("DELETE FROM claim WHERE unit = ?", (unit.id,))
            if self._rows("id = ?", [unit.id]):
                return
            self._database.execute("DELETE FROM item WHERE unit = ?", (unit.id,))
            self._database.executemany(
                "INSERT INTO item VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                ((unit.id, position, *row) for position, row in enumerate(rows)),
            )
            places = ", ".join("?" * (len(values) + 1))
            self._database.execute(
                f"INSERT OR REPLACE INTO unit ({', '.join(COLUMNS)}, digest) VALUES ({places})",
                (*values, _digest(values, rows)),
            )

    def units(self) -> "pd.DataFrame":
        """Return one row for each finished unit, the oldest first; without units altered before their first reading here.

        A score that is not defined is NaN.
        """
        import pandas as pd

        with self._explained():
            return pd.DataFrame(self._rows("TRUE", []), columns=COLUMNS).astype({"cut": "float", "main_score": "float"})

    def item_table(self, unit_id: str) -> ItemTable:
        """Return the items of a finished unit, without pandas.

        Raises:
            KeyError: no such unit, or one that was altered before it was first read here.
        """
        if self._kept is not None and unit_id in self._kept:
            return self._kept[unit_id]
        with self._explained():
            if not self._rows("id = ?", [unit_id]):
                raise KeyError(f"no finished unit {unit_id!r} in {self.path}: see Store.units()")
            return self._item_table(self._items(unit_id))

    def items(self, unit_id: str) -> "pd.DataFrame":
        """Return the items of a finished unit, their fields as columns; numbers that are not there are NaN.

        Raises:
            KeyError: as `item_table` does.
        """
        import pandas as pd

        table = self.item_table(unit_id)
        columns = dict(zip(_LABELS, map(list, table.labels), strict=True)) | {"score": table.scores}
        frame = pd.DataFrame(columns, columns=list(Item._fields))
        return frame.astype({"tokens": "float" if frame.tokens.isna().any() else "int", "target": "float"})

    def close(self) -> None:
        """End the claims that are left, and close the database."""
        if self._heartbeat:
            self._heartbeat.stop()
            # Also after an error of the disk, which is what should be heard of; the claims then run out.
            with suppress(sqlite3.Error):
                self._database.execute("DELETE FROM claim WHERE owner = ?", (self._owner,))
            self._heartbeat = None
        self._close()

    def _close(self) -> None:
        self._database.close()
        if self._copy:
            self._copy.cleanup()

    def __enter__(self) -> Self:
        """Return the store, which is open already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the database, also after an exception."""
        self.close()


# What names a unit for people: what was evaluated, and the fields of its `Setting`.
_NAMED = ("task", "split", "subset", *Setting._fields)


def _digest(values: Iterable[Any], items: list[tuple[Any, ...]]) -> str:
    """Return a hash over all that is stored of a unit: its row, and the rows of its items."""
    # What is neither text nor number, which only somebody else writes, must not stop who looks for it.
    return hashlib.sha256(json.dumps([list(values), items], default=repr).encode()).hexdigest()


def _text(value: object) -> str | None:
    """Return a text that SQLite can keep: half a pair of surrogates is written out.

    >>> _text(7), _text(None), _text("a" + chr(0xD800))
    ('7', None, 'a\\\\ud800')
    """
    return None if value is None else str(value).encode(errors="backslashreplace").decode()


def _number(value: float | None) -> float | None:
    """Return what SQLite gives back: a plain float, nothing for a NaN, and 0.0 for a zero with a sign.

    >>> _number(float("nan")), _number(-0.0), _number(1)
    (None, 0.0, 1.0)
    """
    return None if value is None or value != value else float(value) + 0.0
