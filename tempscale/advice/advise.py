"""Advice on a user's own pairs: every remedy on the same queries, and one recommended, or none."""

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tempscale.advice.choice import Choice, choose
from tempscale.advice.evidence import Costs, Evidence, look
from tempscale.advice.ranking import ndcg
from tempscale.advice.words import in_words, kind_of_step, points
from tempscale.embeddings.geometry import Float
from tempscale.embeddings.remedies import Remedy, as_remedy, read_remedy
from tempscale.embeddings.sides import CrossFitted, as_array, unit_again
from tempscale.encoding.encoder import Encoder
from tempscale.encoding.reading import LEAST
from tempscale.evaluation.evaluate import check_installed, evaluate
from tempscale.evaluation.identity import model_name, prompts_of
from tempscale.evaluation.progress import duration
from tempscale.evaluation.store import Store
from tempscale.models import load_model
from tempscale.statistics.clusters import sharing
from tempscale.statistics.intervals import Floats

if TYPE_CHECKING:
    import pandas as pd
    from sentence_transformers import SentenceTransformer

FEWEST = 40  # queries; with fewer, what chance does to half of them is larger than what any remedy does
PIECE = 128  # tokens of the pieces that are tried
_VECTORS = ("project", "centre")
_TEMPERATURES = ("temperature(0.9)", "temperature(0.8)")
# A gain of so many standard errors is found in 4 of 5 cases, by a one-sided test at 5 %.
_FOUND = 1.645 + 0.842


@dataclass(frozen=True)
class Advice:
    """What `advise` found: whether a remedy is recommended, and the scores behind it.

    Attributes:
        remedies: what was tried, the k remedies without the baseline.
        baseline: mean nDCG@10 without a remedy.
        choice: what the queries say about them (`tempscale.advice.choice.Choice`).
        table: a row a remedy: remedy, in_words, query_cost, index_cost, difference, low, high, better, worse,
            recommended. Differences are of nDCG@10, with intervals that hold for all remedies together; better and worse are
            shares of queries.
        scores: a row a query: query, cluster (equal for queries that share a document), and its nDCG@10 by remedy, "none"
            first.
        evidence: what the texts tell without pairs; None where only vectors were given.
        notes: sentences about what was left out.
    """

    remedies: list[Remedy]
    baseline: float
    choice: Choice
    table: "pd.DataFrame"
    scores: "pd.DataFrame"
    evidence: Evidence | None
    notes: list[str]

    @property
    def recommended(self) -> Remedy | None:
        """The remedy that is recommended, if any."""
        return None if self.choice.chosen is None else self.remedies[self.choice.chosen]

    def sentences(self) -> list[str]:
        """Return the advice in plain words, the answer first."""
        estimate, low, high = map(points, self.choice.gain)
        gain = f"{estimate} points [{low}, {high}]"
        if self.recommended is not None:
            answer = in_words(self.recommended)
            said = [f"{answer[:1].upper()}{answer[1:]}: {gain} of nDCG@10 on pairs that did not choose it."]
        elif self.choice.best is not None:
            said = [
                f"Nothing to recommend: what one half of the pairs chose changed nDCG@10 by {gain} on the other half, and "
                f"chance alone does as much in {100 * self.choice.p:.1f} of 100 cases."
            ]
        else:
            said = ["Nothing to recommend: no remedy improves the mean score of these pairs."]
        kinds: dict[str, list[int]] = {}
        for k, remedy in enumerate(self.remedies):
            kinds.setdefault(kind_of_step(remedy), []).append(k)
        each = self.choice.each
        for kind, columns in kinds.items():
            if self.choice.chosen not in columns:
                helps = "helps, too" if self.recommended else "perhaps"
                said.append(f"{kind}: {_seen(each.low[columns], each.high[columns], each.estimate[columns], helps)}.")
        n, errors = len(self.scores), _FOUND * self.choice.error
        groups = f" in {self.choice.clusters} groups that share documents" if self.choice.clusters < n else ""
        ends = dict.fromkeys(points(error, "") for error in (errors[errors > 0].min(initial=np.inf), errors.max()))
        if errors.max() > 0:
            said.append(
                f"{n} queries{groups} cannot tell smaller gains: one below about {' to '.join(ends)} points, by remedy, is "
                "missed more than one time in five."
            )
        else:
            said.append(f"No remedy changes the score of any of the {n} queries.")
        return said


def _seen(low: Floats, high: Floats, difference: Floats, helps: str) -> str:
    """Return what intervals say together."""
    if (low > 0).any():
        k = int(np.argmax(np.where(low > 0, difference, -np.inf)))
        return f"{helps}, {points(difference[k])} points [{points(low[k])}, {points(high[k])}]"
    if (high < 0).all():
        return f"does harm, {points(difference.min())} to {points(difference.max())} points"
    if (high < 0).any():
        return "nothing that helps, and some does harm"
    k = int(np.argmax(difference))
    return f"nothing we could see (at best {points(difference[k])} points [{points(low[k])}, {points(high[k])}])"


def standard_remedies(model: "SentenceTransformer", longest: int) -> list[Remedy]:
    """Return what is tried unless remedies are named: what each kind of step does, at its usual setting.

    Args:
        model: embedding model.
        longest: length in tokens of the longest text; pieces are tried where something is longer than one.
    """
    window = model.max_seq_length or 2 * PIECE
    tokens = PIECE if window >= 2 * PIECE else max(LEAST, window // 2)
    pieces = f"pieces({tokens})"
    several = (pieces, f"{pieces}+project", f"pieces({tokens}, pool=max)", f"pieces({tokens}, pool=mean+max)")
    return list(map(read_remedy, (*_VECTORS, *(several if longest > tokens else ()), *_TEMPERATURES)))


def advise(
    model: "str | SentenceTransformer",
    pairs: str | Path | Iterable[tuple[str, str] | tuple[str, str, int]],
    *,
    documents: Iterable[str] = (),
    remedies: Iterable[Remedy | str] | None = None,
    out: str | Path | None = None,
    max_seq_length: int | None = None,
    device: str | None = None,
    command: str | None = None,
    progress: bool = True,
    say: Callable[[str], object] = lambda sentence: None,
) -> Advice:
    """Find out which remedy helps a model's search, from pairs of a query and its document.

    Every remedy is measured by `evaluate` on the same queries, with nDCG@10. Half of the queries choose the best, the others
    judge it, in turn and over many random halves, so that the gain is that on queries that did not choose
    (`tempscale.advice.choice`). A mean or a direction that a remedy takes away is likewise learned from texts of the other
    half.

    Args:
        model: "minilm", a hub id, a local folder, or a loaded SentenceTransformer, which is left as it was.
        pairs: a file with the columns query and document (as `evaluate` takes it, also a `PairFile`), or tuples (query,
            document); a third value is the grade of relevance. At least 40 different queries.
        documents: further documents, which the search may find by mistake.
        remedies: `Remedy` objects or labels to try; by default a standard set. "none" is always there.
        out: folder where what was measured is kept; call again with it to resume. By default nothing is kept.
        max_seq_length: length in tokens at which texts are cut; the model's by default.
        device: device of a model given by name.
        command: command kept with the results; by default that of `evaluate`.
        progress: whether to print a line for each remedy, and on a terminal a bar, on stderr.
        say: function that is told, before the work, how long it will take.

    Raises:
        ValueError: too few queries, a remedy that is not possible for the model, or what `evaluate` refuses.
        OSError: a file that cannot be read, or a folder that cannot be written.
        ModuleNotFoundError: mteb is not installed: it comes with the extra `eval`.

    >>> from tempscale import docstrings
    >>> texts = docstrings(["numpy"], min_tokens=24).query("pair").head(50)
    >>> found = advise("minilm", zip(texts.summary, texts.body), remedies=["project"], progress=False)
    >>> found.table.remedy.tolist(), found.scores.columns.tolist()
    (['project'], ['query', 'cluster', 'none', 'project'])
    """
    check_installed("advise", "mteb", "eval")
    task = _task(pairs, documents)
    queries, corpus = task.query_texts(), task.document_texts()
    if len(queries) < FEWEST:
        raise ValueError(
            f"{len(queries)} different queries with a document: expected at least {FEWEST}, since with fewer chance does "
            "more to one half of them than any remedy; collect more pairs"
        )
    named = model if isinstance(model, str) else model_name(model)
    loaded = load_model(model, device=device, max_seq_length=max_seq_length) if isinstance(model, str) else model
    evidence = look(loaded, [*queries.values()], [*corpus.values()], prompts_of(loaded, named))
    notes: list[str] = []
    standard = standard_remedies(loaded, max(int(side.tokens.max()) for side in evidence.sides))
    tried = _possible(loaded, standard, notes) if remedies is None else _named(remedies)
    settings = [Remedy(), *tried]
    costs = Costs(loaded, evidence)
    of_remedies = [costs.of(remedy) for remedy in tried]
    say(
        f"{len(settings)} settings on {len(queries)} queries and {len(corpus)} documents: about "
        f"{duration(costs.seconds(settings))} of reading on this machine"
    )
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory()) if out is None else out
        try:
            units = evaluate(
                model,
                [task],
                out=folder,
                remedies=settings,
                max_seq_length=max_seq_length,
                device=device,
                command=command,
                progress=progress,
            )
        except KeyboardInterrupt as interrupt:
            if out is None:
                interrupt.args = ("nothing is kept without a folder, out (--out)",)
            raise
        with Store(folder) as store:
            items = [store.item_table(unit) for unit in units.id]
    place = {name: k for k, name in enumerate(items[0].column("item"))}
    order = [place[name] for name in queries]
    clusters = [items[0].column("cluster")[k] for k in order]
    scores = {str(remedy): table.scores[order] for remedy, table in zip(settings, items, strict=True)}
    return _advice(tried, [*queries.values()], clusters, scores, of_remedies, evidence, notes)


def advise_vectors(
    queries: Any,
    documents: Any,
    relevant: Iterable[Sequence[float]] | None = None,
    *,
    remedies: Iterable[Remedy | str] | None = None,
) -> Advice:
    """Find out which step on vectors helps a search over stored embeddings, without encoding anything again.

    Vectors are compared by cosine. Otherwise it works as `advise`; a remedy with a temperature or pieces needs the model.

    Args:
        queries: (n, d) embeddings of at least 40 queries, NumPy or torch.
        documents: (m, d) embeddings of documents.
        relevant: rows of a query and of a document that belong together, and if there is a third number its grade, of which
            0 is not relevant. By default query k belongs to document k.
        remedies: `Remedy` objects or labels with steps on vectors; by default centre and project.

    Raises:
        ValueError: shapes that do not fit, vectors that are zero or not finite, too few queries, or a remedy that needs a
            model.

    >>> rng = np.random.default_rng(0)
    >>> documents = rng.normal(size=(300, 16))
    >>> queries = documents + rng.normal(size=(300, 16))
    >>> found = advise_vectors(queries + 4 * rng.normal(size=16), documents + 4 * rng.normal(size=16))
    >>> str(found.recommended), found.evidence
    ('centre', None)
    """
    given = {name: _vectors(name, x) for name, x in (("queries", queries), ("documents", documents))}
    asked, among = given["queries"], given["documents"]
    if asked.shape[1] != among.shape[1]:
        raise ValueError(
            f"queries of width {asked.shape[1]} and documents of {among.shape[1]}: take those of one model"
        )
    if relevant is None and len(asked) != len(among):
        raise ValueError(
            f"{len(asked)} queries and {len(among)} documents do not pair off: give the relevant rows of both"
        )
    grades = _grades(
        relevant if relevant is not None else zip(range(len(asked)), range(len(asked)), strict=True), asked, among
    )
    rows = [row for row, of_query in enumerate(grades) if of_query]
    if len(rows) < FEWEST:
        raise ValueError(
            f"{len(rows)} queries with a relevant document: expected at least {FEWEST}; collect more pairs"
        )
    tried = _named(_VECTORS if remedies is None else remedies)
    for remedy in tried:
        if not remedy.is_plain or remedy.pieces is not None:
            raise ValueError(
                f"{remedy} needs a model and texts, and there are only vectors: name steps such as project"
            )
    keys = {
        "query": [f"query {k}" for k in range(len(asked))],
        "document": [f"document {k}" for k in range(len(among))],
    }
    unit = {"query": unit_again(asked), "document": unit_again(among)}
    relevant_to = [grades[row] for row in rows]
    scores = {"none": ndcg(unit["query"][rows], unit["document"], relevant_to)}
    for remedy in tried:
        assert remedy.vectors is not None
        crossed = CrossFitted(remedy.vectors, {side: (keys[side], x) for side, x in unit.items()})
        mapped = {side: crossed.transform(keys[side], x, side) for side, x in unit.items()}
        scores[str(remedy)] = ndcg(mapped["query"][rows], mapped["document"], relevant_to)
    return _advice(
        tried,
        [keys["query"][row] for row in rows],
        sharing(relevant_to),
        scores,
        [("none", "none")] * len(tried),
        None,
        [],
    )


def _task(pairs: Any, documents: Iterable[str]) -> Any:
    """Return the pairs as a task of mteb."""
    from tempscale.evaluation.own_tasks import PairRetrieval, read_pairs

    more = list(documents)
    if not isinstance(pairs, (str, Path)):
        return PairRetrieval(pairs, documents=more, name="pairs", origin="pairs")
    task = read_pairs(pairs, **getattr(pairs, "options", {}))
    if not more:
        return task
    return PairRetrieval(
        task.pairs, documents=[*task.documents, *more], name=task.metadata.name, origin=(task.origin, tuple(more))
    )


def _named(remedies: Iterable[Remedy | str]) -> list[Remedy]:
    tried = [one for one in dict.fromkeys(map(as_remedy, remedies)) if one != Remedy()]
    if not tried:
        raise ValueError("no remedy to try: name one such as project, or leave them out for the standard set")
    return tried


def _possible(model: "SentenceTransformer", remedies: Sequence[Remedy], notes: list[str]) -> list[Remedy]:
    """Return the remedies that a model can take; `notes` gets a sentence for each that it cannot."""
    encoder, found = Encoder(model), []
    for remedy in remedies:
        try:
            encoder.prove([remedy])
        except ValueError as error:
            notes.append(f"{remedy} is left out: {error}")
        else:
            found.append(remedy)
        finally:
            encoder.close()
    return found


def _vectors(name: str, given: Any) -> Float:
    x = as_array(given)
    if x.ndim != 2 or not x.size:
        raise ValueError(f"{name}: expected vectors of shape (n, d), not {x.shape}")
    wrong = ~(np.isfinite(x).all(1) & (np.linalg.norm(x, axis=1) > 0))
    if wrong.any():
        raise ValueError(f"{name}: row {int(wrong.argmax())} is zero or not finite: leave such rows out")
    return x


def _grades(relevant: Iterable[Sequence[float]], queries: Floats, documents: Floats) -> list[dict[int, float]]:
    """Return the grades of documents for each query, by their rows."""
    try:
        rows = np.array([(*row, 1)[:3] for row in map(list, relevant)])
    except (TypeError, ValueError) as error:
        raise ValueError(
            "relevant: expected rows of a query and a document, each a number, and perhaps a grade"
        ) from error
    if rows.size and (rows.ndim != 2 or rows.shape[1] != 3 or rows.dtype.kind not in "iuf"):
        raise ValueError(f"relevant: expected rows of two or three numbers, not {rows.dtype} {rows.shape}")
    found: list[dict[int, float]] = [{} for _ in queries]
    for query, document, grade in rows.tolist():
        whole = query == query // 1 and document == document // 1
        if not (whole and 0 <= query < len(queries) and 0 <= document < len(documents)):
            raise ValueError(
                f"relevant rows {query:g} and {document:g}: expected those of one of {len(queries)} queries and one of "
                f"{len(documents)} documents, from 0"
            )
        if not 0 <= grade < np.inf:
            raise ValueError(f"relevant: the grade {grade:g} of query {query:g}: expected a number from 0 up")
        if grade:
            found[int(query)][int(document)] = float(grade)
    return found


def _advice(
    tried: list[Remedy],
    queries: Sequence[str],
    clusters: Any,
    scores: Mapping[str, Floats],
    costs: Sequence[tuple[str, str]],
    evidence: Evidence | None,
    notes: list[str],
) -> Advice:
    """Let the queries choose and judge, and arrange what came out."""
    import pandas as pd

    labels = [str(remedy) for remedy in tried]
    choice = choose(scores["none"], np.stack([scores[label] for label in labels]), clusters=np.asarray(clusters))
    table = pd.DataFrame(
        {
            "remedy": labels,
            "in_words": list(map(in_words, tried)),
            "query_cost": [query for query, _ in costs],
            "index_cost": [index for _, index in costs],
            "difference": choice.each.estimate,
            "low": choice.each.low,
            "high": choice.each.high,
            "better": choice.better,
            "worse": choice.worse,
            "recommended": [k == choice.chosen for k in range(len(tried))],
        }
    )
    by_query = pd.DataFrame({"query": list(queries), "cluster": list(clusters), **scores})
    return Advice(tried, float(scores["none"].mean()), choice, table, by_query, evidence, notes)
