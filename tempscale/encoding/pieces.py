"""Chunk-and-average: a long text in pieces, each embedded by itself, and the mean of their embeddings."""

import math
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from tempscale.encoding.features import count_tokens

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

LEAST = 8  # tokens of a piece; with fewer, hardly more than the special tokens are left
Embeddings = npt.NDArray[np.float32]


class Pieces(NamedTuple):
    """The pieces of all texts, one after the other, the tokens of each, and how many pieces each text has."""

    texts: list[str]
    tokens: list[int]
    numbers: list[int]


def check_least(chunk_tokens: int) -> None:
    """Raise ValueError for pieces too short for any model."""
    if chunk_tokens < LEAST:
        raise ValueError(f"chunk_tokens must be at least {LEAST}, not {chunk_tokens}; leave it out to read texts whole")


def check_chunks(model: "SentenceTransformer", chunk_tokens: int, prompts: Collection[str] = ("",)) -> None:
    """Raise ValueError unless a model can read texts in pieces of chunk_tokens tokens, with any of its prompts in front."""
    check_least(chunk_tokens)
    limit = model.max_seq_length
    if limit and chunk_tokens > limit:
        raise ValueError(
            f"chunk_tokens {chunk_tokens} is more than the {limit} tokens that the model reads: expected at most {limit}, "
            "or a larger max_seq_length"
        )
    if not getattr(model.tokenizer, "is_fast", False):
        raise ValueError(
            f"{type(model.tokenizer).__name__} does not say where in a text its tokens stand, which chunk_tokens needs: "
            "use a model with a fast tokenizer, or leave chunk_tokens out"
        )
    for prompt in prompts:
        beside = count_tokens(model, [""], prompt)[0]
        if beside >= chunk_tokens:
            raise ValueError(
                f"chunk_tokens {chunk_tokens} leaves no room for text: the prompt {prompt!r} and special tokens are "
                f"{beside} already; expected at least {beside + 1}"
            )


def pieces_of(
    model: "SentenceTransformer", texts: Sequence[str], tokens: Sequence[int], chunk_tokens: int, prompt: str = ""
) -> Pieces:
    """Cut every text that is longer than chunk_tokens tokens.

    Consecutive pieces, which together are the text, but for white space where it was cut. Cuts are between words where
    that is possible, else between tokens. The pieces of a text are about equally long, so that no short rest counts as
    much as a full piece.

    Args:
        model: model whose tokens are counted; with a fast tokenizer.
        texts: texts without the prompt.
        tokens: length of each text in tokens, with prompt and special tokens, see `count_tokens`.
        chunk_tokens: largest length of a piece in tokens, with prompt and special tokens. Only a character that has more
            tokens by itself makes a longer piece.
        prompt: prompt that each piece will get in front.

    >>> from tempscale import load_model
    >>> model = load_model("minilm")
    >>> text = "Attention is an average, and an average of many things is much like any other."
    >>> found = pieces_of(model, ["short", text], count_tokens(model, ["short", text]), 12)
    >>> found.texts[1:]
    ['Attention is an average, and an average of', 'many things is much like any other.']
    >>> found.tokens, found.numbers
    ([3, 11, 10], [1, 2])
    """
    room = chunk_tokens - count_tokens(model, [""], prompt)[0]
    cut = {text: [(text, count)] for text, count in zip(texts, tokens, strict=True)}
    for text, [(_, count)] in cut.items():
        if count > chunk_tokens:
            cut[text] = list(_cut(model, text.strip(), chunk_tokens, prompt, room))
    return Pieces(
        [piece for text in texts for piece, _ in cut[text]],
        [count for text in texts for _, count in cut[text]],
        [len(cut[text]) for text in texts],
    )


def _cut(
    model: "SentenceTransformer", text: str, chunk_tokens: int, prompt: str, room: int
) -> Iterator[tuple[str, int]]:
    """Yield the pieces of a text, with their tokens as the model will read them."""
    pieces = list(_split(model, text, room))
    for piece, count in zip(pieces, count_tokens(model, pieces, prompt), strict=True):
        if count > chunk_tokens and room > 1:
            # The end of a word can have more tokens when it stands alone.
            yield from _cut(model, piece, chunk_tokens, prompt, room // 2)
        else:
            yield piece, count


def _split(model: "SentenceTransformer", text: str, room: int) -> Iterator[str]:
    """Yield consecutive pieces of a text, each with at most `room` of its tokens."""
    encoded = model.tokenizer(
        text, add_special_tokens=False, truncation=False, verbose=False, return_offsets_mapping=True
    )
    offsets, words = encoded["offset_mapping"], encoded.word_ids()
    begin, character = 0, 0
    # Some characters are several tokens, all at the same place.
    cuts = [k for k in range(1, len(offsets)) if offsets[k][0] >= max(offsets[k - 1][1], offsets[k - 1][0] + 1)]
    while (left := len(offsets) - begin) > room:
        wanted = math.ceil(left / math.ceil(left / room))
        first, after = bisect_right(cuts, begin), bisect_right(cuts, begin + room)
        between_words = [k for k in cuts[first:after] if words[k] != words[k - 1] and k - begin >= wanted / 2]
        possible = between_words or cuts[first:after] or cuts[after : after + 1]
        if not possible:
            break
        begin = min(possible, key=lambda k: abs(k - begin - wanted))
        if piece := text[character : offsets[begin][0]].strip():
            yield piece
        character = offsets[begin][0]
    if piece := text[character:].strip():
        yield piece


def average(embeddings: Embeddings, numbers: Sequence[int]) -> Embeddings:
    """Return the embeddings of texts from those of their pieces.

    A text in one piece keeps its embedding. Of several pieces the unit vectors are averaged and the mean is normalised; it
    gets the mean norm of the pieces, which is 1 for a model that normalises.

    Args:
        embeddings: (pieces, d).
        numbers: number of pieces of each text, in the order of the embeddings.

    >>> average(np.array([[0, 2], [1, 0], [0, 1]], dtype=np.float32), [1, 2])
    array([[0.        , 2.        ],
           [0.70710677, 0.70710677]], dtype=float32)
    """
    if len(numbers) == len(embeddings):
        return embeddings
    firsts = np.cumsum([0, *numbers[:-1]])
    found: Embeddings = embeddings[firsts]
    for text, (first, number) in enumerate(zip(firsts, numbers, strict=True)):
        if number > 1:
            pieces = embeddings[first : first + number].astype(np.float64)
            norms = np.linalg.norm(pieces, axis=1, keepdims=True)
            mean = (pieces / norms).mean(0)
            found[text] = mean / np.linalg.norm(mean) * norms.mean()
    return found
