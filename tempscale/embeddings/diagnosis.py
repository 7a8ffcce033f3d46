"""Is there length collapse in a model on given texts, how much of it is pooling, and what would a temperature change?"""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tempscale.embeddings import geometry
from tempscale.embeddings.cautions import Caution, check_characters, shared_opening, unreadable
from tempscale.embeddings.collapse import collapse_report, group_by_length
from tempscale.embeddings.controls import Ids, content_ids, embed_ids, special_ids
from tempscale.embeddings.geometry import Float
from tempscale.embeddings.pooling import explain_collapse
from tempscale.patching.patch import patch
from tempscale.patching.schedules import Schedule, check_schedule, temperature_label

if TYPE_CHECKING:
    import pandas as pd
    from sentence_transformers import SentenceTransformer

# The number of texts that every length needs; the number from which on more are not given up for longer ones; and the number
# that is drawn at most.
FEWEST, ENOUGH, MOST = 20, 40, 100
MOST_PER_BIN = 50
TIMED = 8  # texts that tell how long the others will take
MOST_READ = 1000  # texts whose tokens are looked through for what the tokenizer does not know
SHORTEST, LONGEST = 16, 1024


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found; lengths are in tokens, special tokens included.

    Attributes:
        texts: texts that were cut, at least 20.
        cut: `collapse_report` of the same texts cut to several lengths, at temperature 1.
        natural: `collapse_report` of other texts at their own lengths, in bins; None if fewer than two bins have 20 texts.
        pooling: `explain_collapse` of the cut texts, in `pieces` pieces of `piece_tokens` tokens, without special tokens.
        temperatures: a row per temperature (a number, or the label of a schedule) and length: mean_cosine; change (against
            temperature 1), change_low, change_high; rise (over the shortest length), rise_change, rise_change_low,
            rise_change_high. The intervals of all temperatures and lengths hold together, those of the changes and those
            of the rises.
        hubs: the texts that are most often among the nearest neighbours of others at the longest length: text, and its
            k-occurrence at the shortest and at the longest length, for k = `neighbours(len(texts))`.
        window: the tokens of a text that the model reads, its max_seq_length; None if there is no such limit.
        longer: how many of the given texts are longer, so that the model does not read their ends.
        given: number of different texts that were given.
        confidence: confidence of the intervals.
        warnings: what about the texts makes the rest mislead.
    """

    texts: list[str]
    cut: "pd.DataFrame"
    natural: "pd.DataFrame | None"
    pooling: "pd.DataFrame"
    piece_tokens: int
    pieces: int
    temperatures: "pd.DataFrame"
    hubs: "pd.DataFrame"
    window: int | None
    longer: int
    given: int
    confidence: float
    warnings: list[Caution] = field(default_factory=list)


def diagnose(
    model: "SentenceTransformer",
    texts: Sequence[str],
    temperatures: Sequence[Schedule] = (1.0, 0.9, 0.8),
    *,
    confidence: float = 0.95,
    seed: int = 0,
    estimate: Callable[[float], object] = lambda seconds: None,
    progress: Callable[[float], object] = lambda share: None,
) -> Diagnosis:
    """Examine a model on texts.

    Up to 100 texts are cut to 16, 32, 64, ... tokens, as far as the model's max_seq_length goes and 40 texts reach, and
    at most to 1024. So only the length differs and not the kind of text. Prompts are not added. What was found is put into
    words by `verdict` and `next_steps` of `tempscale.embeddings.diagnosis_page`.

    If fewer than 40 texts have 64 tokens, 20 that reach a length are enough.

    Args:
        model: embedding model without a temperature.
        texts: strings, of which at least 20 different ones have at least 64 tokens.
        temperatures: numbers or schedules to compare with 1, which is always there.
        confidence: confidence of the intervals.
        seed: seed of all that is random.
        estimate: function of the seconds that embedding will take, called before it begins. They are what a few texts take
            of the longest length, times the number of tokens.
        progress: function of the share of the work that is done, called after each batch.

    Raises:
        ValueError: too few texts that are long enough, half of which are the same when cut to 16 tokens, or one with half of
            a character; a temperature that is not possible, or a model that has one already.
        UnsupportedModelError: the model takes no temperature.
    """
    check_characters(texts)
    taus = _settings([1.0, *temperatures])
    drawn, ids = _drawn(texts, content_ids(model, texts), seed)
    special = sum(map(len, special_ids(model)))
    cautions = unreadable(model.tokenizer, drawn[:MOST_READ], ids[:MOST_READ])
    lengths = _lengths(model, ids, special, cautions)
    long = [i for i in range(len(ids)) if len(ids[i]) + special >= lengths[-1]][:MOST]
    chosen, cut = [drawn[i] for i in long], [ids[i] for i in long]
    openings = [text[: lengths[0] - special] for text in cut]
    _check_different(openings, lengths[0])
    kept = set(long)
    bins = _bins([ids[i] for i in range(len(ids)) if i not in kept], lengths, special)

    own = sum(len(text) for group in bins.values() for text in group)
    work = _Work(progress, len(cut) * (sum(lengths) * len(taus) + 3 * lengths[-1]) + own)
    embeddings: dict[float | str, dict[int, Float]] = {}
    with patch(model, 1.0) if len(taus) > 1 else nullcontext() as active:
        estimate(work.total * _seconds_per_token(model, [text[: lengths[-1] - special] for text in cut[:TIMED]]))
        for name, tau in taus.items():
            if active:
                active.temperature = tau
            embeddings[name] = {
                n: embed_ids(model, [text[: n - special] for text in cut], progress=work.part(len(cut) * n))
                for n in lengths
            }
    piece = 32 if lengths[-1] >= 128 else 16
    pieces = (lengths[-1] - special) // piece
    pooling = explain_collapse(
        model,
        cut,
        piece_tokens=piece,
        pieces=pieces,
        confidence=confidence,
        seed=seed,
        progress=work.part(3 * len(cut) * lengths[-1]),
    )
    natural = {
        edges: embed_ids(model, group, progress=work.part(sum(map(len, group)))) for edges, group in bins.items()
    }
    alike = shared_opening(model.tokenizer, openings)
    window = model.max_seq_length
    return Diagnosis(
        texts=chosen,
        cut=collapse_report(embeddings[1.0], paired=True, k=neighbours(len(cut)), confidence=confidence, seed=seed),
        natural=_natural(natural, confidence, seed),
        pooling=pooling,
        piece_tokens=piece,
        pieces=pieces,
        temperatures=_temperatures(embeddings, confidence),
        hubs=_hubs(chosen, embeddings[1.0]),
        window=window,
        longer=sum(len(text) + special > window for text in ids) if window else 0,
        given=len(ids),
        confidence=confidence,
        warnings=[*([alike] if alike else []), *cautions, *([_few(len(cut))] if len(cut) < ENOUGH else [])],
    )


def neighbours(texts: int) -> int:
    """Return how many of the nearest of so many texts are called neighbours: 10, or a quarter of fewer than 40 texts.

    >>> neighbours(100), neighbours(20)
    (10, 5)
    """
    return min(10, texts // 4)


class _Work:
    """Turns the progress of parts into that of the whole; costs are in tokens."""

    def __init__(self, progress: Callable[[float], object], total: int) -> None:
        self.total = total
        self._progress, self._before = progress, 0

    def part(self, cost: int) -> Callable[[float], object]:
        before = self._before
        self._before += cost
        return lambda share: self._progress((before + share * cost) / self.total)


def _settings(temperatures: Sequence[Schedule]) -> dict[float | str, Schedule]:
    """Return the different temperatures by what they are called in tables: a number by itself, a schedule by its label."""
    checked = map(check_schedule, temperatures)
    return {tau if isinstance(tau, float) else temperature_label(tau): tau for tau in checked}


def _drawn(texts: Sequence[str], ids: list[Ids], seed: int) -> tuple[list[str], list[Ids]]:
    """Return the different texts that have tokens, and their ids, in a random order."""
    distinct = {text: tokens for text, tokens in zip(texts, ids, strict=True) if tokens}
    order = list(distinct)
    random.Random(seed).shuffle(order)
    return order, [distinct[text] for text in order]


def _seconds_per_token(model: "SentenceTransformer", texts: list[Ids]) -> float:
    """Return how long the model takes for a token of such texts; the first time, which takes longer, does not count."""
    embed_ids(model, texts)
    start = time.perf_counter()
    embed_ids(model, texts)
    return (time.perf_counter() - start) / sum(map(len, texts))


def _needed(texts: Iterable[int], groups: int) -> int:
    """Return how many texts a group needs: 40 if so many groups have them, or else 20."""
    return ENOUGH if sum(n >= ENOUGH for n in texts) >= groups else FEWEST


def _lengths(model: "SentenceTransformer", ids: list[Ids], special: int, cautions: list[Caution]) -> list[int]:
    limit = min(model.max_seq_length or LONGEST, LONGEST)
    shortest = [SHORTEST * 2**i for i in range(3)]
    if limit < shortest[-1]:
        raise ValueError(f"the model reads {limit} tokens: expected at least {shortest[-1]}, to compare lengths")
    lengths = [n for n in (SHORTEST * 2**i for i in range(20)) if n <= limit]
    reached = {n: sum(len(tokens) + special >= n for tokens in ids) for n in lengths}
    needed = _needed(reached.values(), len(shortest))
    if reached[shortest[-1]] < needed:
        raise ValueError(
            f"{reached[shortest[-1]]} of {len(ids)} different texts have {shortest[-1]} tokens: expected at least {FEWEST} "
            "such texts, because fewer do not show a rise (with 10 its interval reaches about 0.1 to either side, and rises "
            "are about 0.1): give more texts, or longer ones" + "".join(f"; {caution.sentence}" for caution in cautions)
        )
    return [n for n in lengths if reached[n] >= needed]


def _few(texts: int) -> Caution:
    # Of 1000 draws of 20 texts (neighbours: 200), with all-MiniLM-L6-v2, from 1500 docstrings and from 1500 reviews.
    sentence = (
        f"With only {texts} texts the intervals are wide, about twice as wide as with {MOST}, and a rise may not be told "
        "from chance. But they hold about as often as they are meant to: of draws of 20 docstrings or film reviews, 95% "
        "intervals of the mean cosine, of temperatures and of pooling held in 93 to 99%, those of neighbours in 88 to 97%."
    )
    return Caution("few", texts, texts, sentence)


def _check_different(openings: list[Ids], length: int) -> None:
    """Raise ValueError if half of the openings may be one and the same, which point nowhere but in one direction."""
    same = Counter(map(tuple, openings)).most_common(1)[0][1]
    if same >= len(openings) // 2:
        raise ValueError(
            f"{same} of {len(openings)} texts are the same when cut to {length} tokens: expected different ones; take out "
            "what they begin with (markup, a header, a salutation)"
        )


def _bins(ids: list[Ids], lengths: list[int], special: int) -> dict[str, list[Ids]]:
    """Return texts in bins by their own length, without bins that are too small."""
    edges = [*lengths[:-1], lengths[-1] + 1]
    rows = group_by_length(np.arange(len(ids))[:, None], np.array([len(tokens) + special for tokens in ids]), edges)
    groups = {name: [ids[i] for i in row.ravel()[:MOST_PER_BIN]] for name, row in rows.items()}
    needed = _needed(map(len, groups.values()), 2)
    return {name: group for name, group in groups.items() if len(group) >= needed}


def _natural(embeddings: dict[str, Float], confidence: float, seed: int) -> "pd.DataFrame | None":
    if len(embeddings) < 2:
        return None
    k = neighbours(min(map(len, embeddings.values())))
    return collapse_report(embeddings, k=k, confidence=confidence, seed=seed)


def _temperatures(embeddings: dict[float | str, dict[int, Float]], confidence: float) -> "pd.DataFrame":
    import pandas as pd
    from scipy import stats

    # Each text's mean cosine with the others: (temperatures, lengths, texts).
    h = np.array([[_with_others(x) for x in of_length.values()] for of_length in embeddings.values()])
    rises = h - h[:, :1]
    rises[:, 0] = np.nan  # the shortest length does not rise over itself
    lengths = list(next(iter(embeddings.values())))
    texts = h.shape[2]

    def interval(difference: Float, comparisons: int) -> tuple[Float, Float, Float]:
        mean = difference.mean(-1)
        # Twice the standard error of a mean over texts, because every pair has two (Hoeffding 1948).
        quantile = stats.t.ppf(1 - (1 - confidence) / 2 / max(comparisons, 1), texts - 1)
        half = quantile * 2 * difference.std(-1, ddof=1) / np.sqrt(texts)
        return mean.ravel(), (mean - half).ravel(), (mean + half).ravel()

    others = len(embeddings) - 1
    change = interval(h - h[:1], others * len(lengths))
    rise_change = interval(rises - rises[:1], others * (len(lengths) - 1))
    return pd.DataFrame(
        {
            "temperature": [name for name in embeddings for _ in lengths],
            "length": np.tile(lengths, len(embeddings)),
            "texts": texts,
            "mean_cosine": h.mean(-1).ravel(),
            **dict(zip(("change", "change_low", "change_high"), change, strict=True)),
            "rise": rises.mean(-1).ravel(),
            **dict(zip(("rise_change", "rise_change_low", "rise_change_high"), rise_change, strict=True)),
        }
    )


def _with_others(x: Float) -> Float:
    u = geometry.directions(x)
    means: Float = (u @ u.sum(0) - 1) / (len(u) - 1)
    return means


def _hubs(texts: list[str], embeddings: dict[int, Float]) -> "pd.DataFrame":
    import pandas as pd

    k = neighbours(len(texts))
    counts = {f"occurrence_{n}": geometry.k_occurrence(embeddings[n], k) for n in (min(embeddings), max(embeddings))}
    frame = pd.DataFrame({"text": texts, **counts})
    return frame.sort_values(frame.columns[-1], ascending=False, kind="stable").head(10).reset_index(drop=True)
