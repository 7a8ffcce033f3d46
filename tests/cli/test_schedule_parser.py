"""Temperatures written on a command line: what a label says is read back; everything else is refused in one sentence."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tempscale import LengthRule, LogLength, PerLayer, RateMatched
from tempscale.cli.schedule_parser import read_temperatures
from tempscale.patching.schedules import temperature_label

NUMBER = st.floats(0.05, 20)
BY_LENGTH = st.one_of(
    st.builds(LogLength, st.integers(2, 10**4), NUMBER, st.floats(0, 3)),
    st.builds(LengthRule, st.integers(1, 10**4), st.floats(0.1, 5), st.floats(0.5, 2)),
)
EACH = st.one_of(NUMBER, BY_LENGTH)
PER_LAYER = st.one_of(
    st.builds(PerLayer, st.lists(EACH, min_size=1, max_size=6)),
    st.builds(PerLayer, st.dictionaries(st.integers(-12, 11), EACH, max_size=4)),
)


@given(st.lists(st.one_of(EACH, PER_LAYER), min_size=1, max_size=4, unique_by=temperature_label))
def test_what_labels_say_is_read_back(temperatures):
    assert read_temperatures(",".join(map(temperature_label, temperatures))) == temperatures


def test_python_spellings():
    text = " 1, 8e-1,LogLength(64, exponent=0.5),PerLayer( {-1: LogLength(8), 0: 2} ),PerLayer([1, 0.5]) "
    assert read_temperatures(text) == [
        1.0,
        0.8,
        LogLength(64, exponent=0.5),
        PerLayer({-1: LogLength(8), 0: 2}),
        PerLayer([1, 0.5]),
    ]
    assert read_temperatures("1,1.0,LogLength(8),LogLength(8, 1.0)") == [1.0, LogLength(8)]


def test_files_of_rate_matched(tmp_path, monkeypatch):
    schedule = RateMatched(64, [128], [[1.2], [1.1]])
    monkeypatch.chdir(tmp_path)
    schedule.save("a.json")
    assert read_temperatures("1.0,RateMatched(a.json)") == [1.0, schedule]
    assert read_temperatures("a.json,RateMatched('a.json')") == [schedule]
    with pytest.raises(FileNotFoundError, match=r"cannot read b\.json: no such file or directory"):
        read_temperatures("1.0,b.json")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1,,2",
        "cold",
        "1;2",
        "True",
        "10**3",
        "[1]",
        "-LogLength(64)",
        "LogLength(64",
        "LogLength()",
        "LogLength(True)",
        "LogLength('64')",
        "LogLength(64, slope=1)",
        "LogLength(*[64])",
        "LogLength(**{1: 2})",
        "PerLayer(0.8)",
        "PerLayer({0.5: 0.8})",
        "PerLayer({**{0: 1}})",
        "PerLayer({x: 0.8})",
        "__import__('os').system('true')",
        "(lambda: 1)()",
        "(" * 500,
    ],
)
def test_everything_else_is_refused(text):
    first = re.escape(repr("" if text == "1,,2" else text))
    with pytest.raises(
        ValueError, match=f"^{first} is no temperature; expected numbers or schedules, such as LogLength"
    ):
        read_temperatures(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1" * 400, "temperature must be a finite positive number, not 1"),
        ("1,0", "temperature must be a finite positive number, not 0"),
        ("1e999", "temperature must be a finite positive number, not inf"),
        ("LogLength(1)", "reference_length must be at least 2 tokens, not 1"),
        ("LogLength(64, exponent=900)", "gives 5.22636e-05 for 67 tokens: temperatures must be from 0.001 to 1000"),
        ("PerLayer([PerLayer([1])])", r"finite positive number, not PerLayer\(temperatures=\[1\]\)"),
    ],
)
def test_impossible_temperatures_say_what_is_wrong(text, message):
    with pytest.raises(ValueError, match=message):
        read_temperatures(text)
