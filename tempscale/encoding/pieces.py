"""What becomes of the embeddings of pieces: their mean, or the score of the best; and which pieces a model can read."""

import math
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from tempscale.encoding.cutting import count_tokens, mean_of_pieces, mean_pooling_at
from tempscale.encoding.reading import Pieces, Pool

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Embeddings = npt.NDArray[np.float32]


def check_pieces(model: "SentenceTransformer", pieces: Pieces, prompts: Collection[str] = ("",)) -> None:
    """Raise ValueError unless a model can read texts in such pieces, with any of its prompts in front."""
    limit = model.max_seq_length
    if limit and pieces.tokens > limit:
        raise ValueError(
            f"{pieces} has more than the {limit} tokens that the model reads: expected at most {limit}, or a larger "
            "max_seq_length"
        )
    if pieces.late:
        if mean_pooling_at(model) is None:
            raise ValueError(
                f"{pieces} pools token embeddings as mean pooling does, which this model has not: leave out late=True"
            )
        if not limit:
            raise ValueError(
                f"{pieces} needs to know how much of a text is read at once: set max_seq_length, or leave out late=True"
            )
        return
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


def padded(vectors: torch.Tensor, numbers: Sequence[int], most: int) -> torch.Tensor:
    """Return vectors (pieces, d) of texts with so many pieces each as (n, most, d), NaN where a text has fewer."""
    found = vectors.new_full((len(numbers), most, vectors.shape[1]), torch.nan)
    found[torch.arange(most) < torch.tensor(numbers, dtype=torch.int64)[:, None]] = vectors
    return found


def most_pieces(pieces: Pieces, length: int) -> int:
    """Return the number of late pieces of a text of so many tokens."""
    return max(1, math.ceil((length - pieces.overlap) / (pieces.tokens - pieces.overlap)))


def averaged(embeddings: Embeddings, numbers: Sequence[int]) -> Embeddings:
    """Return the embeddings of texts (n, d) from those of their pieces (pieces, d), as `cutting.mean_of_pieces`."""
    found: Embeddings = mean_of_pieces(torch.from_numpy(embeddings), numbers).numpy()
    return found


def with_pieces(embeddings: Embeddings, numbers: Sequence[int]) -> Embeddings:
    """Return for each text its mean as `averaged` makes it, and then its pieces, the last one repeated as needed.

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
    return np.concatenate([averaged(embeddings, numbers)[:, None], embeddings[places]], axis=1)


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
