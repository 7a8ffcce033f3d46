"""Remedies in one line: what a label says is read back, and everything else is refused in one sentence."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tempscale import (
    AllButTheTop,
    Centring,
    LengthRule,
    LogLength,
    PerLayer,
    Pieces,
    Projection,
    Remedy,
    Whitening,
    read_remedy,
)
from tempscale.embeddings.remedies import as_remedy, read_remedies

TEMPERATURES = st.one_of(
    st.floats(0.05, 20),
    st.builds(LogLength, st.integers(2, 10**4), st.floats(0.5, 2), st.floats(0, 3)),
    st.builds(LengthRule, st.integers(1, 10**4), st.floats(0.1, 5), st.floats(0.5, 2)),
    st.builds(PerLayer, st.dictionaries(st.integers(-12, 11), st.floats(0.05, 20), max_size=4)),
)
PIECES = st.integers(8, 512).flatmap(
    lambda tokens: st.builds(
        Pieces,
        st.just(tokens),
        st.integers(0, tokens // 2),
        st.sampled_from(["mean", "max", "mean+max"]),
        st.booleans(),
    )
)
VECTORS = st.one_of(
    st.builds(Centring),
    st.builds(Projection),
    st.builds(AllButTheTop, st.none() | st.integers(0, 9)),
    st.builds(Whitening, st.none() | st.integers(1, 99)),
)
REMEDIES = st.builds(
    Remedy,
    TEMPERATURES | st.just(1.0),
    st.none() | st.sampled_from(["last:3", "first:1", "0,2,-1", "all"]) | st.lists(st.integers(-6, 5), min_size=1),
    st.sampled_from(["both", "query", "document"]),
    st.none() | PIECES,
    st.none() | VECTORS,
)


@given(REMEDIES)
def test_what_labels_say_is_read_back(remedy):
    again = read_remedy(str(remedy))
    assert again == remedy
    assert hash(again) == hash(remedy)
    assert (again.labels(), again.pieces, str(again.vectors)) == (remedy.labels(), remedy.pieces, str(remedy.vectors))


@given(st.lists(REMEDIES, min_size=1, max_size=4, unique_by=str))
def test_lists_are_read_back(remedies):
    assert read_remedies(" , ".join(map(str, remedies))) == remedies


def test_steps_have_one_order_however_they_are_written():
    text = "project + temperature( 0.9 ,layers = 'last:3') +pieces( 64 , overlap=8)"
    assert str(read_remedy(text)) == "temperature(0.9, layers=last:3)+pieces(64, overlap=8)+project"
    assert read_remedy("temperature(1)+pieces(64)") == read_remedy("pieces(64)")
    assert as_remedy("none") == as_remedy(Remedy()) == Remedy(1, layers="last:3", side="query")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"'' is no remedy: expected such as none, pieces(128), project"),
        ("heal", r"'heal' is no remedy: expected such as none"),
        ("none+project", r"'none' is no remedy"),
        ("project+", r"'' is no remedy"),
        ("pieces", r"'pieces' cannot be read: expected such as pieces(128, overlap=16, pool=max, late=True)"),
        ("pieces(", r"'pieces(' cannot be read"),
        ("pieces(128, 16, 8, 4, 2)", r"'pieces(128, 16, 8, 4, 2)' cannot be read"),
        ("pieces(64, overlap=2, overlap=3)", r"cannot be read"),
        ("pieces(64, size=3)", r"cannot be read"),
        ("pieces(7)", r"'pieces(7)': pieces must have at least 8 tokens, not 7; leave them out to read texts whole"),
        ("pieces(x)", r"'pieces(x)': 'x' is no whole number"),
        ("pieces(64, overlap=33)", r"the overlap of pieces of 64 tokens must be 0 to 32, not 33"),
        ("pieces(64, pool=median)", r"unknown pool 'median' of pieces: expected one of mean, max, mean+max"),
        ("pieces(64, late=yes)", r"late of pieces must be True or False, not 'yes'"),
        ("project(3)", r"'project(3)' cannot be read: expected such as project"),
        ("whiten(0)", r"'whiten(0)': expected at least 1 dimension, not 0"),
        ("all_but_the_top(-1)", r"expected at least 0 directions, not -1"),
        ("temperature()", r"cannot be read: expected such as temperature(0.9, layers=last:3, side=document)"),
        ("temperature(0)", r"temperature must be a finite positive number, not 0"),
        ("temperature(cold)", r"'cold' is no temperature"),
        ("temperature(0.9, layers=top)", r"cannot read layers 'top'"),
        ("temperature(0.9, side=left)", r"unknown side 'left': expected one of both, document, query"),
        ("project+centre", r"'project+centre' has two steps of a kind: expected one temperature, one of pieces"),
        ("temperature(0.9)+temperature(0.8)", r"has two steps of a kind"),
    ],
)
def test_everything_else_is_refused(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        read_remedy(text)


@pytest.mark.parametrize("values", [{"tokens": 12.5}, {"tokens": True}, {"tokens": 16, "overlap": "2"}])
def test_pieces_are_whole_numbers(values):
    with pytest.raises(ValueError, match=r"of pieces must be a whole number, not (12\.5|True|'2')"):
        Pieces(**values)
