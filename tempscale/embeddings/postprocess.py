"""What can be done to embeddings after the model: centring, projection, whitening, all-but-the-top.

Each is fitted on the embeddings of one corpus and applied to those of any other, in the manner of scikit-learn.
"""

from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
import torch

from tempscale.embeddings.geometry import Float


class Postprocessor(ABC):
    """Common to all: take away the mean of the corpus, and map what is left. Printed, it is its label in a remedy.

    After `fit`, `mean_` is that mean, (d,). Embeddings are NumPy or torch, (n, d); results are NumPy float64, not
    normalised.
    """

    mean_: Float

    def fit(self, embeddings: Any) -> Self:
        """Learn from the embeddings of a corpus, (n, d), and return the postprocessor.

        Raises:
            ValueError: not two axes, not finite, not floating point, or too few texts.
        """
        x = _matrix(embeddings)
        if len(x) < 2:
            raise ValueError(f"{len(x)} texts to fit on: expected at least 2")
        mean: Float = x.mean(0)
        self._learn(x - mean, mean)
        self.mean_ = mean
        return self

    def transform(self, embeddings: Any) -> Float:
        """Return embeddings of any texts, (n, d), postprocessed.

        Raises:
            ValueError: not fitted, another width than the corpus, or as for `fit`.
        """
        self._check_fitted()
        x = _matrix(embeddings)
        if x.shape[1] != len(self.mean_):
            raise ValueError(f"embeddings of width {x.shape[1]}, but fitted on width {len(self.mean_)}: use one model")
        return self._map(x - self.mean_)

    def fit_transform(self, embeddings: Any) -> Float:
        """Fit on embeddings, and return them postprocessed."""
        return self.fit(embeddings).transform(embeddings)

    def matrices(self) -> tuple[Float, Float]:
        """Return weight (d', d) and bias (d',): `transform` is x @ weight.T + bias.

        Raises:
            ValueError: not fitted.
        """
        self._check_fitted()
        # Rows of the identity are mapped to the columns of the matrix.
        return self._map(np.eye(len(self.mean_))).T, self._map(-self.mean_[None])[0]

    def module(self) -> torch.nn.Module:
        """Return the fitted map as a module of sentence-transformers, to be the last of a model.

        With it a model is saved, loaded, served and evaluated like any other, without tempscale: a Dense layer with the
        identity for activation, in float32 on the CPU. It maps what comes before it; embeddings are not normalised
        afterwards unless a Normalize module is appended too.

        Raises:
            ValueError: not fitted.

        >>> x = np.random.default_rng(0).normal(size=(50, 3)) + 5
        >>> white = Whitening(2).fit(x)
        >>> found = white.module()({"sentence_embedding": torch.tensor(x, dtype=torch.float32)})["sentence_embedding"]
        >>> np.allclose(found.detach(), white.transform(x), atol=1e-4)
        True

        For a model it is `model.append(white.module().to(model.device))`.
        """
        Dense = _dense()
        weight, bias = self.matrices()
        dense: torch.nn.Module = Dense(
            weight.shape[1],
            weight.shape[0],
            activation_function=torch.nn.Identity(),
            init_weight=torch.tensor(weight, dtype=torch.float32),
            init_bias=torch.tensor(bias, dtype=torch.float32),
        )
        return dense.eval()

    def _check_fitted(self) -> None:
        if not hasattr(self, "mean_"):
            raise ValueError(f"{type(self).__name__} is not fitted: call fit with the embeddings of a corpus first")

    @abstractmethod
    def __str__(self) -> str: ...

    @abstractmethod
    def _learn(self, centred: Float, mean: Float) -> None: ...

    @abstractmethod
    def _map(self, centred: Float) -> Float: ...


class Centring(Postprocessor):
    """Take the mean of the embeddings away, so that it no longer makes all texts alike.

    For a search fit it on each side by itself, with `PerSide`: one mean for both sides loses.

    >>> Centring().fit_transform(np.array([[1.0, 2.0], [3.0, 2.0]]))
    array([[-1.,  0.],
           [ 1.,  0.]])
    """

    def __str__(self) -> str:
        return "centre"

    def _learn(self, centred: Float, mean: Float) -> None:
        pass

    def _map(self, centred: Float) -> Float:
        return centred


class Projection(Postprocessor):
    """Take away what embeddings have in the direction of their mean, and leave the rest as it is.

    For a search fit it on each side by itself, with `PerSide`.
    Unlike `Centring` it takes from each text as much as that text has: a text without the common direction keeps its place.
    After `fit`, `direction_` is the unit vector, (d,).

    Raises:
        ValueError: in `fit`, a mean of zero, which has no direction.

    >>> Projection().fit([[2.0, 1.0], [2.0, -1.0]]).transform([[3.0, 4.0]])
    array([[0., 4.]])
    """

    direction_: Float

    def __str__(self) -> str:
        return "project"

    def _learn(self, centred: Float, mean: Float) -> None:
        length = np.linalg.norm(mean)
        # A mean that is nothing but rounding points nowhere.
        if length <= np.finfo(np.float32).eps * np.linalg.norm(centred + mean, axis=1).max():
            raise ValueError(
                f"the mean of {len(centred)} embeddings is 0 and has no direction: there is nothing to take away"
            )
        self.direction_ = mean / length

    def _map(self, centred: Float) -> Float:
        # The mean lies along the direction, so it makes no difference that it is away already.
        return centred - (centred @ self.direction_)[:, None] * self.direction_


class Whitening(Postprocessor):
    """Make the corpus uncorrelated with variance 1 along its principal axes, largest first.

    After `fit`, `components_` is the map, (dimensions, d), or (d, d) if symmetric.

    Args:
        dimensions: number of axes to keep; all by default.
        symmetric: whether the result is turned back to the axes of the embeddings, (n, d). The cosines are the same, and
            what two corpora taught can be compared.

    Raises:
        ValueError: fewer than 1 dimension; in `fit`, more dimensions than the corpus varies along, which is at most n - 1.

    Source: Su et al. 2021 (whitening with a cut of the dimension).

    >>> x = np.random.default_rng(0).normal(size=(50, 3)) @ np.diag([1.0, 2.0, 3.0])
    >>> abs(np.cov(Whitening(2).fit_transform(x).T)).round(6)
    array([[1., 0.],
           [0., 1.]])
    """

    components_: Float

    def __init__(self, dimensions: int | None = None, *, symmetric: bool = False) -> None:
        if dimensions is not None and dimensions < 1:
            raise ValueError(f"expected at least 1 dimension, not {dimensions}")
        self.dimensions, self.symmetric = dimensions, symmetric

    def __str__(self) -> str:
        return "whiten" if self.dimensions is None else f"whiten({self.dimensions})"

    def _learn(self, centred: Float, mean: Float) -> None:
        n, d = centred.shape
        deviation, axes = _principal_axes(centred)
        rank = len(deviation)
        wanted = d if self.dimensions is None else self.dimensions
        if wanted > rank:
            raise ValueError(
                f"{n} texts vary along {rank} of {d} dimensions, but {wanted} are to be whitened: "
                f"fit on more texts, or keep at most {rank} dimensions"
            )
        self.components_ = axes[:wanted] / deviation[:wanted, None]
        if self.symmetric:
            self.components_ = axes[:wanted].T @ self.components_

    def _map(self, centred: Float) -> Float:
        return centred @ self.components_.T


class AllButTheTop(Postprocessor):
    """Take away the mean and the largest principal axes of the corpus, and leave the rest as it is.

    After `fit`, `components_` holds the axes taken away, (directions, d).

    Args:
        directions: number of axes; by default d / 100, the rule of the source, rounded down, but at least 1.

    Raises:
        ValueError: a negative number; in `fit`, more directions than the corpus varies along.

    Source: Mu and Viswanath 2018.

    >>> x = np.array([[5.0, 1.0], [-5.0, 1.0], [0.0, 3.0], [0.0, 3.0]])
    >>> abs(AllButTheTop(1).fit_transform(x).round(6))
    array([[0., 1.],
           [0., 1.],
           [0., 1.],
           [0., 1.]])
    """

    components_: Float

    def __init__(self, directions: int | None = None) -> None:
        if directions is not None and directions < 0:
            raise ValueError(f"expected at least 0 directions, not {directions}")
        self.directions = directions

    def __str__(self) -> str:
        return "all_but_the_top" if self.directions is None else f"all_but_the_top({self.directions})"

    def _learn(self, centred: Float, mean: Float) -> None:
        n, d = centred.shape
        _, axes = _principal_axes(centred)
        wanted = max(d // 100, 1) if self.directions is None else self.directions
        if wanted > len(axes):
            raise ValueError(
                f"{n} texts vary along {len(axes)} of {d} dimensions, but {wanted} are to be taken away: "
                "fit on more texts, or take away fewer"
            )
        self.components_ = axes[:wanted]

    def _map(self, centred: Float) -> Float:
        return centred - (centred @ self.components_.T) @ self.components_


def _dense() -> Any:
    """Return the class of dense layers of sentence-transformers, which has moved in version 6."""
    try:
        from sentence_transformers.sentence_transformer.modules import Dense
    except ModuleNotFoundError:
        from sentence_transformers.models import Dense
    return Dense


def _principal_axes(centred: Float) -> tuple[Float, Float]:
    """Return the standard deviations along the principal axes, and the axes (r, d), for as many as are not rounding."""
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    # The usual tolerance for a numerical rank, for embeddings that were float32.
    tolerance = singular[0] * max(centred.shape) * np.finfo(np.float32).eps
    rank = int((singular > tolerance).sum())
    return singular[:rank] / np.sqrt(len(centred) - 1), axes[:rank]


def _matrix(embeddings: Any) -> Float:
    given = embeddings.detach().cpu().double().numpy() if hasattr(embeddings, "detach") else np.asarray(embeddings)
    if given.ndim != 2 or not given.shape[1] or not np.issubdtype(given.dtype, np.floating):
        raise ValueError(f"expected floating-point embeddings of shape (n, d), not {given.dtype} {given.shape}")
    x: Float = given.astype(np.float64)
    if not np.isfinite(x).all():
        raise ValueError(f"row {int((~np.isfinite(x)).any(1).argmax())} is not finite: leave such rows out")
    return x
