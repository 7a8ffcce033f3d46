"""What an evaluation says while it runs: a line for each finished unit, and how long the rest will take."""

import sys
from collections import defaultdict
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from tempscale.evaluation.store import Measured, Unit


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
        self._bar.update(self._id, description=_name(unit) + (f", {_duration(left)} left" if left else ""))

    def share(self, share: float) -> None:
        """Say how much of the present unit is done."""
        self._bar.update(self._id, completed=self._done + share)

    def wait(self, unit: Unit, other: str, seconds: float) -> None:
        """Say that another process runs what is left, of which this unit is the first, and how long its claim lasts."""
        self.say(
            f"{_name(unit)} is run by {other}; waiting for it, or until its claim runs out, which is in "
            f"{_duration(seconds)} unless that process renews it"
        )

    def done(self, unit: Unit, measured: Measured) -> None:
        """Say what came out."""
        self._seconds[_part(unit)].append(measured.seconds)
        self.advance(unit)
        self.say(f"{_name(unit)}: {measured.metric} {measured.main_score:.5f} ({_duration(measured.seconds)})")

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


def _part(unit: Unit) -> tuple[str, ...]:
    return unit.task, unit.split, unit.subset


def _name(unit: Unit) -> str:
    where = [unit.task, unit.split, *([unit.subset] if unit.subset != "default" else [])]
    return f"{' '.join(where)} at {unit.setting.label}"


def _duration(seconds: float) -> str:
    """Return a time for people.

    >>> _duration(7.2), _duration(200), _duration(9000)
    ('7 s', '3 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
