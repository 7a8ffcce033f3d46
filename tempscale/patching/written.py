"""Schedules as they are written in one line, "LogLength(64)" or "PerLayer({-1: 0.8})", and read back."""

import ast
from collections.abc import Iterator
from typing import Any

from tempscale.patching.schedules import LengthRule, LogLength, PerLayer, Schedule, check_number, temperature_label

SCHEDULES: dict[str, Any] = {schedule.__name__: schedule for schedule in (LengthRule, LogLength, PerLayer)}


def split_outside_brackets(text: str, separator: str = ",") -> Iterator[str]:
    """Yield what stands between the separators that are in no bracket.

    >>> list(split_outside_brackets("1, PerLayer([1, 2])"))
    ['1', 'PerLayer([1, 2])']
    """
    depth = start = 0
    for position, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character == separator and depth == 0:
            yield text[start:position].strip()
            start = position + 1
    yield text[start:].strip()


def read_schedule(text: str) -> Schedule:
    """Return a number, or a schedule as `temperature_label` writes it, with literal arguments.

    Raises:
        ValueError: anything else, or a temperature that is not possible.

    >>> read_schedule("LogLength(64)")
    LogLength(reference_length=64, temperature=1.0, exponent=1.0)
    """
    try:
        found: Schedule = _value(ast.parse(text, mode="eval").body)
        if isinstance(found, (float, int)):
            return check_number(found)
        if isinstance(found, tuple(SCHEDULES.values())):
            temperature_label(found)  # also checks what it returns for all lengths
            return found
    except (SyntaxError, TypeError, RecursionError, MemoryError, OverflowError):
        pass
    raise ValueError(
        f"{text!r} is no temperature; expected numbers or schedules, such as LogLength(64) or PerLayer({{-1: 0.8}}), with "
        "commas between them"
    )


def _value(node: ast.expr) -> Any:
    """Return a number, a list, a mapping or a schedule; nothing else is evaluated."""
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.List(elts=items):
            return [_value(item) for item in items]
        case ast.Dict(keys=keys, values=values):
            layers = [_value(key) for key in keys if key]
            if len(layers) == len(values) and all(type(layer) is int for layer in layers):
                return dict(zip(layers, map(_value, values), strict=True))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=named) if name in SCHEDULES:
            keywords = {str(keyword.arg): _value(keyword.value) for keyword in named}
            return SCHEDULES[name](*map(_value, arguments), **keywords)
    raise TypeError("neither a number nor a schedule")
