"""What texts without pairs tell: how much of them a model reads, how its two sides lie, and how fast it is here."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tempscale.embeddings.remedies import Remedy
from tempscale.encoding.cutting import count_tokens, cut_texts
from tempscale.encoding.reading import Pieces

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_SAMPLE = 64  # texts of a side that are embedded


@dataclass(frozen=True)
class Side:
    """The texts of one side, and their lengths in tokens, with the prompt and special tokens."""

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
            said = f"{len(side.texts)} {side.name}, of {middle:.0f} tokens in the middle and {longest} at most"
            if self.cut(side):
                said += f"; {100 * self.cut(side):.3g} % are longer than the {self.window} tokens that the model reads, and "
                said += "the rest of those is not read"
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
    for name, key, texts in (("queries", "query", queries), ("documents", "document", documents)):
        if not texts:
            continue
        prompt = prompts.get(key, default)
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


def tokens_read(
    model: "SentenceTransformer", evidence: Evidence, side: Side, pieces: Pieces | None
) -> tuple[int, float]:
    """Return the tokens that a model reads of a side's texts, whole or in pieces, and the mean number of pieces."""
    limit = evidence.window or int(side.tokens.max())
    if pieces is None:
        return int(np.minimum(side.tokens, limit).sum()), 1.0
    if pieces.late:
        read = np.minimum(side.tokens, limit)
        numbers = np.maximum(1, np.ceil((read - pieces.overlap) / (pieces.tokens - pieces.overlap)))
        return int(read.sum()), float(numbers.mean())
    cut = cut_texts(model, side.texts, side.tokens.tolist(), pieces.tokens, pieces.overlap, side.prompt)
    return sum(cut.tokens), float(np.mean(cut.numbers))


def seconds_needed(model: "SentenceTransformer", evidence: Evidence, remedies: Sequence[Remedy]) -> float:
    """Return about how long the model takes for all remedies; those that read alike share what was read."""
    read = set()
    for remedy in remedies:
        for side in evidence.sides:
            plain = remedy.side not in ("both", {"queries": "query", "documents": "document"}[side.name])
            pieces = (
                None if remedy.pieces is None else (remedy.pieces.tokens, remedy.pieces.overlap, remedy.pieces.late)
            )
            read.add((side.name, pieces, ("1.0", "all", "both") if plain else remedy.labels()))
    by_name = {side.name: side for side in evidence.sides}
    total = sum(
        tokens_read(model, evidence, by_name[name], pieces and Pieces(*pieces[:2], late=pieces[2]))[0]
        for name, pieces, _ in read
    )
    return total * evidence.seconds
