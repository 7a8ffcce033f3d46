"""What an evaluation says while it runs: a line for each finished unit, and how long the rest will take."""

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from tempscale.evaluation.store import Measured, Unit

if TYPE_CHECKING:
    import pandas as pd


class ProgressReport:
    """Progress on stderr: lines, and on a terminal a bar with an estimate of the time left.

    The estimate takes what a task cost at other temperatures, and for a task not yet seen the mean of the others.

    Args:
        units: units that are to be run.
        shown: whether to say anything.
    """

    def __init__(self, units: Sequence[Unit], *, shown: bool = True) -> None:
        self._left = list(units)
        self._seconds: dict[tuple[str, ...], list[float]] = defaultdict(list)
        self._console = Console(file=sys.stderr, quiet=not shown, highlight=False, soft_wrap=True)
        columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}", markup=False))
        self._bar = Progress(*columns, console=self._console, transient=True, disable=not shown)
        self._id = self._bar.add_task("", total=max(1, len(units)))
        self._done = 0

    def __enter__(self) -> Self:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        self._bar.stop()

    def start(self, unit: Unit) -> None:
        """Say what is run now."""
        left = self.time_left()
        self._bar.update(self._id, description=_name(unit) + (f", {duration(left)} left" if left else ""))

    def share(self, share: float) -> None:
        """Say how much of the present unit is done."""
        self._bar.update(self._id, completed=self._done + share)

    def wait(self, unit: Unit, other: str, seconds: float) -> None:
        """Say that another process runs what is left, of which this unit is the first, and how long its claim lasts."""
        self.say(
            f"{_name(unit)} is run by {other}; waiting for it, or until its claim runs out, which is in "
            f"{duration(seconds)} unless that process renews it"
        )

    def done(self, unit: Unit, measured: Measured) -> None:
        """Say what came out."""
        self._seconds[_part(unit)].append(measured.seconds)
        self.advance(unit)
        score = measured.main_score
        said = f"{score:.5f}" if score == score else "not defined: NaN, as where all gold scores are equal"
        self.say(f"{_name(unit)}: {measured.metric} {said} ({duration(measured.seconds)})")

    def advance(self, unit: Unit) -> None:
        """Count a unit as done."""
        self._left.remove(unit)
        self._done += 1
        self._bar.update(self._id, completed=self._done)

    def say(self, line: str) -> None:
        """Print a line."""
        self._console.print(line, markup=False)

    def time_left(self) -> float | None:
        """Return the estimate in seconds; None as long as nothing is finished."""
        known = {part: sum(seconds) / len(seconds) for part, seconds in self._seconds.items()}
        if not known:
            return None
        mean = sum(known.values()) / len(known)
        return sum(known.get(_part(unit), mean) for unit in self._left)


def what_was_read(rows: "pd.DataFrame") -> Iterator[str]:
    """Yield a sentence about the texts that were cut, and one about what was put in front of texts, if anything was.

    Args:
        rows: rows with the columns task, max_seq_length, cut and prompts, of the store or of a comparison.
    """
    for tokens, of_length in rows[rows.cut > 0].groupby("max_seq_length"):
        cut = of_length.groupby("task", sort=False).cut.max()
        shares = ", ".join(f"{100 * share:.3g} % of {task}" for task, share in cut.items())
        yield f"Of all texts of a task, both sides together, those longer than {tokens} tokens were cut: {shares}"
    by_prompt: dict[str, dict[str, None]] = defaultdict(dict)
    for task, prompts in zip(rows.task, rows.prompts, strict=True):
        if isinstance(prompts, str) and prompts:
            given = [f"{prompt!r} ({_SIDES[side]})" for side, prompt in json.loads(prompts).items() if prompt]
            by_prompt[" and ".join(given)][task] = None
    by_prompt.pop("", None)
    for listed, tasks in by_prompt.items():
        yield f"In front of the texts was put {listed}: {', '.join(tasks)}"


_SIDES = {"query": "queries", "document": "documents", "text": "all texts"}


def _part(unit: Unit) -> tuple[str, ...]:
    return unit.task, unit.split, unit.subset


def _name(unit: Unit) -> str:
    where = [unit.task, unit.split, *([unit.subset] if unit.subset != "default" else [])]
    return f"{' '.join(where)} at {unit.setting.label}"


def duration(seconds: float) -> str:
    """Return a time for people.

    >>> duration(7.2), duration(200), duration(9000)
    ('7 s', '3 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
