"""A store of version 2, which tempscale 0.1 and 0.2 wrote, becomes one of version 3.

What the two versions are is written out, and nothing of `store` is used: this stays right whatever comes after version 3.
"""

import hashlib
import json
import sqlite3

_IDENTITY = (
    *("model", "model_hash", "task", "task_type", "split", "subset", "temperature", "layers", "apply_to"),
    *("max_seq_length", "dtype", "data_hash"),
)
_MEASURED = ("main_score", "metric", "statistic", "device", "versions", "command", "seconds", "tokens", "scores")
_NEW_TABLES = (
    "ALTER TABLE unit RENAME COLUMN chunk_tokens TO remedy",
    "ALTER TABLE unit ADD COLUMN data_version",
    "ALTER TABLE unit ADD COLUMN prompts",
    "ALTER TABLE unit ADD COLUMN cut",
    "ALTER TABLE item ADD COLUMN source TEXT",
    "ALTER TABLE item ADD COLUMN texts TEXT",
    "CREATE TABLE claim (unit TEXT PRIMARY KEY, owner TEXT, until REAL)",
)


def migrate(database: sqlite3.Connection) -> None:
    """Bring the tables of version 2 to version 3, inside a transaction of the caller.

    `chunk_tokens`, a number, becomes `remedy`, a label, and with it a unit gets another id and another digest. What version
    2 did not keep is NULL. A unit that had been altered keeps a digest that is not its own, and so stays unfinished.

    Raises:
        sqlite3.OperationalError: the tables are not those of version 2, or cannot be written.
    """
    columns = ("id", *_IDENTITY, "chunk_tokens", *_MEASURED, "created", "digest")
    units = database.execute(f"SELECT {', '.join(columns)} FROM unit").fetchall()
    for statement in _NEW_TABLES:
        database.execute(statement)
    for *row, digest in units:
        query = "SELECT item, tokens, score, target, cluster FROM item WHERE unit = ? ORDER BY position"
        items = database.execute(query, (row[0],)).fetchall()
        old_id, *values, created = row
        *of_identity, chunk_tokens = values[: -len(_MEASURED)]
        identity, measured = dict(zip(_IDENTITY, of_identity, strict=True)), values[-len(_MEASURED) :]
        remedy = f"pieces({chunk_tokens})" if chunk_tokens else ""
        new_id = old_id
        # A name that is no longer that of the identity is left: the new one might be another unit's.
        if old_id == _hash({**identity, "chunk_tokens": chunk_tokens})[:16]:
            new_id = _hash({**identity, "remedy": remedy})[:16]
        if digest == _hash([row, items]):
            facts = [new_id, *identity.values(), remedy, *measured, None, None, None, created]
            digest = _hash([facts, [(*item, None, None) for item in items]])
        renamed = (new_id, remedy, digest, old_id)
        database.execute("UPDATE unit SET id = ?, remedy = ?, digest = ? WHERE id = ?", renamed)
        database.execute("UPDATE item SET unit = ? WHERE unit = ?", (new_id, old_id))


def _hash(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
