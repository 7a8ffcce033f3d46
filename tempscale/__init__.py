"""Length collapse of text embeddings, and TempScale: attention logits divided by a temperature at inference.

>>> import torch, tempscale
>>> tempscale.filter_rate(torch.full((4, 4), 0.25)).item()
0.0
"""

from tempscale.collapse import collapse_report, pairwise_cosine
from tempscale.compare import compare
from tempscale.corpus import docstrings
from tempscale.evaluate import EvaluationError, PlanError, evaluate
from tempscale.fold import fold
from tempscale.models import load_model
from tempscale.patch import Patch, patch
from tempscale.pooling import explain_collapse
from tempscale.postprocess import AllButTheTop, Centring, Whitening
from tempscale.probe import probe
from tempscale.rate_matched import RateMatched
from tempscale.recorder import UnsupportedModelError
from tempscale.schedules import Constant, LengthRule, LogLength, PerLayer
from tempscale.spectrum import (
    SingularPatterns,
    dc,
    filter_rate,
    filter_rate_qk,
    frequency_matrix,
    hc,
    singular_patterns_qk,
)
from tempscale.texts import read_texts
from tempscale.theory import (
    condensation_sigma,
    gaussian_floor,
    length_matched_temperature,
    paper_bound,
    random_markov_rate,
)

__version__ = "0.1.0"

__all__ = [
    "AllButTheTop",
    "Centring",
    "Constant",
    "EvaluationError",
    "LengthRule",
    "LogLength",
    "Patch",
    "PerLayer",
    "PlanError",
    "RateMatched",
    "SingularPatterns",
    "UnsupportedModelError",
    "Whitening",
    "collapse_report",
    "compare",
    "condensation_sigma",
    "dc",
    "docstrings",
    "evaluate",
    "explain_collapse",
    "filter_rate",
    "filter_rate_qk",
    "fold",
    "frequency_matrix",
    "gaussian_floor",
    "hc",
    "length_matched_temperature",
    "load_model",
    "pairwise_cosine",
    "paper_bound",
    "patch",
    "probe",
    "random_markov_rate",
    "read_texts",
    "singular_patterns_qk",
]
