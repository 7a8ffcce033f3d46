"""How much of the collapse does pooling explain? A null model without attention, and an accounting of a real model.

A long text is made of pieces. If every piece is embedded for itself and the embeddings are averaged, different texts get
more alike with every piece, because averaging keeps what pieces share and shrinks what they do not.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tempscale.embeddings.controls import Ids, content_ids, embed_ids, has_position_ids
from tempscale.embeddings.geometry import Float, directions

if TYPE_CHECKING:
    import pandas as pd
    from sentence_transformers import SentenceTransformer

FEWEST_TEXTS = 20


def pooling_cosine(mean_square: float, variance: float, pieces: float) -> float:
    """Return the cosine of two texts of independent pieces, |μ|² / (|μ|² + s²/m): it rises to 1 with no attention.

    Args:
        mean_square: squared norm of the mean embedding of a piece, |μ|².
        variance: mean squared distance of a piece's embedding from μ, s².
        pieces: number m > 0 of pieces; the effective number, if the pieces of a text are correlated.

    Raises:
        ValueError: a negative mean_square or variance, both 0, or pieces not above 0.

    >>> pooling_cosine(1.0, 9.0, 1), pooling_cosine(1.0, 9.0, 9)
    (0.1, 0.5)
    """
    if mean_square < 0 or variance < 0 or not mean_square + variance > 0 or not pieces > 0:
        raise ValueError(
            f"expected mean_square, variance >= 0, not both 0, and pieces > 0, not {mean_square}, {variance}, {pieces}"
        )
    return mean_square / (mean_square + variance / pieces)


class PieceModel(NamedTuple):
    """Pieces as shared mean + topic of their text + remainder, the last two with mean 0 and independent.

    `mean_square` is the squared norm of the mean, `topic` and `remainder` are the variances (traces of covariances).
    """

    mean_square: float
    topic: float
    remainder: float

    @property
    def correlation(self) -> float:
        """Correlation of two pieces of one text: the topic's share of the variance."""
        return self.topic / (self.topic + self.remainder)

    def effective_pieces(self, pieces: float) -> float:
        """Return the number of independent pieces with the same variance of the mean (Kish's design effect).

        >>> PieceModel(1.0, 0.0, 4.0).effective_pieces(8), PieceModel(1.0, 4.0, 0.0).effective_pieces(8)
        (8.0, 1.0)
        """
        return pieces / (1 + (pieces - 1) * self.correlation)

    def cosine(self, pieces: float) -> float:
        """Return the cosine of the means of two texts of m pieces; it rises to |μ|² / (|μ|² + topic), not to 1.

        >>> PieceModel(1.0, 1.0, 8.0).cosine(1), PieceModel(1.0, 1.0, 8.0).cosine(8)
        (0.1, 0.3333333333333333)
        """
        return self.mean_square / (self.mean_square + self.topic + self.remainder / pieces)


def fit_piece_model(pieces: Float) -> PieceModel:
    """Estimate the model from embedded pieces, by means over pairs that have no bias.

    Args:
        pieces: (texts, m, d) embedded pieces, of at least two texts and two of each.

    Raises:
        ValueError: another shape.

    >>> fit_piece_model(np.array([[[1, 1], [1, 1]], [[1, -1], [1, -1]]]))
    PieceModel(mean_square=0.0, topic=2.0, remainder=0.0)
    """
    if pieces.ndim != 3 or min(pieces.shape[:2]) < 2:
        raise ValueError(f"expected pieces of shape (texts, m, d) with texts, m >= 2, not {pieces.shape}")
    texts, m, _ = pieces.shape
    square = (pieces**2).sum() / (texts * m)
    of_text = (pieces.sum(1) ** 2).sum()
    same = (of_text - square * texts * m) / (texts * m * (m - 1))
    different = ((pieces.sum((0, 1)) ** 2).sum() - of_text) / (texts * (texts - 1) * m**2)
    return PieceModel(float(different), float(same - different), float(square - same))


def explain_collapse(
    model: "SentenceTransformer",
    texts: Sequence[str] | Sequence[Ids],
    *,
    piece_tokens: int = 32,
    pieces: int = 7,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    progress: Callable[[float], object] = lambda share: None,
) -> "pd.DataFrame":
    """Account for the rise of the mean cosine from a text's opening to the whole: pooling, positions, attention.

    Every text is cut into pieces of equal length, and five sets of embeddings are compared. From each to the next, one
    thing is added:

    opening: the first piece, embedded alone;
    one piece: any piece, embedded alone (effect "content": later pieces may be more alike than openings);
    pooled: the mean of all pieces, each embedded alone (effect "pooling");
    in place: the same, each at the positions that it has in the text (effect "positions");
    joined: all pieces as one text (effect "attention", from piece to piece).

    The last row, total, is the whole rise. Embeddings are averaged before normalisation, as mean pooling would do if
    attention could not leave a piece. Intervals are percentiles of a bootstrap of texts, as far out as Student's t has it
    (the expanded percentiles of Hesterberg 2015): percentiles as they are hold too little with few texts.

    Args:
        model: model as for `embed_ids`; without position ids, "in place" is left out, and attention includes positions.
        texts: strings, or the content ids of each text; those of fewer than piece_tokens · pieces tokens are left out, of
            longer ones the beginning is used.
        piece_tokens: length of a piece in tokens, without special tokens.
        pieces: number of pieces, at least 2.
        confidence: confidence of every interval by itself.
        resamples: number of bootstrap samples of texts; copies of one text are not compared with each other.
        seed: seed of the bootstrap.
        progress: function of the share of the work that is done, called after each batch.

    Returns:
        A row per set, with columns condition, effect, texts, cosine, low, high; change (from the row before), change_low,
        change_high; share (of the whole rise), share_low, share_high. Shares are left empty where the interval of the whole
        rise includes 0: then there is nothing to explain.

    Raises:
        ValueError: fewer than 20 texts are long enough, fewer than 2 pieces, or more tokens than the model has positions.

    >>> from tempscale import docstrings, load_model
    >>> texts = docstrings(["numpy"], min_tokens=100).text[:24]
    >>> frame = explain_collapse(load_model("minilm"), list(texts), piece_tokens=16, pieces=2, resamples=200)
    >>> frame.effect.tolist()
    ['', 'content', 'pooling', 'positions', 'attention', 'total']
    """
    import pandas as pd
    from scipy import stats

    if pieces < 2 or piece_tokens < 1:
        raise ValueError(f"expected at least 2 pieces of at least 1 token, not {pieces} of {piece_tokens}")
    length = piece_tokens * pieces
    given = (content_ids(model, [text])[0] if isinstance(text, str) else text for text in texts)
    ids = [text[:length] for text in given if len(text) >= length]
    if len(ids) < FEWEST_TEXTS:
        raise ValueError(f"{len(ids)} texts have {length} tokens: expected at least {FEWEST_TEXTS} for {pieces} pieces")
    kernels = _kernels(model, ids, piece_tokens, progress)
    cosine = _bootstrap(list(kernels.values()), resamples, seed)
    total = cosine[-1:] - cosine[:1]
    change = np.concatenate([np.full_like(total, np.nan), np.diff(cosine, axis=0), total])
    n = len(ids)
    edge = stats.norm.cdf(np.sqrt(n / (n - 1)) * stats.t.ppf((1 - confidence) / 2, n - 1))
    edges = [edge, 1 - edge]
    low, high = np.quantile(total[0, 1:], edges)
    share = change / total if low * high > 0 else np.full_like(change, np.nan)
    conditions = [*kernels, "joined"]
    frame = pd.DataFrame({"condition": conditions, "effect": [*(_EFFECTS[name] for name in kernels), "total"]})
    frame["texts"] = n
    for name, values in (("cosine", np.concatenate([cosine, cosine[-1:]])), ("change", change), ("share", share)):
        frame[name] = values[:, 0]
        prefix = "" if name == "cosine" else f"{name}_"
        for end, edge in zip(("low", "high"), edges, strict=True):
            frame[prefix + end] = np.quantile(values[:, 1:], edge, axis=1)
    return frame


# What each set of embeddings adds to the one before.
_EFFECTS = {
    "opening": "",
    "one piece": "content",
    "pooled": "pooling",
    "in place": "positions",
    "joined": "attention",
}


def _kernels(
    model: "SentenceTransformer", ids: list[Ids], piece_tokens: int, progress: Callable[[float], object]
) -> dict[str, Float]:
    """Return the cosines of every text with every other one, 0 with itself, for each set of embeddings."""
    starts = range(0, len(ids[0]), piece_tokens)
    in_place = has_position_ids(model)
    parts = (2 if in_place else 1) * len(starts) + len(starts)  # joining costs about as much as all pieces
    done = 0

    def embed(texts: list[Ids], cost: int, first_position: int = 0) -> Float:
        nonlocal done
        before, done = done, done + cost
        return embed_ids(
            model,
            texts,
            first_position=first_position,
            progress=lambda share: progress((before + cost * share) / parts),
        )

    pieces = [[text[start : start + piece_tokens] for text in ids] for start in starts]
    alone = np.stack([embed(piece, 1) for piece in pieces], axis=1)
    sets = {
        "opening": directions(alone[:, 0]),
        "one piece": np.mean([directions(alone[:, j]) for j in range(len(starts))], axis=0),
        "pooled": directions(alone.mean(1)),
    }
    if in_place:
        placed = [embed(piece, 1, first_position=start) for piece, start in zip(pieces, starts, strict=True)]
        sets["in place"] = directions(np.mean(placed, axis=0))
    sets["joined"] = directions(embed(ids, len(starts)))
    kernels = {name: x @ x.T for name, x in sets.items()}
    for kernel in kernels.values():
        np.fill_diagonal(kernel, 0)
    return kernels


def _bootstrap(kernels: list[Float], resamples: int, seed: int) -> Float:
    """Return means over pairs of different texts, of the texts as they are and of samples: (kernels, 1 + resamples).

    The diagonals are 0. A text that is drawn twice counts twice, but its copies do not make a pair.
    """
    n = len(kernels[0])
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    weights = np.concatenate([np.ones((1, n)), drawn])
    pairs = weights.sum(1) ** 2 - (weights**2).sum(1)
    return np.array([((weights @ kernel) * weights).sum(1) / pairs for kernel in kernels])
