"""Remedies: what they are, and how they are written in one line.

A remedy consists of up to three steps, which act in this order, however they are written: a temperature (in the attention),
pieces (in what is read), and a postprocessor (on the vectors), fitted for queries and documents separately.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tempscale.embeddings.postprocess import AllButTheTop, Centring, Postprocessor, Projection, Whitening
from tempscale.encoding.reading import Pieces, Reading
from tempscale.patching.layers import layers_label
from tempscale.patching.written import read_schedule, split_outside_brackets

_EXAMPLES = "none, pieces(128), project, pieces(128)+project, temperature(0.9, layers=last:3)"


@dataclass(frozen=True, eq=False, repr=False)
class Remedy(Reading):
    """What is done to a model, its texts or its vectors. Printed, it is its label; two with one label are the same.

    Args:
        temperature: number or schedule, as for `patch`; 1 leaves attention as it is.
        layers: layers that get it, as for `patch`.
        side: texts that get it: "both", "query" or "document".
        pieces: `Pieces` in which texts are read, or None to read them whole.
        vectors: `Centring`, `Projection`, `AllButTheTop` or `Whitening`, which is fitted on the texts of each side at hand
            (`tempscale.embeddings.sides.PerSide`); None leaves the vectors as they are.

    >>> from tempscale import Pieces, Projection
    >>> print(Remedy(temperature=0.9, layers="last:3", pieces=Pieces(128), vectors=Projection()))
    temperature(0.9, layers=last:3)+pieces(128)+project
    >>> print(Remedy())
    none
    """

    vectors: Postprocessor | None = None

    def __str__(self) -> str:
        """Return its label, which `read_remedy` reads."""
        steps = []
        if not self.is_plain:
            temperature, layers, side = self.labels()
            options = [
                f", layers={f'[{layers}]' if ',' in layers else layers}" if layers != "all" else "",
                f", side={side}" if side != "both" else "",
            ]
            steps.append(f"temperature({temperature}{''.join(options)})")
        return "+".join(filter(None, [*steps, self.besides])) or "none"

    def __repr__(self) -> str:
        return f"read_remedy({str(self)!r})"

    @property
    def besides(self) -> str:
        """The label of what is done besides a temperature, the column `remedy` of results; "" for nothing."""
        return "+".join(str(step) for step in (self.pieces, self.vectors) if step is not None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remedy) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


def read_remedy(text: str) -> Remedy:
    """Return the remedy that a label such as "pieces(128)+project" names.

    Args:
        text: "none", or steps with "+" between them:

            - temperature(0.9), temperature(LogLength(64), layers=last:3, side=document);
            - pieces(128), pieces(128, overlap=16, pool=max), pieces(256, late=True);
            - one of centre, project, all_but_the_top(3), whiten(64).

    Raises:
        ValueError: a step of another kind or twice, or an argument that is not possible.

    >>> print(read_remedy("project + pieces(128)"))
    pieces(128)+project
    """
    found: dict[str, Any] = {}
    for step in split_outside_brackets(text, "+") if text.strip() != "none" else ():
        name = step.partition("(")[0].strip()
        if name not in _STEPS:
            raise ValueError(f"{step!r} is no remedy: expected such as {_EXAMPLES}")
        try:
            _, positional, named = _taken_apart(step)
            made = _STEPS[name](*positional, **named)
        except TypeError as error:
            raise ValueError(f"{step!r} cannot be read: expected such as {_USES.get(name, name)}") from error
        except ValueError as error:
            raise ValueError(f"{step!r}: {error}") from error
        if found.keys() & made.keys():
            raise ValueError(
                f"{text!r} has two steps of a kind: expected one temperature, one of pieces, and one on vectors"
            )
        found |= made
    return Remedy(**found)


def read_remedies(text: str) -> list[Remedy]:
    """Return the different remedies of a list with commas between them.

    >>> [str(remedy) for remedy in read_remedies("none, pieces(128, pool=max), project, none")]
    ['none', 'pieces(128, pool=max)', 'project']
    """
    return list(dict.fromkeys(map(read_remedy, split_outside_brackets(text))))


def as_remedy(remedy: "Remedy | str") -> Remedy:
    """Return a remedy that may be given by its label, or raise ValueError."""
    if not isinstance(remedy, (Remedy, str)):
        raise ValueError(f"expected a Remedy, or text such as {_EXAMPLES}, not {remedy!r}")
    return read_remedy(remedy) if isinstance(remedy, str) else remedy


def _taken_apart(step: str) -> tuple[str, list[str], dict[str, str]]:
    """Return the name of a step, and its arguments as text, those without a name and those with one.

    >>> _taken_apart("temperature(LogLength(64, exponent=2), side=query)")
    ('temperature', ['LogLength(64, exponent=2)'], {'side': 'query'})
    """
    name, bracket, rest = step.partition("(")
    positional: list[str] = []
    named: dict[str, str] = {}
    if bracket and not rest.endswith(")"):
        raise TypeError("a bracket is not closed")
    for part in split_outside_brackets(rest[:-1]) if rest[:-1].strip() else ():
        key, equals, value = part.partition("=")
        if not (equals and key.strip().isidentifier()):
            positional.append(part)
        elif key.strip() in named:
            raise TypeError("an argument is given twice")
        else:
            named[key.strip()] = value.strip().strip("'\"")
    return name.strip(), positional, named


def _temperature(value: str, /, layers: str = "all", side: str = "both") -> dict[str, Any]:
    layers = layers.strip("[]").replace(" ", "")
    layers_label(layers)
    return {"temperature": read_schedule(value), "layers": None if layers == "all" else layers, "side": side}


def _pieces(tokens: str, /, overlap: str = "0", pool: Any = "mean", late: str = "False") -> dict[str, Any]:
    if late not in ("True", "False"):
        raise ValueError(f"late of pieces must be True or False, not {late!r}")
    return {"pieces": Pieces(_whole(tokens), _whole(overlap), pool, late == "True")}


def _vectors(kind: Callable[..., Postprocessor]) -> Callable[..., dict[str, Any]]:
    return lambda *numbers: {"vectors": kind(*map(_whole, numbers))}


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is no whole number") from None


_STEPS: dict[str, Callable[..., dict[str, Any]]] = {
    "temperature": _temperature,
    "pieces": _pieces,
    "centre": _vectors(Centring),
    "project": _vectors(Projection),
    "all_but_the_top": _vectors(AllButTheTop),
    "whiten": _vectors(Whitening),
}
_USES = {
    "temperature": "temperature(0.9, layers=last:3, side=document)",
    "pieces": "pieces(128, overlap=16, pool=max, late=True)",
    "all_but_the_top": "all_but_the_top(3)",
    "whiten": "whiten(64)",
}
