"""The claims ledger: its file is as it must be, its links hold, and its verdicts agree with what was computed."""

import ast
import json
import operator
import re
from dataclasses import replace

import claims
import numpy as np
import pandas as pd
import pytest
import yaml
from bs4 import BeautifulSoup
from references import Book
from repository import ROOT
from scipy import stats
from support.tiny_book import TinyBook
from verified import line_of

LEDGER = claims.load()
PAGE = (ROOT / "book" / "claims.md").read_text("utf-8")
PARTS = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))["parts"]
CHAPTERS = [entry["file"] for part in PARTS if part["caption"] != "Appendix" for entry in part["chapters"]]


def test_every_claim_has_its_own_id_and_stands_on_the_page():
    ids = [claim.id for claim in LEDGER]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in ids)
    sections = re.findall(r"## (.+)\n\n```\{claims\} (\S+)", PAGE)
    assert [(topic, title) for title, topic in sections] == list(claims.TOPICS.items())
    assert list(dict.fromkeys(claim.topic for claim in LEDGER)) == list(claims.TOPICS)
    assert all(claim.statement and claim.reading and claim.finding and claim.title for claim in LEDGER)


def test_every_verdict_is_explained_and_given():
    explained = re.findall(r"^\[(.+)\]\{\.verdict \.(.+)\}\n: ", PAGE, re.MULTILINE)
    kinds = ["claim-" + verdict.replace(" ", "-") for verdict in claims.VERDICTS]
    assert explained == list(zip(map(claims.words_of, claims.VERDICTS), kinds, strict=True))
    assert {claim.verdict for claim in LEDGER} == set(claims.VERDICTS)


@pytest.mark.parametrize("claim", LEDGER, ids=lambda claim: claim.id)
def test_evidence_exists(claim):
    for name in claim.tests:
        file, _, test = name.partition("::")
        assert line_of(ROOT / file, test), name
    for file in claim.results:
        assert (ROOT / file).is_file(), file
        assert file.startswith("book/results/")


def test_every_chapter_is_evidence_for_a_claim():
    labels = Book(ROOT / "book").labels
    places = {label for claim in LEDGER for label in claim.chapters}
    cited = {labels[place].page if place in labels else f"{place.partition('#')[0]}.md" for place in places}
    assert [chapter for chapter in CHAPTERS if f"{chapter.removeprefix('book/')}.md" not in cited] == []


def test_a_notebook_names_a_claim_and_links_to_the_page():
    name = Book(ROOT / "book").refer("claim-theorem-2", "filter_rate.md")
    assert name.startswith("[“Theorem 2: the filter rate bounds one step”](")
    assert name.endswith("/book/claims.md)")


@pytest.mark.parametrize("claim", [claim for claim in LEDGER if claim.checks], ids=lambda claim: claim.id)
def test_a_verdict_agrees_with_what_the_chapters_computed(claim, site):
    for check in claim.checks:
        name, sign, number = check.split()
        chapter, _, value = name.partition(".")
        file = site.parent / "jupyter_execute" / "book" / f"{chapter}.glue.json"
        computed = ast.literal_eval(json.loads(file.read_text("utf-8"))[value]["data"]["text/plain"])
        assert {"<": operator.lt, ">": operator.gt}[sign](computed, float(number)), f"{check}: it is {computed}"


def test_the_page_gives_every_claim_a_line_and_every_condition_a_sentence(site):
    soup = BeautifulSoup((site / "book" / "claims.html").read_text("utf-8"), "html.parser")
    lines = [
        (item.select_one(".verdict")["class"][-1], item.a["href"].removeprefix("#claim-"))
        for item in soup.select(".ledger li")
    ]
    grouped = [claim for verdicts in claims.ANSWERS.values() for claim in LEDGER if claim.verdict in verdicts]
    assert lines == [(claim.kind, claim.id) for claim in grouped]
    assert len(grouped) == len(LEDGER)
    for claim in LEDGER:
        said = soup.select_one(f"#{claim.label} dd").get_text(" ", strip=True)
        first = f"holds {claim.condition.partition(' ')[0]}" if claim.condition else claims.words_of(claim.verdict)
        assert said.startswith(first)


def test_a_temperature_widens_the_gap_of_filter_rates_in_mpnet():
    """Ratio of the rates at 256 and at 16 tokens, geometric means over heads, paired over the texts."""
    table = pd.read_csv(ROOT / "book" / "results" / "spectrum-mpnet.csv", comment="#")
    logs = np.log(table.filter_rate).groupby([table.text, table.temperature, table.tokens]).mean().unstack([1, 2])
    gap = {temperature: logs[temperature][256] - logs[temperature][16] for temperature in (1.0, 0.8)}
    wider = gap[0.8] - gap[1.0]
    assert gap[1.0].min() > 0
    assert wider.mean() - stats.t.ppf(0.975, len(wider) - 1) * stats.sem(wider) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"verdict": "true"}, "claim 'lemma-1': the verdict is 'true': it must be one of"),
        ({"tag": "3"}, "claim 'lemma-1': the tag is '3': it must be one of"),
        ({"source": ()}, "a claim of others names its source"),
        ({"tag": "M"}, "a claim of others names its source, one of ours"),
        ({"condition": "weak logits"}, "the condition continues 'holds', so it begins with if, for or only, not 'weak"),
        ({"chapters": ()}, "no chapter is named: a verdict needs evidence"),
        ({"condition": ""}, "a condition goes with 'holds under', and with it only"),
        ({"verdict": "verified numerically"}, "a condition goes with 'holds under', and with it only"),
        ({"verdict": "proved", "condition": "", "tests": ()}, "'proved' needs a theorem of the book and a test"),
        ({"verdict": "proved", "condition": "", "chapters": ("low_pass",)}, "'proved' needs a theorem of the book"),
        ({"verdict": "not supported here", "condition": "", "change_our_mind": ""}, "say what would change our mind"),
    ],
)
def test_a_claim_that_says_more_than_it_shows_is_refused(change, message):
    (lemma,) = [claim for claim in LEDGER if claim.id == "lemma-1"]
    with pytest.raises(ValueError, match=re.escape(message)):
        replace(lemma, **change)


CARD = """
[[claim]]
id = "toy"
topic = "length"
title = "A toy"
brief = "it is"
statement = "One is one."
source = ["{source}"]
tag = "2"
reading = "As it stands."
verdict = "{verdict}"
finding = "It is."
chapters = ["{label}", "index#{section}", "{figure}", "{page}"]
tests = ["{test}"]
results = ["{result}"]
"""
RIGHT = {
    "source": "zhou2025length",
    "verdict": "verified numerically",
    "label": "thm-toy",
    "section": "a-section",
    "figure": "fig-toy",
    "page": "index",
    "test": "tests/test_toy.py::test_true",
    "result": "book/results/toy.csv",
}
BOOK = """# A page

{ref}`claim-toy`

```{prf:theorem}
:label: thm-toy
One is one.
```

```{figure} _static/logo.svg
:name: fig-toy
A figure.
```

## A section

```{claims-summary}
```

```{claims} length
```

```{bibliography}
```
"""


def toy_book(folder, topic="length", **wrong):
    book = TinyBook(folder)
    book.write("book/index.md", BOOK.replace("{claims} length", f"{{claims}} {topic}"))
    book.write("book/claims.toml", CARD.format(**RIGHT | wrong))
    book.write("book/results/toy.csv", "a\n1\n")
    return book


def test_a_card_links_to_its_evidence(tmp_path):
    book = toy_book(tmp_path)
    result = book.build()
    assert result.returncode == 0, result.stdout + result.stderr
    html = (tmp_path / "_build" / "html" / "book" / "index.html").read_text("utf-8")
    assert '<section class="claim claim-verified-numerically" id="claim-toy">' in html
    assert html.count('href="#claim-toy"') >= 3  # the reference, the list of all claims, the page's contents
    assert '<span class="verdict claim-verified-numerically">measured</span>' in html
    for link in ('href="#thm-toy"', 'href="#a-section"', 'href="#fig-toy"', "test_toy.py#L1", "book/results/toy.csv"):
        assert link in html, link


def test_every_broken_link_fails_the_build(tmp_path):
    missing = {name: value.replace("toy", "no").replace("index", "no") for name, value in RIGHT.items()}
    missing |= {"source": "nobody2025", "section": "no-section", "verdict": "verified numerically"}
    result = toy_book(tmp_path, **missing).build()
    assert result.returncode != 0
    for warning in [
        "label 'thm-no' not found",
        "no-section",
        "fig-no",
        "unknown document: 'no'",
        "no test 'tests/test_no.py::test_true'",
        "no file 'book/results/no.csv'",
        'could not find bibtex key "nobody2025"',
    ]:
        assert warning in result.stderr, warning


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"verdict": "true"}, "claim 'toy': the verdict is 'true'"),
        ({"topic": "remedy"}, "no claim has the topic 'remedy'"),
    ],
)
def test_a_wrong_ledger_fails_the_build(tmp_path, wrong, message):
    result = toy_book(tmp_path, **wrong).build()
    assert result.returncode != 0
    assert message in result.stderr
