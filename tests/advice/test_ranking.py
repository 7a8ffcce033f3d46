"""nDCG at 10, against trec_eval's; and queries that share documents."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytrec_eval = pytest.importorskip("pytrec_eval", reason="pytrec_eval is not installed: pip install 'tempscale[eval]'")

from tempscale.advice import ranking  # noqa: E402
from tempscale.statistics.clusters import sharing  # noqa: E402


@given(st.integers(0, 10**6), st.integers(2, 40), st.integers(1, 12))
def test_scores_are_those_of_trec_eval(seed, documents, queries):
    rng = np.random.default_rng(seed)
    q, d = rng.normal(size=(queries, 5)), rng.normal(size=(documents, 5))
    relevant = [
        {int(k): int(rng.integers(1, 4)) for k in rng.choice(documents, rng.integers(1, documents + 1), replace=False)}
        for _ in range(queries)
    ]
    run = {str(n): {str(k): float(q[n] @ d[k]) for k in range(documents)} for n in range(queries)}
    truth = {str(n): {str(k): grade for k, grade in grades.items()} for n, grades in enumerate(relevant)}
    expected = pytrec_eval.RelevanceEvaluator(truth, {"ndcg_cut.10"}).evaluate(run)
    found = ranking.ndcg(q, d, relevant)
    np.testing.assert_allclose(found, [expected[str(n)]["ndcg_cut_10"] for n in range(queries)], atol=1e-9)


def test_blocks_make_no_difference(monkeypatch):
    rng = np.random.default_rng(0)
    q, d, relevant = rng.normal(size=(30, 4)), rng.normal(size=(50, 4)), [{n: 1.0} for n in range(30)]
    whole = ranking.ndcg(q, d, relevant)
    monkeypatch.setattr(ranking, "_BLOCK", 130)
    assert np.array_equal(ranking.ndcg(q, d, relevant), whole)


def test_queries_that_share_documents_are_together():
    labels = sharing([{0: 1}, {1: 1}, {2: 1, 0: 2}, {3: 1}, {1: 1}]).tolist()
    assert labels[0] == labels[2]
    assert labels[1] == labels[4]
    assert len(set(labels)) == 3
