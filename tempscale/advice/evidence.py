"""What texts without pairs tell: how much of them a model reads, how its two sides lie, and how fast it is here."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tempscale.advice.words import cost
from tempscale.embeddings.remedies import Remedy
from tempscale.embeddings.sides import NAMES
from tempscale.encoding.cutting import count_tokens, cut_texts
from tempscale.encoding.pieces import most_pieces
from tempscale.encoding.reading import Pieces

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_SAMPLE = 64  # texts of a side that are embedded


@dataclass(frozen=True)
class Side:
    """The texts of one side, "query" or "document", and their lengths in tokens, with the prompt and special tokens."""

    name: str
    texts: Sequence[str]
    tokens: npt.NDArray[np.int64]
    prompt: str = ""


@dataclass(frozen=True)
class Evidence:
    """What was seen of a model and texts.

    Attributes:
        sides: queries and documents, or only one of them.
        window: tokens that the model reads of a text, or None where it has no limit.
        cosine: cosine of the mean embeddings of samples of the two sides, or None for only one side.
        seconds: time that the model takes for a token here.
    """

    sides: tuple[Side, ...]
    window: int | None
    cosine: float | None
    seconds: float

    def cut(self, side: Side) -> float:
        """Return the share of a side's texts that are longer than the window."""
        return 0.0 if self.window is None else float((side.tokens > self.window).mean())

    def sentences(self) -> list[str]:
        """Return what was seen, in sentences."""
        found = []
        for side in self.sides:
            middle, longest = np.median(side.tokens), side.tokens.max()
            said = f"{len(side.texts)} {NAMES[side.name]}, of {middle:.0f} tokens in the middle and {longest} at most"
            if self.cut(side):
                said += f"; {100 * self.cut(side):.3g} % of the {NAMES[side.name]} are longer than the {self.window} tokens "
                said += "that the model reads, and the rest of those is not read"
            elif self.window is not None:
                said += f"; none is longer than the {self.window} tokens that the model reads"
            found.append(f"{said}.")
        if self.cosine is not None:
            found.append(
                f"The mean embeddings of queries and of documents have a cosine of {self.cosine:.2f}, where 1 is the same "
                "direction: what a side has in common is its own, and is to be taken from that side alone."
            )
        return found


def look(
    model: "SentenceTransformer",
    queries: Sequence[str],
    documents: Sequence[str],
    prompts: dict[str, str] | None = None,
) -> Evidence:
    """Count tokens, and embed a sample of each side.

    Args:
        model: embedding model.
        queries, documents: texts; one of the two may be empty.
        prompts: prompts of the sides, "query" and "document".
    """
    prompts = prompts or {}
    default = model.prompts.get(model.default_prompt_name or "", "")
    sides, means, spent, read = [], [], 0.0, 0
    for name, texts in (("query", queries), ("document", documents)):
        if not texts:
            continue
        prompt = prompts.get(name, default)
        side = Side(name, texts, np.array(count_tokens(model, texts, prompt)), prompt)
        sides.append(side)
        chosen = random.Random(0).sample(range(len(texts)), min(_SAMPLE, len(texts)))
        sample = sorted((texts[k] for k in chosen), key=len)
        model.encode(sample[:1], prompt=prompt, show_progress_bar=False)  # the first call prepares things
        start = time.perf_counter()
        embeddings = model.encode(sample, prompt=prompt, show_progress_bar=False)
        spent += time.perf_counter() - start
        read += int(np.minimum(side.tokens[chosen], model.max_seq_length or np.inf).sum())
        means.append(embeddings.astype(np.float64).mean(0))
    cosine = float(means[0] @ means[1] / np.prod([np.linalg.norm(mean) for mean in means])) if len(means) == 2 else None
    return Evidence(tuple(sides), model.max_seq_length, cosine, spent / read)


class Costs:
    """What remedies cost on given texts; the texts are cut into each kind of pieces once.

    Args:
        model: embedding model.
        evidence: what was seen of it and the texts.
    """

    def __init__(self, model: "SentenceTransformer", evidence: Evidence) -> None:
        self._model, self._evidence = model, evidence
        self._known: dict[tuple[str, Pieces | None], tuple[int, float]] = {}

    def of(self, remedy: Remedy) -> tuple[str, str]:
        """Return what a remedy costs more at query and at index time, in words."""
        queries, documents = (self._more(side, remedy.pieces) for side in self._evidence.sides)
        return queries, documents

    def _more(self, side: Side, pieces: Pieces | None) -> str:
        whole, _ = self.read(side, None)
        read, number = self.read(side, pieces)
        several = pieces is not None and pieces.pool != "mean" and side.name == "document"
        return cost(read / whole, number if several else 1.0)

    def seconds(self, remedies: Sequence[Remedy]) -> float:
        """Return about how long the model takes for all remedies; those that read alike share what was read."""
        different = {
            (side.name, _kind(remedy.pieces), (remedy if remedy.side in ("both", side.name) else Remedy()).labels())
            for remedy in remedies
            for side in self._evidence.sides
        }
        sides = {side.name: side for side in self._evidence.sides}
        return sum(self.read(sides[name], pieces)[0] for name, pieces, _ in different) * self._evidence.seconds

    def read(self, side: Side, pieces: Pieces | None) -> tuple[int, float]:
        """Return the tokens that the model reads of a side's texts, whole or in pieces, and the mean number of pieces."""
        key = side.name, _kind(pieces)
        if key not in self._known:
            self._known[key] = self._read(side, pieces)
        return self._known[key]

    def _read(self, side: Side, pieces: Pieces | None) -> tuple[int, float]:
        whole = np.minimum(side.tokens, self._evidence.window or side.tokens.max())
        if pieces is None:
            return int(whole.sum()), 1.0
        if pieces.late:
            return int(whole.sum()), float(np.mean([most_pieces(pieces, length) for length in whole.tolist()]))
        lengths = side.tokens.tolist()
        cut = cut_texts(self._model, side.texts, lengths, pieces.tokens, pieces.overlap, side.prompt)
        return sum(cut.tokens), float(np.mean(cut.numbers))


def _kind(pieces: Pieces | None) -> Pieces | None:
    """Return pieces as far as they are read, whatever becomes of them."""
    return pieces and replace(pieces, pool="mean")
