"""Long texts in pieces, each embedded by itself, and what becomes of their embeddings: the mean, or the best score."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from tempscale.encoding.features import count_tokens
from tempscale.encoding.late import check_late
from tempscale.encoding.reading import Pieces, Pool

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Embeddings = npt.NDArray[np.float32]


class Cut(NamedTuple):
    """The pieces of all texts, one after the other, the tokens of each, and how many pieces each text has."""

    texts: list[str]
    tokens: list[int]
    numbers: list[int]


def check_pieces(model: "SentenceTransformer", pieces: Pieces, prompts: Collection[str] = ("",)) -> None:
    """Raise ValueError unless a model can read texts in such pieces, with any of its prompts in front."""
    limit = model.max_seq_length
    if limit and pieces.tokens > limit:
        raise ValueError(
            f"{pieces} has more than the {limit} tokens that the model reads: expected at most {limit}, or a larger "
            "max_seq_length"
        )
    if pieces.late:
        return check_late(model, pieces)
    if not getattr(model.tokenizer, "is_fast", False):
        raise ValueError(
            f"{type(model.tokenizer).__name__} does not say where in a text its tokens stand, which {pieces} needs: "
            "use a model with a fast tokenizer, or read texts whole"
        )
    for prompt in prompts:
        beside = count_tokens(model, [""], prompt)[0] + pieces.overlap
        if beside >= pieces.tokens:
            raise ValueError(
                f"{pieces} leaves no room for text: the prompt {prompt!r}, special tokens and overlap are {beside} tokens "
                f"already; expected at least {beside + 1}"
            )
    return None


def pieces_of(
    model: "SentenceTransformer", texts: Sequence[str], tokens: Sequence[int], pieces: Pieces, prompt: str = ""
) -> Cut:
    """Cut every text that is longer than a piece.

    Consecutive pieces, which together are the text, but for white space where it was cut. Cuts are between words where
    that is possible, else between tokens. The pieces of a text are about equally long, so that no short rest counts as
    much as a full piece. With an overlap, each begins with the end of the one before it.

    Args:
        model: model whose tokens are counted; with a fast tokenizer.
        texts: texts without the prompt.
        tokens: length of each text in tokens, with prompt and special tokens, see `count_tokens`.
        pieces: how texts are cut. Only a character that has more tokens by itself makes a longer piece.
        prompt: prompt that each piece will get in front.

    >>> from tempscale import load_model
    >>> model = load_model("minilm")
    >>> text = "Attention is an average, and an average of many things is much like any other."
    >>> found = pieces_of(model, ["short", text], count_tokens(model, ["short", text]), Pieces(12))
    >>> found.texts[1:]
    ['Attention is an average, and an average of', 'many things is much like any other.']
    >>> found.tokens, found.numbers
    ([3, 11, 10], [1, 2])
    """
    room = pieces.tokens - count_tokens(model, [""], prompt)[0]
    cut = {text: [(text, count)] for text, count in zip(texts, tokens, strict=True)}
    for text, [(_, count)] in cut.items():
        if count > pieces.tokens:
            cut[text] = list(_cut(model, text.strip(), pieces.tokens, prompt, room, pieces.overlap))
    return Cut(
        [piece for text in texts for piece, _ in cut[text]],
        [count for text in texts for _, count in cut[text]],
        [len(cut[text]) for text in texts],
    )


def _cut(
    model: "SentenceTransformer", text: str, most: int, prompt: str, room: int, overlap: int
) -> Iterator[tuple[str, int]]:
    """Yield the pieces of a text, with their tokens as the model will read them."""
    pieces = list(_split(model, text, room, overlap))
    for piece, count in zip(pieces, count_tokens(model, pieces, prompt), strict=True):
        if count > most and room > 1:
            # The end of a word can have more tokens when it stands alone.
            yield from _cut(model, piece, most, prompt, room // 2, 0)
        else:
            yield piece, count


def _split(model: "SentenceTransformer", text: str, room: int, overlap: int) -> Iterator[str]:
    """Yield consecutive pieces of a text, each with at most `room` of its tokens, the overlap included."""
    encoded = model.tokenizer(
        text, add_special_tokens=False, truncation=False, verbose=False, return_offsets_mapping=True
    )
    offsets, words = encoded["offset_mapping"], encoded.word_ids()
    # Some characters are several tokens, all at the same place.
    cuts = [k for k in range(1, len(offsets)) if offsets[k][0] >= max(offsets[k - 1][1], offsets[k - 1][0] + 1)]
    room -= overlap
    begin, character = 0, 0
    while (left := len(offsets) - begin) > room:
        wanted = math.ceil(left / math.ceil(left / room))
        possible = _between_words(cuts, words, begin + wanted / 2, begin + room) or _range(
            cuts, begin + 1, begin + room
        )
        possible = possible or cuts[bisect_right(cuts, begin + room) :][:1]
        if not possible:
            break
        end = min(possible, key=lambda k: abs(k - begin - wanted))
        if piece := text[character : offsets[end][0]].strip():
            yield piece
        begin, back = end, end - overlap
        repeated = _between_words(cuts, words, back, end) or _range(cuts, back, end) or [end]
        character = offsets[repeated[0]][0]
    if piece := text[character:].strip():
        yield piece


def _range(cuts: list[int], first: float, last: float) -> list[int]:
    return cuts[bisect_left(cuts, first) : bisect_right(cuts, last)]


def _between_words(cuts: list[int], words: Sequence[int | None], first: float, last: float) -> list[int]:
    return [k for k in _range(cuts, first, last) if words[k] != words[k - 1]]


def mean_of_pieces(embeddings: Embeddings, numbers: Sequence[int]) -> Embeddings:
    """Return the embeddings of texts from those of their pieces.

    A text in one piece keeps its embedding. Of several pieces the unit vectors are averaged and the mean is normalised; it
    gets the mean norm of the pieces, which is 1 for a model that normalises.

    Args:
        embeddings: (pieces, d).
        numbers: number of pieces of each text, in the order of the embeddings.

    >>> mean_of_pieces(np.array([[0, 2], [1, 0], [0, 1]], dtype=np.float32), [1, 2])
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


def with_pieces(embeddings: Embeddings, numbers: Sequence[int]) -> Embeddings:
    """Return for each text its mean as `mean_of_pieces` makes it, and then its pieces, the last one repeated as needed.

    Args:
        embeddings: (pieces, d).
        numbers: (n,) number of pieces of each text, in the order of the embeddings.

    Returns:
        (n, 1 + most pieces of a text, d)

    >>> with_pieces(np.array([[0, 2], [3, 0], [0, 3]], dtype=np.float32), [1, 2])[0].tolist()
    [[0.0, 2.0], [0.0, 2.0], [0.0, 2.0]]
    """
    counts = np.asarray(numbers, dtype=np.int64)
    firsts = np.cumsum(counts) - counts
    places = np.minimum(np.arange(max(numbers, default=1)), counts[:, None] - 1) + firsts[:, None]
    return np.concatenate([mean_of_pieces(embeddings, numbers)[:, None], embeddings[places]], axis=1)


def score_pieces(
    similarity: Callable[[Any, Any], torch.Tensor], queries: Any, documents: Any, pool: Pool
) -> torch.Tensor:
    """Return the scores (n, m) of documents with several vectors: that of the best piece, or its mean with the mean's.

    Args:
        similarity: the model's, of (n, d) and (m, d).
        queries: (n, d).
        documents: (m, 1 + pieces, d), as `with_pieces` returns them.
        pool: "max" or "mean+max".
    """
    vectors = torch.as_tensor(np.asarray(documents))
    several = torch.as_tensor(similarity(queries, vectors.flatten(0, 1)))
    scores = several.reshape(len(several), *vectors.shape[:2])
    best: torch.Tensor = scores[..., 1:].amax(-1)
    return best if pool == "max" else (scores[..., 0] + best) / 2
