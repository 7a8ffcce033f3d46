"""Batches of tokens: sorted by length, so that little is padding, and prepared ahead of the model."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from tempscale.encoding.cutting import Features

A = TypeVar("A")
B = TypeVar("B")

# Once a batch has this share of its budget, it is closed early when more than a twentieth of it would be padding.
ENOUGH = 1 / 16
PADDING = 0.05

# Texts of a window, however long they are: sorted by tokens they fill its batches without much padding.
LEAST = 512


def token_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Return the indices of texts in batches of at most `budget` tokens, padding included; the longest text comes first.

    The longest come first because they need the most memory: what does not fit fails at once. A text that is longer than
    the budget is a batch of its own.

    >>> token_batches([4, 9, 4, 9], 20)
    [[1, 3], [0, 2]]
    """
    batches: list[list[int]] = []
    tokens = 0
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if batches:
            longest = lengths[batches[-1][0]]
            padded = (len(batches[-1]) + 1) * longest
            wasteful = padded - tokens - lengths[index] > PADDING * padded and tokens >= ENOUGH * budget
            if padded <= budget and not wasteful:
                batches[-1].append(index)
                tokens += lengths[index]
                continue
        batches.append([index])
        tokens = lengths[index]
    return batches


def windows(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Return the indices of texts in windows of similar sizes, the largest first, which are tokenised one after the other.

    A window has at most `budget` of the sizes, all counted as the largest, but `LEAST` texts if there are so many.

    >>> [len(window) for window in windows([9] * 600 + [2] * 1700, budget=2800)]
    [512, 512, 1276]
    """
    found: list[list[int]] = []
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        if found and (len(found[-1]) < LEAST or (len(found[-1]) + 1) * sizes[found[-1][0]] <= budget):
            found[-1].append(index)
        else:
            found.append([index])
    return found


def prefetch(prepare: Callable[[A], B], items: Iterable[A], *, depth: int = 4) -> Iterator[tuple[A, B]]:
    """Yield each item with what it is prepared to; a thread prepares the next ones while the caller uses this one.

    >>> list(prefetch(str.upper, "ab"))
    [('a', 'A'), ('b', 'B')]
    """
    with ThreadPoolExecutor(1) as thread:
        waiting: deque[tuple[A, Future[B]]] = deque()
        try:
            for item in items:
                waiting.append((item, thread.submit(prepare, item)))
                if len(waiting) > depth:
                    ready, future = waiting.popleft()
                    yield ready, future.result()
            while waiting:
                ready, future = waiting.popleft()
                yield ready, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch means that memory ran out: each device says it in its own words."""
    words = ("out of memory", "not enough memory", "can't allocate memory")
    return any(word in str(error).lower() for word in words)


def on_device(features: Features, device: torch.device) -> Features:
    """Return the features with their tensors on a device, which a GPU copies while it computes."""

    def moved(value: torch.Tensor) -> torch.Tensor:
        if device.type == "cuda" and not value.is_cuda:
            value = value.pin_memory()  # only such memory is copied without waiting
        return value.to(device, non_blocking=True)

    return {name: moved(value) if isinstance(value, torch.Tensor) else value for name, value in features.items()}
