"""The attention sandbox's static picture: four of its starting points, and the three numbers of each.

The live one, `book/_static/explorers/sandbox.js`, computes everything itself and needs no data.
"""

from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import softmax

from tempscale import filter_rate, frequency_matrix
from tempscale.plots import style

BOOK = Path(__file__).resolve().parents[1]
TOKENS = 8
row, column = np.indices((TOKENS, TOKENS))
# The sandbox's starting points of the same names.
LOGITS = {
    "Two hubs": np.where(column == (2 * row >= TOKENS), 6.0, 0.0),
    "Shift by one": np.where(column == (row + 1) % TOKENS, 6.0, 0.0),
    "Sink, rows disagree": np.where(column == 0, np.where(row % 2, 5.0, 2.0), 0.0),
    "Causal, uniform": np.where(column > row, -np.inf, 0.0),
}


def second_eigenvalue(attention: np.ndarray) -> float:
    """|λ₂|: the spectral radius of (I - J) A."""
    return float(np.abs(np.linalg.eigvals(attention - attention.mean(0))).max())


def dobrushin(attention: np.ndarray) -> float:
    """Half the largest L1 distance between two rows."""
    return float(np.abs(attention[:, None] - attention[None]).sum(-1).max() / 2)


MEASURES: dict[str, Callable[[np.ndarray], float]] = {
    r"\sigma_a": filter_rate,
    r"|\lambda_2|": second_eigenvalue,
    r"\delta": dobrushin,
}


@style()
def build(folder: Path) -> None:
    """Write sandbox.svg."""
    figure, axes = plt.subplots(2, len(LOGITS), figsize=(8, 4.6))
    for (title, logits), (top, bottom) in zip(LOGITS.items(), axes.T, strict=True):
        attention = softmax(logits, axis=1)
        top.imshow(np.sqrt(attention), vmin=0, vmax=1)
        bottom.imshow(np.sqrt(np.abs(frequency_matrix(attention))), vmin=0, vmax=1)
        top.set_title(title, fontsize=10)
        numbers = [f"${symbol} = {measure(attention):.2f}$" for symbol, measure in MEASURES.items()]
        bottom.set_xlabel("\n".join(numbers))
    for panel in axes.flat:
        panel.set(xticks=[], yticks=[])
        panel.grid(False)
    axes[0, 0].set_ylabel(r"$\sqrt{A}$: token looks at token")
    axes[1, 0].set_ylabel(r"$\sqrt{|F A F^H|}$: frequency")
    with plt.rc_context({"svg.hashsalt": "sandbox"}):
        figure.savefig(folder / "sandbox.svg", metadata={"Date": None})
    plt.close(figure)
