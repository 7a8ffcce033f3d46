"""How a model reads texts: whole or in pieces, and with which temperature."""

from dataclasses import dataclass
from typing import Literal, get_args

from tempscale.patching.layers import RepeatableLayers, layers_label
from tempscale.patching.schedules import Schedule, is_plain, temperature_label

ApplyTo = Literal["both", "document", "query"]
Pool = Literal["mean", "max", "mean+max"]

LEAST = 8  # tokens of a piece; with fewer, hardly more than the special tokens are left


@dataclass(frozen=True)
class Pieces:
    """Texts longer than so many tokens are read in pieces, all of them, also beyond the model's window.

    Args:
        tokens: largest length of a piece in tokens, prompt and special tokens included; at least 8.
        overlap: tokens that a piece has in common with the one before it, at most half of `tokens`.
        pool: what becomes of the pieces. "mean": their unit vectors are averaged, and a text keeps one vector. "max": a
            document keeps a vector for each piece, and its score is that of the best; queries are averaged. "mean+max": the
            mean of these two scores.
        late: whether the model reads a text at once, as far as its window goes, and only its token embeddings are pooled by
            piece (late chunking, arXiv:2409.04701); for models with mean pooling.

    Raises:
        ValueError: an argument outside these ranges.

    >>> str(Pieces(128)), str(Pieces(128, overlap=16, pool="max"))
    ('pieces(128)', 'pieces(128, overlap=16, pool=max)')
    """

    tokens: int
    overlap: int = 0
    pool: Pool = "mean"
    late: bool = False

    def __post_init__(self) -> None:
        for name in ("tokens", "overlap"):
            if type(getattr(self, name)) is not int:
                raise ValueError(f"{name} of pieces must be a whole number, not {getattr(self, name)!r}")
        if self.tokens < LEAST:
            raise ValueError(
                f"pieces must have at least {LEAST} tokens, not {self.tokens}; leave them out to read texts whole"
            )
        if not 0 <= self.overlap <= self.tokens // 2:
            raise ValueError(
                f"the overlap of pieces of {self.tokens} tokens must be 0 to {self.tokens // 2}, not {self.overlap}"
            )
        if self.pool not in get_args(Pool):
            raise ValueError(f"unknown pool {self.pool!r} of pieces: expected one of {', '.join(get_args(Pool))}")
        if type(self.late) is not bool:
            raise ValueError(f"late of pieces must be True or False, not {self.late!r}")

    def __str__(self) -> str:
        """Return its label, the key of stored results."""
        overlap = f", overlap={self.overlap}" if self.overlap else ""
        pool = f", pool={self.pool}" if self.pool != "mean" else ""
        return f"pieces({self.tokens}{overlap}{pool}{', late=True' if self.late else ''})"


@dataclass(frozen=True)
class Reading:
    """A way to read texts.

    Args:
        temperature: number or schedule that the attention logits are divided by; 1 leaves the model as it is.
        layers: layers that get the temperature, as `patch` takes them.
        side: side that gets the temperature: "both", or only "document" or "query", the other keeping 1.
        pieces: how long texts are read in pieces, or None to read them whole.

    Raises:
        ValueError: a temperature that is not possible, or an unknown side.
    """

    temperature: Schedule = 1.0
    layers: RepeatableLayers = None
    side: ApplyTo = "both"
    pieces: Pieces | None = None

    def __post_init__(self) -> None:
        temperature_label(self.temperature)
        if self.side not in get_args(ApplyTo):
            raise ValueError(f"unknown side {self.side!r}: expected one of {', '.join(get_args(ApplyTo))}")

    @property
    def is_plain(self) -> bool:
        """Whether the temperature is 1, so that layers and side make no difference."""
        return is_plain(self.temperature)

    @property
    def needs_sides(self) -> bool:
        """Whether it means something only where there are queries and documents."""
        return (not self.is_plain and self.side != "both") or (self.pieces is not None and self.pieces.pool != "mean")

    def labels(self) -> tuple[str, str, str]:
        """Return the labels of the temperature, its layers and its side, which are those of the model as it is at 1.

        >>> Reading(0.9, layers="last:3").labels(), Reading(1, side="query").labels()
        (('0.9', 'last:3', 'both'), ('1.0', 'all', 'both'))
        """
        if self.is_plain:
            return temperature_label(1.0), "all", "both"
        return temperature_label(self.temperature), layers_label(self.layers), self.side
