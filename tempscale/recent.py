"""A memory of recent values, by their size."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Recent:
    """Values by key, the ones not used for longest dropped when all together grow beyond a limit of bytes.

    >>> recent = Recent(limit=10)
    >>> for text in ("four", "more", "four", "text"):
    ...     _ = recent.get_or(text, lambda: text, len)
    >>> list(recent)
    ['four', 'text']
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[str, tuple[int, Any]] = OrderedDict()
        self._bytes = 0

    def get_or(self, key: str, make: Callable[[], T], size: Callable[[T], int]) -> T:
        """Return the value of a key; make it, and note its size, if it is not there."""
        if key not in self._values:
            value = make()
            self._values[key] = (size(value), value)
            self._bytes += self._values[key][0]
            while self._bytes > self._limit and len(self._values) > 1:
                self._bytes -= self._values.popitem(last=False)[1][0]
        self._values.move_to_end(key)
        found: T = self._values[key][1]
        return found

    def __iter__(self) -> Any:
        """Go through the keys, the one not used for longest first."""
        return iter(self._values)
