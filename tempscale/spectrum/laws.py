"""What is known of the filter rate of attention: a published bound, and proved bounds and laws with their hypotheses.

Every function takes numbers or arrays, which broadcast, and returns a float for numbers and a float64 array for arrays.
On random logits: `paper_bound` is what was published, `iid_rate_bound` and `gaussian_rate_bound` hold for every number of
tokens, `random_markov_rate`, `gaussian_floor` and `condensation_sigma` in the limit of many. On any logits,
`temperature_derivative` is what a temperature does to the rate.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

# exp(s²) has no place in float64 beyond.
_LARGEST_SIGMA = 26.0
# Terms of the secular equation. Closer to the edge of its domain the floor is right to 1e-5.
_MOST_TERMS = 1_000_000


def paper_bound(n: npt.ArrayLike, sigma_s: npt.ArrayLike) -> Any:
    """Return the paper's upper bound on the filter rate of n tokens, as it was reported.

    σₐ ≤ sqrt(n / (2 sqrt(1 + exp(-2 σₛ²)) (n - 1)^(3/2) + 1)). It is said to hold for Gaussian queries and keys whose
    logits have the standard deviation σₛ. Read so, it is proved for weak logits and false for strong ones: the book says
    where, for the mean of σₐ.

    Args:
        n: number of tokens, at least 1.
        sigma_s: standard deviation of the logits, at least 0.

    Returns:
        the bound, without unit. Over all sigma_s it changes by less than a factor 2^(1/4).

    Raises:
        ValueError: an argument outside its range.

    Source: Theorem 3 of arXiv 2410.24200, second-hand: from notes on the paper, not from the paper itself.

    >>> paper_bound(np.array([64, 1024]), 1.0).round(3)
    array([0.245, 0.121])
    """
    tokens, sigma = _finite(n=n, sigma_s=sigma_s)
    _require(tokens >= 1, tokens, "n must be at least 1 token, not {}")
    _require(sigma >= 0, sigma, "sigma_s must not be negative, but it is {}: it is a standard deviation")
    root = np.sqrt(1 + np.exp(-2 * np.square(np.minimum(sigma, _LARGEST_SIGMA))))
    return _float_or_array(np.sqrt(tokens / (2 * root * (tokens - 1) ** 1.5 + 1)))


def random_markov_rate(n: npt.ArrayLike, sigma_s: npt.ArrayLike) -> Any:
    """Return the filter rate of softmax over weak independent Gaussian logits, 2 sqrt((exp(σₛ²) - 1) / n).

    For logits that are all independent N(0, σₛ²), with σₛ fixed and n to infinity, σₐ divided by this number tends to 1.
    With few tokens σₐ is below the law, whose edge a small matrix does not reach. And it can be above the law, where a
    single entry of attention stands out: up to σₛ = 0.5 none does, in the median; for stronger logits one does from about
    13 tokens on (σₛ = 0.7 and 1; 100 tokens for 2), and σₐ follows it, up to about 400 tokens for σₛ = 0.7 and 54 000 for
    σₛ = 1. The logarithm of that upper end grows like (2 + sqrt 2)² σₛ². A temperature acts as sigma_s / temperature.

    Args:
        n: number of tokens, at least 1.
        sigma_s: standard deviation of the logits, from 0 to 26.

    Returns:
        the rate, without unit.

    Raises:
        ValueError: an argument outside its range.

    Source: Bordenave, Caputo and Chafaï 2012, Circular law theorem for random Markov matrices, for row-normalised
    independent entries of finite fourth moment; here these are exp(logits).

    >>> round(random_markov_rate(1024, 0.25), 4)
    0.0159
    """
    tokens, sigma = _finite(n=n, sigma_s=sigma_s)
    _require(tokens >= 1, tokens, "n must be at least 1 token, not {}")
    _require(
        (sigma >= 0) & (sigma <= _LARGEST_SIGMA),
        sigma,
        "sigma_s must be between 0 and 26, not {}: the law is for weak logits, for strong ones see condensation_sigma",
    )
    return _float_or_array(2 * np.sqrt(np.expm1(sigma**2) / tokens))


def gaussian_floor(sigma_s: npt.ArrayLike, head_dim: npt.ArrayLike) -> Any:
    """Return the filter rate of softmax(sigma_s q·k / sqrt(head_dim)) for Gaussian q and k, in the limit of many tokens.

    Let all queries and keys be independent N(0, I). With a² = sigma_s² / head_dim < 1/2 fixed and n to infinity, attention
    tends to the Markov operator (T f)(q) = E f(a q + ξ), ξ ~ N(0, I), and σₐ to its norm without constants, which is
    not 0: no length brings σₐ to 0. With r = 2a² / (1 + sqrt(1 - 4a⁴)) it is
    (1 + r²)^(head_dim/4) sqrt(max(r, y)), where r belongs to the odd functions, and y to the even ones: y is the root
    in (r², 1) of Σₖ wₖ / (r^(2k) - y) = 0, wₖ the negative binomial weights with parameters head_dim/2 and 1 - r⁴.
    For small a it is about sigma_s / sqrt(head_dim); for one dimension, or moderate a, the odd part decides, in closed form.
    At a² = 1/2 the limit is 2^(head_dim/4), and beyond T is unbounded. A temperature acts as sigma_s / temperature.

    Args:
        sigma_s: standard deviation of the logits, at least 0 and below sqrt(head_dim / 2).
        head_dim: dimension of a query, a whole number of at least 1.

    Returns:
        the limit, without unit, to about 1e-12 (1e-5 for a² within 1e-10 of 1/2).

    Raises:
        ValueError: an argument outside its range.

    Source: derived in the book, chapter "What random attention really does".

    >>> gaussian_floor(np.array([0.5, 1.0, 2.0]), 64).round(4)
    array([0.0625, 0.1255, 0.2667])
    """
    sigma, dimension = np.broadcast_arrays(*_finite(sigma_s=sigma_s, head_dim=head_dim))
    _require(
        (dimension >= 1) & (dimension == np.floor(dimension)),
        dimension,
        "head_dim must be a whole number of at least 1, not {}",
    )
    square = sigma**2 / dimension
    _require(
        (sigma >= 0) & (square < 0.5),
        sigma,
        "sigma_s must be at least 0 and below sqrt(head_dim / 2), not {}: beyond there is no limit; a temperature lowers it",
    )
    ratio = 2 * square / (1 + np.sqrt(1 - 4 * square**2))
    top = np.array([max(r, _even_root(r, d)) for r, d in zip(ratio.flat, dimension.flat, strict=True)])
    with np.errstate(over="ignore"):
        floor = (1 + ratio**2) ** (dimension / 4) * np.sqrt(top.reshape(ratio.shape))
    _require(np.isfinite(floor), sigma, "sigma_s {} gives a limit beyond the range of float64: take a smaller one")
    return _float_or_array(floor)


def iid_rate_bound(n: npt.ArrayLike, sigma_s: npt.ArrayLike, *, temperature: npt.ArrayLike = 1.0) -> Any:
    """Return a proved bound on the filter rate of softmax over n × n independent Gaussian logits, for every n.

    For independent logits N(0, σₛ²) and s = σₛ / temperature, the root mean square of σₐ, and so its mean, is at most the
    smaller of

    - sqrt(v/n + sqrt(v²/n + m₄/n²)), which falls like n^(-1/4), and
    - b + sqrt(b² + v/(n - 1)), b² = 2 ln(2n) (v + sqrt(m₄)) / n, which falls like sqrt(ln n / n),

    where v and m₄ are the variance and the fourth central moment of exp(N(0, s²)). For s ≤ 0.4 it is below
    `paper_bound` at every n. For strong logits it is true and useless: σₐ ≤ sqrt(n/2) always.

    Args:
        n: number of tokens, at least 2.
        sigma_s: standard deviation of the logits at temperature 1, at least 0.
        temperature: temperature, positive.

    Returns:
        the bound on sqrt(E σₐ²), without unit.

    Raises:
        ValueError: an argument outside its range, or sigma_s / temperature above 9, where the moments leave float64.

    Source: derived in the book, chapter "Length: the paper's theorem, and where it holds". The second bound uses the
    matrix Rademacher series of Tropp 2015, An introduction to matrix concentration inequalities, theorem 4.1.1.

    >>> iid_rate_bound(np.array([64, 1024]), 0.25).round(3)
    array([0.1  , 0.047])
    """
    tokens, sigma, tau = _finite(n=n, sigma_s=sigma_s, temperature=temperature)
    _require(tokens >= 2, tokens, "n must be at least 2 tokens, not {}: one token has no differences")
    _require(sigma >= 0, sigma, "sigma_s must not be negative, but it is {}: it is a standard deviation")
    _require(tau > 0, tau, "temperature must be positive, not {}; 1 changes nothing")
    strength = sigma / tau
    _require(strength <= 9, strength, "sigma_s / temperature must be at most 9, not {}: the bound is for weak logits")
    w = np.exp(strength**2)
    v = w * np.expm1(strength**2)
    fourth = v**2 * (w**4 + 2 * w**3 + 3 * w**2 - 3)
    counted = v / tokens + np.sqrt(v**2 / tokens + fourth / tokens**2)
    b2 = 2 * np.log(2 * tokens) * (v + np.sqrt(fourth)) / tokens
    return _float_or_array(np.minimum(np.sqrt(counted), np.sqrt(b2) + np.sqrt(b2 + v / (tokens - 1))))


def gaussian_rate_bound(n: npt.ArrayLike, sigma_s: npt.ArrayLike, head_dim: npt.ArrayLike) -> Any:
    """Return a proved bound on the mean filter rate of softmax(sigma_s q·k / sqrt(head_dim)), for every n.

    For independent q, k ~ N(0, I) and a² = sigma_s² / head_dim < 1/16,
    E σₐ ≤ sqrt(floor² + (C₁ + C₂) / sqrt(n)) + C₃ / sqrt(n), with `gaussian_floor` and numbers in closed form that are
    bounded in n; C₁ and C₂ are about sigma_s² for weak logits. It tends to the floor, as σₐ does.

    Args:
        n: number of tokens, at least 2.
        sigma_s: standard deviation of the logits, at least 0 and below sqrt(head_dim) / 4.
        head_dim: dimension of a query, a whole number of at least 1.

    Returns:
        the bound on E σₐ, without unit.

    Raises:
        ValueError: an argument outside its range, or moments beyond float64 (a large head_dim and a² near 1/16).

    Source: derived in the book, chapter "Length: the paper's theorem, and where it holds".

    >>> gaussian_rate_bound(np.array([64, 1024, 10**6]), 0.25, 64).round(3)
    array([0.178, 0.083, 0.034])
    """
    tokens, *heads = _finite(n=n, sigma_s=sigma_s, head_dim=head_dim)
    sigma, dimension = np.broadcast_arrays(*heads)  # the floor is searched for once a head, not for every length
    _require(tokens >= 2, tokens, "n must be at least 2 tokens, not {}: one token has no differences")
    _require(
        (sigma >= 0) & (sigma < np.sqrt(np.maximum(dimension, 0)) / 4),
        sigma,
        "sigma_s must be at least 0 and below sqrt(head_dim) / 4, not {}: beyond, the moments of the proof are infinite",
    )
    floor = np.asarray(gaussian_floor(sigma, dimension))
    a2 = sigma**2 / dimension

    # the largest moment of the proof, E exp(8 a² |q|²), is the one that may leave float64
    with np.errstate(over="ignore", invalid="ignore"):
        first, second, third = _gaussian_constants(tokens, a2, dimension)
        bound = np.sqrt(floor**2 + (first + second) / np.sqrt(tokens)) + third
    sigma = np.broadcast_to(sigma, bound.shape)
    _require(np.isfinite(bound), sigma, "sigma_s {} gives moments beyond the range of float64: take a smaller one")
    return _float_or_array(bound)


def _gaussian_constants(tokens: Float64, a2: Float64, dimension: Float64) -> tuple[Float64, Float64, Float64]:
    """Return C₁, C₂ and C₃ / sqrt(n) of the theorem on Gaussian queries and keys, rounded up."""

    def power(x: Float64) -> Float64:
        """(1 - x)^(-d/2) - 1, which is E exp(x |q|²/2) - 1."""
        return np.asarray(np.expm1(-dimension / 2 * np.log1p(-x)))

    def total(*terms: Float64) -> Float64:
        # terms of order a² cancel and leave order a⁴: what rounding may have lost is added again
        return np.asarray(sum(terms) + 8 * np.finfo(float).eps * sum(map(np.abs, terms)))

    p1, p2 = power(a2**2), power(2 * a2)
    c1 = total(
        power(4 * a2), 4 * power(2 * a2**2), -4 * power(2 * a2 + a2**2), 2 * p2, 2 * p1 * p2, -4 * p1, -3 * p1**2
    )
    pairs = total(power(4 * a2 + 12 * a2**2), 4 * p1, -4 * power(2 * a2 + 4 * a2**2), 2 * p2)
    fourth = total(power(12 * a2), -4 * power(6 * a2), 6 * p2)
    row = (fourth + 3 * (tokens - 1) * total(power(4 * a2), -2 * p2)) / tokens**3
    weight = (1 + power(16 * a2)) / tokens + 1 + power(8 * a2)
    return np.sqrt(c1), np.sqrt(pairs + fourth / tokens), np.sqrt(np.sqrt(row * weight))


def temperature_derivative(logits: npt.ArrayLike, *, temperature: npt.ArrayLike = 1.0) -> Any:
    """Return the derivative dσₐ / d ln τ of softmax(logits / τ): what a small relative change of τ does to the rate.

    With the singular vectors u, v of (I - J) A that belong to σₐ and the rows p of A, it is
    -(1/τ) Σᵢ uᵢ Cov_pᵢ(Sᵢ, v), in modulus at most maxᵢ sd_pᵢ(Sᵢ) sqrt(maxⱼ cⱼ) / τ with the column masses cⱼ. Where it is
    negative, cooling raises the filter rate. Weak logits have a derivative near -σₐ.

    Args:
        logits: (..., n, n) logits of any law, n at least 2; -inf where masked, with one finite logit in every row.
        temperature: temperature τ, positive.

    Returns:
        (...) derivative, without unit.

    Raises:
        ValueError: an argument outside its range, or a matrix whose largest singular value is 0 or not simple (the two
            largest within 1e-9 of each other, relatively): σₐ has no derivative there.

    Source: derived in the book, chapter "Length: the paper's theorem, and where it holds".

    >>> round(temperature_derivative([[1.0, 0.0], [0.0, 1.0]]), 4)  # σₐ = tanh(1 / (2τ))
    -0.3932
    """
    scores = np.asarray(logits, dtype=np.float64)
    (tau,) = _finite(temperature=temperature)
    if scores.ndim < 2 or scores.shape[-1] != scores.shape[-2] or scores.shape[-1] < 2:
        raise ValueError(f"logits must have the shape (..., n, n) with n of at least 2, not {scores.shape}")
    _require(tau > 0, tau, "temperature must be positive, not {}; 1 changes nothing")
    highest = scores.max(-1, keepdims=True)
    if np.isnan(scores).any() or not np.isfinite(highest).all():
        raise ValueError(
            "logits must be finite, or -inf where masked, with a finite one in every row: here one is NaN or inf, or a "
            "whole row is masked"
        )
    tau = tau[..., None, None]
    shifted = np.where(np.isfinite(scores), scores - highest, 0.0)
    weights = np.where(np.isfinite(scores), np.exp(shifted / tau), 0.0)
    weights /= weights.sum(-1, keepdims=True)
    left, values, right = np.linalg.svd(weights - weights.mean(-2, keepdims=True))
    first, second = values[..., 0], values[..., 1]
    _require(
        first - second > 1e-9 * np.maximum(first, 1e-9),
        first,
        "the largest singular value, {}, is zero or not simple: the filter rate has no derivative there",
    )
    u, v = left[..., :, 0], right[..., 0, :]
    row_mean = (weights * shifted).sum(-1)
    covariance = ((weights * shifted) @ v[..., None])[..., 0] - row_mean * (weights @ v[..., None])[..., 0]
    return _float_or_array(-(u * covariance).sum(-1) / tau[..., 0, 0])


def condensation_sigma(n: npt.ArrayLike) -> Any:
    """Return the standard deviation of the logits above which a row of softmax sits on a few tokens, sqrt(2 ln n).

    For a row of n independent N(0, s²) logits and n to infinity: below this s the largest weight tends to 0 and the row
    spreads over many tokens; above it a few largest logits hold the weight, with an expected sum of squared weights of
    1 - sqrt(2 ln n) / s. That is the freezing of the random energy model. A temperature acts as s / temperature.

    Args:
        n: number of tokens, at least 1.

    Returns:
        the standard deviation, without unit.

    Raises:
        ValueError: n below 1.

    Source: Derrida 1981, Random-energy model.

    >>> round(condensation_sigma(512), 2)
    3.53
    """
    (tokens,) = _finite(n=n)
    _require(tokens >= 1, tokens, "n must be at least 1 token, not {}")
    return _float_or_array(np.sqrt(2 * np.log(tokens)))


def length_matched_temperature(
    n: npt.ArrayLike,
    *,
    sigma_s: npt.ArrayLike,
    reference_length: npt.ArrayLike,
    temperature: npt.ArrayLike = 1.0,
) -> Any:
    """Return the temperature that keeps `random_markov_rate` of n tokens at its value for a reference length.

    τ(n) = σₛ / sqrt(ln(1 + c n)), with c such that τ(reference_length) = temperature. So
    random_markov_rate(n, σₛ / τ(n)) is the same number for every n. It falls like n^(-1/2) while σₛ / τ(n) is small, and
    like 1 / sqrt(ln n) in the end; there σₛ / τ(n) is out of that law's range (see there), and the true filter rate
    rises above the number.

    Args:
        n: number of tokens, at least 1.
        sigma_s: standard deviation of the logits at temperature 1, positive.
        reference_length: number of tokens, at least 1.
        temperature: temperature at the reference length, positive.

    Returns:
        the temperature, positive.

    Raises:
        ValueError: an argument outside its range.

    Source: `random_markov_rate`, solved for the temperature.

    >>> length_matched_temperature(np.array([32, 128, 512]), sigma_s=0.5, reference_length=128).round(3)
    array([1.909, 1.   , 0.574])
    """
    tokens, sigma, reference, at_reference = _finite(
        n=n, sigma_s=sigma_s, reference_length=reference_length, temperature=temperature
    )
    _require(tokens >= 1, tokens, "n must be at least 1 token, not {}")
    _require(sigma > 0, sigma, "sigma_s must be positive, not {}: equal logits have no temperature to match")
    _require(reference >= 1, reference, "reference_length must be at least 1 token, not {}")
    _require(at_reference > 0, at_reference, "temperature must be positive, not {}; 1 changes nothing")
    ratio = sigma / at_reference
    _require((ratio > 1e-100) & (ratio < 1e100), ratio, "sigma_s / temperature is {}: no logits are so weak or strong")
    # ln(1 + n/n₀ (exp(ratio²) - 1)), where the exponential itself may be too large
    needed = np.logaddexp(0, np.log(tokens / reference) + ratio**2 + np.log(-np.expm1(-(ratio**2))))
    return _float_or_array(sigma / np.sqrt(needed))


def _even_root(r: float, dimension: float) -> float:
    """Return y in (r, 1), or r where the root of the even part is not above r (then the odd part decides)."""
    from scipy.optimize import brentq
    from scipy.stats import nbinom

    if r == 0:
        return 0.0
    # after these terms r^(2k) is below 1e-17 and the rest of the weights acts at 0
    terms = min(_MOST_TERMS, math.ceil(math.log(1e-17) / (2 * math.log(r))))
    k = np.arange(1, terms + 1)
    weights, powers = nbinom.pmf(k, dimension / 2, 1 - r**4), r ** (2.0 * k)
    constant, rest = nbinom.pmf(0, dimension / 2, 1 - r**4), nbinom.sf(terms, dimension / 2, 1 - r**4)

    def secular(y: float) -> float:
        return float(constant - (1 - y) * ((weights / (y - powers)).sum() + rest / y))

    return float(brentq(secular, r, 1.0, xtol=1e-15)) if secular(r) < 0 else r


def _finite(**arguments: npt.ArrayLike) -> list[Float64]:
    """Return the arguments as float64 arrays, or raise ValueError with the name of one that is not finite."""
    arrays = {name: np.asarray(value, dtype=np.float64) for name, value in arguments.items()}
    for name, array in arrays.items():
        _require(np.isfinite(array), array, f"{name} must be finite, not {{}}")
    return list(arrays.values())


def _require(holds: npt.NDArray[np.bool_], values: Float64, message: str) -> None:
    """Raise ValueError with the first value for which the condition does not hold, at {} in the message."""
    if not np.all(holds):
        raise ValueError(message.format(f"{values[~np.asarray(holds)].flat[0]:g}"))


def _float_or_array(result: Float64) -> Any:
    return result if result.ndim else float(result)
