"""Length collapse of text embeddings, and TempScale: attention logits divided by a temperature at inference.

>>> import torch, tempscale
>>> tempscale.filter_rate(torch.full((4, 4), 0.25)).item()
0.0
"""

from tempscale.advice.advise import Advice, advise, advise_vectors
from tempscale.comparison.compare import compare
from tempscale.embeddings.collapse import collapse_report, pairwise_cosine
from tempscale.embeddings.pooling import explain_collapse
from tempscale.embeddings.postprocess import AllButTheTop, Centring, Projection, Whitening
from tempscale.embeddings.remedies import Remedy, read_remedy
from tempscale.embeddings.serving import apply, piece_vectors
from tempscale.embeddings.sides import PerSide
from tempscale.encoding.reading import Pieces
from tempscale.evaluation.evaluate import EvaluationError, PlanError, evaluate
from tempscale.models import load_model
from tempscale.patching.fold import fold
from tempscale.patching.patch import Patch, patch
from tempscale.patching.recorder import UnsupportedModelError
from tempscale.patching.schedules import LengthRule, LogLength, PerLayer
from tempscale.probing.probe import probe
from tempscale.probing.rate_matched import RateMatched
from tempscale.spectrum.from_queries_keys import SingularPatterns, filter_rate_qk, singular_patterns_qk
from tempscale.spectrum.laws import (
    condensation_sigma,
    gaussian_floor,
    gaussian_rate_bound,
    iid_rate_bound,
    length_matched_temperature,
    paper_bound,
    random_markov_rate,
    temperature_derivative,
)
from tempscale.spectrum.signals import dc, filter_rate, frequency_matrix, hc
from tempscale.texts.docstrings import docstrings
from tempscale.texts.files import read_texts

__version__ = "0.3.0"

__all__ = [
    "Advice",
    "AllButTheTop",
    "Centring",
    "EvaluationError",
    "LengthRule",
    "LogLength",
    "Patch",
    "PerLayer",
    "PerSide",
    "Pieces",
    "PlanError",
    "Projection",
    "RateMatched",
    "Remedy",
    "SingularPatterns",
    "UnsupportedModelError",
    "Whitening",
    "advise",
    "advise_vectors",
    "apply",
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
    "gaussian_rate_bound",
    "hc",
    "iid_rate_bound",
    "length_matched_temperature",
    "load_model",
    "pairwise_cosine",
    "paper_bound",
    "patch",
    "piece_vectors",
    "probe",
    "random_markov_rate",
    "read_remedy",
    "read_texts",
    "singular_patterns_qk",
    "temperature_derivative",
]
