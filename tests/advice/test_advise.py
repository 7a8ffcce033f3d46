"""Advice on pairs: the numbers are NumPy's, the sentences say what was found, and what cannot be is refused at once."""

import numpy as np
import pytest

pytest.importorskip("mteb", reason="mteb is not installed: pip install 'tempscale[eval]'")

from support.evaluation import WORDS, write_model

import tempscale
from tempscale import advise, advise_vectors, read_remedy
from tempscale.advice.advice_page import html
from tempscale.advice.advise import standard_remedies
from tempscale.advice.evidence import Costs, look
from tempscale.advice.words import cost
from tempscale.encoding.reading import Pieces


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def pairs():
    """Short queries, and documents of which half are longer than the 64 tokens of the model."""
    rng = np.random.default_rng(0)
    words = [" ".join(rng.choice(WORDS, n)) for n in rng.integers(20, 120, size=60)]
    return [(" ".join(text.split()[3:8]), text) for text in words]


@pytest.fixture(scope="module")
def found(model, pairs, tmp_path_factory):
    told = []
    remedies = ["none", "project", "pieces(32)", "pieces(32, pool=max)", "temperature(0.5)", "project"]
    out = tmp_path_factory.mktemp("out")
    advice = advise(
        model, pairs, documents=["ba bo", "bi"], remedies=remedies, out=out, progress=False, say=told.append
    )
    return advice, told, out


def ndcg_of_one(scores, right):
    """The score of queries with one relevant document each, by their ranks."""
    ranks = (scores > scores[np.arange(len(right)), right][:, None]).sum(1)
    return np.where(ranks < 10, 1 / np.log2(ranks + 2), 0)


def test_scores_of_queries_are_numpys(found, model, pairs):
    advice, _, _ = found
    assert advice.table.remedy.tolist() == ["project", "pieces(32)", "pieces(32, pool=max)", "temperature(0.5)"]
    plain = tempscale.load_model(model, device="cpu")
    queries, documents = (
        plain.encode([query for query, _ in pairs]),
        plain.encode([text for _, text in pairs] + ["ba bo", "bi"]),
    )
    cosines = plain.similarity(queries, documents).numpy()
    assert advice.scores["query"].tolist() == [query for query, _ in pairs]
    np.testing.assert_allclose(advice.scores.none, ndcg_of_one(cosines, np.arange(60)), atol=1e-5)
    with tempscale.patch(plain, 0.5):
        tempered = plain.similarity(
            plain.encode([q for q, _ in pairs]), plain.encode([d for _, d in pairs] + ["ba bo", "bi"])
        )
    np.testing.assert_allclose(
        advice.scores["temperature(0.5)"], ndcg_of_one(tempered.numpy(), np.arange(60)), atol=1e-5
    )
    differences = advice.scores["project"] - advice.scores.none
    row = advice.table.set_index("remedy").loc["project"]
    assert row.difference == pytest.approx(differences.mean())
    assert (row.better, row.worse) == ((differences > 1e-9).mean(), (differences < -1e-9).mean())
    assert row.low < row.difference < row.high
    assert advice.table.recommended.tolist() == [remedy == advice.recommended for remedy in advice.remedies]


def test_costs_and_time_are_said(found, model, pairs):
    advice, told, _ = found
    costs = advice.table.set_index("remedy")[["query_cost", "index_cost"]]
    assert costs.loc["project"].tolist() == costs.loc["temperature(0.5)"].tolist() == ["none", "none"]
    lengths = np.array([len(text.split()) + 2 for _, text in pairs] + [4, 3])
    numbers = np.ceil((lengths - 2) / 30)
    ratio = (lengths + 2 * (numbers - 1)).sum() / np.minimum(lengths, 64).sum()
    assert costs.loc["pieces(32)"].tolist() == ["none", cost(ratio)]
    assert costs.loc["pieces(32, pool=max)"].tolist() == ["none", cost(ratio, numbers.mean())]
    assert len(told) == 1
    assert told[0].startswith("5 settings on 60 queries and 62 documents: about ")


def test_evidence_without_pairs(found, pairs):
    evidence = found[0].evidence
    queries, documents = evidence.sides
    share = np.mean([len(text.split()) + 2 > 64 for _, text in pairs] + [False, False])
    assert evidence.cut(documents) == pytest.approx(share)
    assert evidence.cut(queries) == 0
    said = evidence.sentences()
    assert (
        f"{100 * share:.3g} % of the documents are longer than the 64 tokens that the model reads, and the rest of those"
        in said[1]
    )
    assert said[0].endswith("none is longer than the 64 tokens that the model reads.")
    assert -1 <= evidence.cosine <= 1


def test_what_was_measured_is_kept(found, model, pairs, capsys):
    advice, _, out = found
    again = advise(model, pairs, documents=["ba bo", "bi"], remedies=["project", "pieces(32)"], out=out)
    assert "(" not in capsys.readouterr().err.replace("ndcg", "").split("Texts")[0], "nothing is run again"
    assert again.scores["pieces(32)"].equals(advice.scores["pieces(32)"])


def planted(gain, n=300, seed=0):
    """Vectors in which one direction of documents and another of queries hide what they have in common."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, 24))
    sides = rng.normal(size=(2, 24))
    return shared + rng.normal(size=(n, 24)) + gain * sides[0], shared + rng.normal(size=(n, 24)) + gain * sides[1]


def test_a_gain_is_found_in_vectors_and_said():
    found = advise_vectors(*planted(3.0))
    assert found.recommended is not None
    first = found.sentences()[0]
    assert first.startswith("Take away the mean")
    assert first.endswith("of nDCG@10 on pairs that did not choose it.")
    assert found.choice.gain.low > 0
    assert "Take away" in html(found, {"model": "vectors"})


def test_without_a_gain_nothing_is_recommended():
    rng = np.random.default_rng(1)
    queries, documents = rng.normal(size=(2, 200, 16))
    found = advise_vectors(queries, documents, remedies=["centre"])
    assert found.recommended is None
    assert found.sentences()[0].startswith("Nothing to recommend: ")
    assert found.sentences()[1].startswith("A step on vectors: nothing we could see (at best ")
    assert "200 queries cannot tell smaller gains" in found.sentences()[-1]


def test_vectors_are_ranked_by_cosine_and_only_relevant_queries_count():
    queries, documents = planted(0.5, 120)
    scale = np.exp(np.random.default_rng(2).normal(size=(120, 1)))
    relevant = [(k, k) for k in range(60)] + [(3, 100, 2)] + [(70, 70, 0)]
    found = advise_vectors(queries, documents * scale, relevant, remedies=["project"])
    assert len(found.scores) == 60
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, documents)]
    expected = ndcg_of_one(unit[0] @ unit[1].T, np.arange(120))[:60]
    others = np.arange(60) != 3
    np.testing.assert_allclose(found.scores.none[others], expected[others])
    assert found.choice.clusters == 60


def test_the_page_escapes_and_says_the_answer(found):
    advice, _, _ = found
    page = html(advice, {"model": "<b>mine</b>", "command": "tempscale advise"})
    assert "<b>mine" not in page
    assert page.index(advice.sentences()[0][:20]) < page.index("<table")
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"pairs": 39},
            "39 different queries with a document: expected at least 40, since with fewer chance does more",
        ),
        ({"remedies": ["heal"]}, "'heal' is no remedy"),
        ({"remedies": ["none"]}, "no remedy to try: name one such as project"),
        ({"remedies": ["pieces(128)"]}, r"pieces\(128\) has more than the 64 tokens that the model reads"),
    ],
)
def test_what_cannot_be_is_refused(model, pairs, arguments, message, tmp_path):
    given = {"remedies": ["project"], "progress": False, "out": tmp_path} | arguments
    with pytest.raises(ValueError, match=message):
        advise(model, pairs[: given.pop("pairs", 60)], **given)


@pytest.mark.parametrize(
    ("queries", "documents", "relevant", "options", "message"),
    [
        (
            np.ones((50, 3)),
            np.ones((50, 4)),
            None,
            {},
            "queries of width 3 and documents of 4: take those of one model",
        ),
        (np.ones((50, 3)), np.ones((51, 3)), None, {}, "50 queries and 51 documents do not pair off"),
        (np.ones(50), np.ones((50, 3)), None, {}, r"queries: expected vectors of shape \(n, d\), not \(50,\)"),
        (np.ones((50, 3)), np.zeros((50, 3)), None, {}, "documents: row 0 is zero or not finite"),
        (np.ones((39, 3)), np.ones((39, 3)), None, {}, "39 queries with a relevant document: expected at least 40"),
        (
            np.ones((50, 3)),
            np.ones((50, 3)),
            [(0, 50)],
            {},
            "relevant rows 0 and 50: expected those of one of 50 queries",
        ),
        (
            np.ones((50, 3)),
            np.ones((50, 3)),
            None,
            {"remedies": ["pieces(64)"]},
            r"pieces\(64\) needs a model and texts",
        ),
    ],
)
def test_vectors_that_cannot_be(queries, documents, relevant, options, message):
    with pytest.raises(ValueError, match=message):
        advise_vectors(queries, documents, relevant, **options)


def test_the_standard_set_fits_the_model(minilm, model):
    labels = list(map(str, standard_remedies(minilm, 400)))
    assert labels[:3] == ["project", "centre", "pieces(128)"]
    assert list(map(str, standard_remedies(minilm, 100))) == [
        "project",
        "centre",
        "temperature(0.9)",
        "temperature(0.8)",
    ]
    assert "pieces(32)" in map(str, standard_remedies(tempscale.load_model(model), 65)), "half the window"


def test_a_step_that_a_model_cannot_take_is_left_out_and_said(model, pairs, monkeypatch):
    from tempscale.encoding.encoder import Encoder

    def prove(self, readings):
        if not readings[0].is_plain:
            raise tempscale.UnsupportedModelError("no temperature site; use another model")

    monkeypatch.setattr(Encoder, "prove", prove)
    found = advise(model, pairs, progress=False)
    assert "temperature(0.9)" not in found.table.remedy.tolist()
    assert "temperature(0.9) is left out: no temperature site; use another model" in found.notes


def test_late_pieces_cost_no_more_tokens(minilm):
    texts = ["word " * n for n in (5, 100, 300)]
    evidence = look(minilm, [], texts)
    (side,) = evidence.sides
    assert evidence.cosine is None
    assert Costs(minilm, evidence).read(side, Pieces(64, late=True)) == (7 + 102 + 256, pytest.approx((1 + 2 + 4) / 3))
    assert read_remedy("pieces(64, late=True)").pieces == Pieces(64, late=True)
