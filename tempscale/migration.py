"""Stores of earlier versions, brought up to date."""

import sqlite3
from dataclasses import fields

from tempscale.unit import Measured, Unit, digest

# What the rows of version 1 had in place of today's fields of a unit: all but chunk_tokens.
_UNIT_1 = [field.name for field in fields(Unit)][:12]
_COLUMNS_1 = ["id", *_UNIT_1, *(field.name for field in fields(Measured)), "created"]


def from_version_1(database: sqlite3.Connection) -> None:
    """Bring a store of version 1 to version 2: units have `chunk_tokens`, 0 for all that there are; items a `cluster`, none.

    Ids and digests cover all fields of a unit, so they are computed anew. A unit that was altered, whose digest is not that
    of its rows, is left as it is: it does not count afterwards either. To be called in a transaction.
    """
    database.execute("ALTER TABLE unit ADD COLUMN chunk_tokens DEFAULT 0")
    database.execute("ALTER TABLE item ADD COLUMN cluster TEXT")
    for *row, found in database.execute(f"SELECT {', '.join(_COLUMNS_1)}, digest FROM unit").fetchall():
        items = database.execute(
            "SELECT item, tokens, score, target FROM item WHERE unit = ? ORDER BY position", row[:1]
        ).fetchall()
        if found != digest(row, items):
            continue
        old, *rest = row
        described = rest[: len(_UNIT_1)]
        unit = Unit(*described)
        values = [unit.id, *described, 0, *rest[len(_UNIT_1) :]]
        again = digest(values, [(*item, None) for item in items])
        database.execute("UPDATE unit SET id = ?, digest = ? WHERE id = ?", (unit.id, again, old))
        database.execute("UPDATE item SET unit = ? WHERE unit = ?", (unit.id, old))
