"""What the store keeps: a unit of work, what was measured, and its items."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Unit:
    """A piece of work: what is evaluated, on what, and how. Any difference makes it another unit.

    `temperature` and `layers` are labels ("0.9", "LogLength(...)"; "all", "last:3"); `model_hash` covers weights, tokeniser,
    configuration and prompts; `data_hash` the task's data and its revision. `chunk_tokens` is the length of the pieces that
    longer texts are cut into (`tempscale.chunks`), 0 for texts as a whole.
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
