"""A postprocessor for each side of a search: queries and documents have different means, and each loses its own.

Taking the documents' mean from the queries, too, does harm where the two differ: chapter 13 measures it.
"""

import copy
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from tempscale.embeddings.geometry import Float
from tempscale.embeddings.postprocess import Postprocessor, Whitening

# Names of the sides as sentence-transformers and mteb have them; None are texts without a side.
Side = str | None


class PerSide:
    """A postprocessor fitted on the embeddings of each side, and applied to that side.

    Every side has its own mean, and its own directions to take away. Only a whitening has its axes in common, from both
    sides with equal weight: vectors on different axes could not be compared. No pairs are needed, only texts of each kind.

    After `fit`, `fitted` holds the postprocessor of each side.

    Args:
        postprocessor: `Centring`, `Projection`, `AllButTheTop` or `Whitening`; it is not changed itself.

    Raises:
        TypeError: it is none of them.

    >>> from tempscale import Projection
    >>> queries, documents = np.array([[2.0, 1.0], [2.0, -1.0]]), np.array([[1.0, 2.0], [-1.0, 2.0]])
    >>> sides = PerSide(Projection()).fit(queries=queries, documents=documents)
    >>> sides.transform(queries, "query")
    array([[ 0.,  1.],
           [ 0., -1.]])
    >>> sides.transform(documents, "document")
    array([[ 1.,  0.],
           [-1.,  0.]])
    """

    fitted: dict[Side, Postprocessor]

    def __init__(self, postprocessor: Postprocessor) -> None:
        if not isinstance(postprocessor, Postprocessor):
            raise TypeError(f"no postprocessor: {postprocessor!r}; give one, such as Projection()")
        self.postprocessor = postprocessor

    def fit(self, *, queries: Any = None, documents: Any = None, texts: Any = None) -> Self:
        """Learn from the embeddings of any of the sides, (n, d) each, and return self.

        Args:
            queries: embeddings of queries.
            documents: embeddings of documents.
            texts: embeddings of texts that have no side, as those of a classification.

        Raises:
            ValueError: none of them, or what the postprocessor raises, with the side's name.
        """
        given = {"query": queries, "document": documents, None: texts}
        return self.fit_sides({side: x for side, x in given.items() if x is not None})

    def fit_sides(self, embeddings: Mapping[Side, Any]) -> Self:
        """Learn from the embeddings of sides by their names, as `fit` does."""
        if not embeddings:
            raise ValueError("no embeddings to fit on: give those of queries, of documents, or of both")
        fitted = {}
        for side, x in embeddings.items():
            # A whitening is replaced below, where it has the others' texts, too.
            alone = Whitening(1) if isinstance(self.postprocessor, Whitening) else copy.deepcopy(self.postprocessor)
            try:
                fitted[side] = alone.fit(x)
            except ValueError as error:
                raise ValueError(f"{NAMES[side]}: {error}") from error
        if isinstance(self.postprocessor, Whitening):
            together = copy.deepcopy(self.postprocessor)
            # So that the covariance of all rows is the mean of those of the sides.
            rows = sum(map(len, embeddings.values())) - 1
            weights = {side: np.sqrt(rows / len(embeddings) / len(x)) for side, x in embeddings.items()}
            centred = [(as_array(x) - fitted[side].mean_) * weights[side] for side, x in embeddings.items()]
            together.fit(np.concatenate(centred))
            for side, one in fitted.items():
                own = copy.copy(together)
                own.mean_ = one.mean_
                fitted[side] = own
        self.fitted = fitted
        return self

    def transform(self, embeddings: Any, side: Side) -> Float:
        """Return the embeddings of one side, (n, d), postprocessed; those of length one have it again.

        Args:
            embeddings: (n, d), NumPy or torch.
            side: "query", "document", or None for texts without a side.

        Raises:
            ValueError: not fitted on that side, or another width.
        """
        fitted = getattr(self, "fitted", {})
        if side not in fitted:
            there = " and ".join(NAMES[one] for one in fitted) or "nothing"
            raise ValueError(
                f"fitted on {there}, not on {NAMES.get(side, repr(side))}: fit on embeddings of that side, too"
            )
        x = as_array(embeddings)
        found = fitted[side].transform(x)
        return unit_again(found) if has_unit_norm(x) else found

    def save(self, file: str | Path) -> None:
        """Write the map of each side into one file of NumPy (.npz), which needs no tempscale to be used.

        The arrays are query_weight (d', d), query_bias (d',), and so for "document" and "text": mapped vectors are
        `x @ weight.T + bias`, divided by their lengths where the vectors had length one.

        Raises:
            ValueError: not fitted.

        >>> import tempfile
        >>> rng = np.random.default_rng(0)
        >>> sides = PerSide(Whitening(2)).fit(texts=rng.normal(size=(9, 4)))
        >>> file = Path(tempfile.mkdtemp()) / "remedy.npz"
        >>> sides.save(file)
        >>> with np.load(file) as arrays:
        ...     mapped = np.ones((1, 4)) @ arrays["text_weight"].T + arrays["text_bias"]
        >>> np.allclose(mapped, sides.transform(np.ones((1, 4)), None))
        True
        """
        if not getattr(self, "fitted", None):
            raise ValueError("not fitted, so there is nothing to save: call fit with the embeddings of each side first")
        arrays: dict[str, Any] = {}  # savez has a flag among its keywords, which an older NumPy would save
        for side, fitted in self.fitted.items():
            arrays[f"{side or 'text'}_weight"], arrays[f"{side or 'text'}_bias"] = fitted.matrices()
        np.savez(Path(file), **arrays)


NAMES: dict[Side, str] = {"query": "queries", "document": "documents", None: "texts"}


class CrossFitted:
    """A postprocessor evaluated on the texts it is fitted on, each mapped by what texts of the other half taught.

    The half of a text is drawn by a hash of it, so equal texts are mapped alike, in whatever order they come.

    Args:
        postprocessor: as for `PerSide`.
        texts: texts of each side, with their embeddings (n, d).

    Raises:
        ValueError: a half is too small to fit on.

    >>> from tempscale import Centring
    >>> texts = [f"text {n}" for n in range(40)]
    >>> x = np.full((40, 2), 3.0)
    >>> CrossFitted(Centring(), {None: (texts, x)}).transform(texts[:1], x[:1], None)
    array([[0., 0.]])
    """

    def __init__(self, postprocessor: Postprocessor, texts: Mapping[Side, tuple[Sequence[str], Any]]) -> None:
        self._halves = []
        if isinstance(postprocessor, Whitening):  # what the halves taught has to be comparable
            postprocessor = Whitening(postprocessor.dimensions, symmetric=True)
        for half in (0, 1):
            other = {side: as_array(x)[_halves(given) != half] for side, (given, x) in texts.items()}
            try:
                self._halves.append(PerSide(postprocessor).fit_sides(other))
            except ValueError as error:
                raise ValueError(f"{postprocessor} is fitted on one half to be judged on the other: {error}") from error

    def transform(self, texts: Sequence[str], embeddings: Any, side: Side) -> Float:
        """Return the embeddings of texts, (n, d) or (n, vectors, d), mapped by what the other half taught."""
        x = as_array(embeddings)
        of_text = _halves(texts)
        found = np.empty_like(x)
        for half, sides in enumerate(self._halves):
            chosen = x[of_text == half]
            found[of_text == half] = sides.transform(chosen.reshape(-1, x.shape[-1]), side).reshape(chosen.shape)
        return found


def _halves(texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return 0 or 1 for each text."""
    digests = (hashlib.sha256(text.encode(errors="surrogatepass")).digest()[0] & 1 for text in texts)
    return np.fromiter(digests, dtype=np.uint8, count=len(texts))


def as_array(embeddings: Any) -> Float:
    """Return embeddings, NumPy or torch, as float64 NumPy."""
    given = embeddings.detach().cpu().double().numpy() if isinstance(embeddings, torch.Tensor) else embeddings
    return np.asarray(given, dtype=np.float64)


def has_unit_norm(x: Float) -> bool:
    """Whether all rows have length one, up to the rounding of half precision."""
    return bool((abs(np.linalg.norm(x, axis=-1) - 1) < 1e-2).all())


def unit_again(x: Float) -> Float:
    """Return rows at length one; a row of zeros, which has no direction, stays."""
    norms = np.linalg.norm(x, axis=-1, keepdims=True)
    found: Float = x / np.where(norms > 0, norms, 1)
    return found
