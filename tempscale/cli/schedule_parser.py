"""Temperatures as they are written on a command line: numbers, schedules as in Python, files of `RateMatched`."""

import re

from tempscale.patching.schedules import Schedule, temperature_label
from tempscale.patching.written import read_schedule, split_outside_brackets
from tempscale.probing.rate_matched import RateMatched


def read_temperatures(text: str) -> list[Schedule]:
    """Return the different temperatures of a list with commas between them.

    Args:
        text: numbers, schedules as `temperature_label` writes them, with literal arguments, `RateMatched(file.json)`, or
            the name of such a file alone.

    Raises:
        ValueError: anything else, or a temperature that is not possible. OSError: a file that cannot be read.

    >>> read_temperatures("1.0, LogLength(64), PerLayer({-1: 0.8})")
    [1.0, LogLength(reference_length=64, temperature=1.0, exponent=1.0), PerLayer(temperatures={-1: 0.8})]
    """
    return list({temperature_label(one): one for one in map(_read, split_outside_brackets(text))}.values())


def _read(text: str) -> Schedule:
    file = re.fullmatch(r"RateMatched\((.*)\)|(.*\.json)", text)
    return RateMatched.load((file[1] or file[2] or "").strip(" '\"")) if file else read_schedule(text)
