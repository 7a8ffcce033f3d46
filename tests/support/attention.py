"""Attention by hand, in NumPy: shares no code with the package."""

import numpy as np


def softmax(logits):
    """Return softmax over the last axis."""
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)
