"""What `tempscale compare` shows of a comparison, against tables written by hand."""

import numpy as np
import pandas as pd
import pytest

from tempscale.comparison.compare import COLUMNS
from tempscale.comparison.matrix import (
    Style,
    by_model,
    caption,
    conclusion,
    held_out,
    in_points,
    long_table,
    matrices,
)

NAN = float("nan")
USUAL = dict.fromkeys(COLUMNS, NAN) | {
    "scope": "task",
    "model": "minilm",
    "max_seq_length": 256,
    "dtype": "float32",
    "split": "test",
    "subset": "default",
    "temperature": "0.9",
    "layers": "all",
    "apply_to": "both",
    "remedy": "",
    "tokens": "",
    "items": 60,
    "model_hash": "m",
    "against": "minilm",
    "data_hash": "d",
    "interval": "items",
    "family": "the 2 tasks of this setting",
}


def comparison(*rows):
    """Return a comparison of rows (task, temperature, baseline, difference, and what is not usual)."""
    names = ("task", "temperature", "baseline", "difference")
    records = [USUAL | dict(zip(names, row, strict=False)) | dict(*row[4:]) for row in rows]
    return in_points(pd.DataFrame(records, columns=COLUMNS))


def sure(low, high, p_holm=1.0, p_holm_all=1.0, **more):
    return {"low": low, "high": high, "p_holm": p_holm, "p_holm_all": p_holm_all, **more}


def mean(low, high, p_holm=1.0, tasks=2, p_holm_all=1.0, **more):
    about = {"scope": "overall", "tasks": tasks, "split": "", "subset": "", "family": "the 2 settings"}
    return sure(low, high, p_holm, p_holm_all, **about, **more)


def cells(table, style=Style.interval):
    return [[cell if isinstance(cell, str) else cell.text(style) for cell in row] for row in table]


SMALL = comparison(
    ("STS16", "0.9", 0.78991, 0.0041, sure(0.001, 0.0072, 0.03, 0.06)),
    ("STS16", "0.8", 0.78991, -0.1032, sure(-0.15, -0.0612, 0.001, 0.004)),
    ("SciFact", "0.9", 0.654, 0.0, sure(-0.002, 0.0022)),
    ("SciFact", "0.8", 0.654, -0.00731, sure(-0.0191, 0.0043, 0.31)),
    ("", "0.9", 0.721955, 0.0021, mean(-0.0001, 0.0041)),
    ("", "0.8", 0.721955, -0.055255, mean(-0.0801, -0.03, 0.04)),
)


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        (
            Style.interval,
            [
                ["", "baseline", "0.9", "0.8"],
                ["STS16", "78.99", "+0.41*  [+0.10, +0.72]", "-10.32** [-15.00, -6.12]"],
                ["SciFact", "65.40", "+0.00   [-0.20, +0.22]", "-0.73   [-1.91, +0.43]"],
                ["mean of 2 tasks", "72.20", "+0.21   [-0.01, +0.41]", "-5.53*  [-8.01, -3.00]"],
            ],
        ),
        (
            Style.half_width,
            [
                ["", "baseline", "0.9", "0.8"],
                ["STS16", "78.99", "+0.41*  ±0.31", "-10.32** ±4.44"],
                ["SciFact", "65.40", "+0.00   ±0.21", "-0.73   ±1.17"],
                ["mean of 2 tasks", "72.20", "+0.21        \n[-0.01, +0.41]", "-5.53*       \n[-8.01, -3.00]"],
            ],
        ),
        (
            Style.bare,
            [
                ["", "baseline", "0.9", "0.8"],
                ["STS16", "78.99", "+0.41* ", "-10.32**"],
                ["SciFact", "65.40", "+0.00  ", "-0.73  "],
                ["mean of 2 tasks", "72.20", "+0.21  \n[-0.01,\n+0.41]", "-5.53* \n[-8.01,\n-3.00]"],
            ],
        ),
    ],
)
def test_tasks_by_settings_in_points(style, expected):
    ((title, table),) = matrices(SMALL)
    assert (title, cells(table, style)) == ("", expected)


def test_what_was_not_measured_or_is_not_defined():
    frame = comparison(
        ("A", "0.8", 0.5, 0.01, sure(0.0, 0.02)),
        ("A", "LogLength(128)", 0.5, 0.02, {}),  # without scores of items
        ("B", "1.2", 0.25, NAN, {}),
        ("B", "0.8", 0.25, 0.03, sure(0.01, 0.05)),
        ("C", "1.2", NAN, NAN, {"split": "dev", "subset": "en"}),
        ("", "0.8", 0.375, 0.02, mean(0.01, 0.03)),
        ("", "1.2", 0.5, 0.01, mean(0.0, 0.02, tasks=1)),  # says what its task says
    )
    ((_, table),) = matrices(frame)
    assert cells(table) == [
        ["", "baseline", "1.2", "0.8", "LogLength(128)"],
        ["A", "50.00", "–", "+1.00 [+0.00, +2.00]", "+2.00"],
        ["B", "25.00", "NaN", "+3.00 [+1.00, +5.00]", "–"],
        ["C dev en", "NaN", "NaN", "–", "–"],
        ["mean of 2 tasks", "37.50", "–", "+2.00 [+1.00, +3.00]", "–"],
    ]


def test_means_over_other_tasks_have_rows_of_their_own():
    frame = comparison(
        ("A", "0.9", 0.5, 0.01, sure(0.0, 0.02)),
        ("", "0.9", 0.4, 0.01, mean(0.0, 0.02, tasks=3)),
        ("", "0.8", 0.3, 0.02, mean(0.0, 0.04, tasks=2)),
        ("", "0.7", 0.2, 0.03, mean(0.0, 0.06, tasks=2)),
    )
    ((_, (_, _, *means)),) = matrices(frame)
    assert [row[:2] for row in means] == [
        ["mean of 3 tasks", "40.00"],
        ["mean of 2 tasks", "30.00"],
        ["mean of 2 tasks", "20.00"],
    ]
    assert [[cell == "–" for cell in row[2:]] for row in means] == (~np.eye(3, dtype=bool)).tolist()


def test_a_matrix_for_each_of_several_baselines():
    last = {"layers": "last:3", "apply_to": "document"}
    frame = comparison(
        ("A", "1.0", 0.5, 0.01),
        ("A", "1.0", 0.52, -0.01, last),
        ("", "1.0", 0.4, 0.01, mean(0.0, 0.02)),
        ("", "1.0", 0.41, 0.02, mean(0.0, 0.04, **last)),
    )
    assert [(title, cells(table)) for title, table in matrices(frame)] == [
        (
            "all both",
            [["", "baseline", "1.0"], ["A", "50.00", "+1.00"], ["mean of 2 tasks", "40.00", "+1.00 [+0.00, +2.00]"]],
        ),
        (
            "last:3 document",
            [
                ["", "baseline", "1.0 last:3 document"],
                ["A", "52.00", "-1.00"],
                ["mean of 2 tasks", "41.00", "+2.00 [+0.00, +4.00]"],
            ],
        ),
    ]


def test_within_sources_where_they_are_known():
    known = {"within": -0.0022, "within_low": -0.0052, "within_high": 0.001, "sources": 5.0}
    frame = comparison(
        ("STS12", "0.8", 0.7237, 0.0041, sure(0.0019, 0.0064, 0.001, 0.002, **known)),
        ("SICK-R", "0.8", 0.7758, -0.002, sure(-0.003, -0.001)),
    )
    _, (title, table) = matrices(frame)
    assert title == "Within the sources of a benchmark"
    assert cells(table) == [
        ["", "baseline", "0.8"],
        ["STS12, pooled", "72.37", "+0.41** [+0.19, +0.64]"],
        ["STS12, within 5 sources", "", "-0.22   [-0.52, +0.10]"],
    ]


def test_states_of_data_and_models_are_told_apart():
    frame = comparison(
        ("A", "0.9", 0.5, 0.01, {"data_hash": "d0"}),
        ("A", "0.9", 0.6, 0.02, {"data_hash": "d1"}),
        ("A", "0.9", 0.6, 0.02, {"model_hash": "other", "against": "mpnet"}),
    )
    (first, rows), (second, _) = by_model(frame)
    assert first == "minilm (m), 256 tokens, float32"
    assert second == "minilm (other), 256 tokens, float32, against mpnet"
    ((_, table),) = matrices(rows)
    assert cells(table)[1:] == [["A (d0)", "50.00", "+1.00"], ["A (d1)", "60.00", "+2.00"]]


def test_only_parts_give_no_matrix():
    assert list(matrices(comparison(("A", "0.9", 0.5, 0.01, {"scope": "part"})))) == []


def test_rows_by_length_in_points():
    length = {"scope": "length", "tokens": "5-11"}
    frame = comparison(("A", "0.9", 0.5, 0.01, sure(-0.002, 0.02, 0.041, **length)), ("A", "0.8", 0.5, -0.01, length))
    assert long_table(frame)[1:] == [
        ("A", "5-11", "0.9", "60", "50.00", "+1.00", "[-0.20, +2.00]", "0.041*"),
        ("A", "5-11", "0.8", "60", "50.00", "-1.00", "", ""),
    ]


def test_held_out_is_a_sentence():
    assert list(held_out(SMALL)) == []
    frame = comparison(("", "", 0.5, 0.001, sure(-0.0005, 0.0025, scope="held-out overall")))
    assert list(held_out(frame)) == [
        "The setting best on the other tasks changes the score of the one left out by +0.10 [-0.05, +0.25] points, on "
        "average."
    ]


def test_caption_names_families_and_what_was_resampled():
    points = "Scores and differences from the baseline are in points, hundredths of the score."
    assert caption(comparison(("A", "0.9", 0.5, 0.01))) == points
    assert caption(SMALL) == (
        f"{points} 95 % intervals, in brackets or as ± half their width, resample items. * p at most 0.05 after Holm's "
        "correction over the 2 tasks of this setting (means: the 2 settings); ** also over the 4 differences on tasks "
        "(means: the 2 means)."
    )
    shared = sure(0, 0.1, interval="items that share texts", family="the only task of this setting")
    frame = comparison(("A", "0.9", 0.5, 0.01, sure(0, 0.1)), ("B", "0.8", 0.5, 0.01, shared))
    assert caption(frame) == (
        f"{points} 95 % intervals, in brackets or as ± half their width, resample items (A); items that share texts (B). * "
        "p at most 0.05 after Holm's correction over the 2 tasks of this setting, the only task of this setting; ** also "
        "over the 2 differences on tasks."
    )


REAL = sure(0, 0, 0.001, 0.01)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (
            [("A", "0.9", 0.5, 0.01)],
            "No difference has an interval: there are no tasks with scores of at least ten items.",
        ),
        (
            [("A", "0.9", 0.5, 0.01, sure(0, 0.1))],
            "No setting changes the score of a task by more than chance would.",
        ),
        (
            [("A", "0.9", 0.5, 0.01, sure(0, 0.1, 0.04, 0.08)), ("A", "0.8", 0.5, 0.01, sure(0, 0.1))],
            "No setting changes the score of a task by more than chance would, after the correction over the 2 differences "
            "on tasks (1 would, marked *, after that over a setting alone).",
        ),
        (
            [("A", "0.9", 0.5, 0.01, sure(0, 0.1)), ("", "0.9", 0.5, -0.0123, mean(-0.1, 0, 0.01, p_holm_all=0.02))],
            "No setting changes the score of a task by more than chance would; the mean over tasks changes at 0.9 -1.23.",
        ),
        (
            [("A", "0.9", 0.5, 0.01, REAL), ("B", "0.9", 0.5, 0.02, sure(0, 0.1))],
            "1 of 2 differences on tasks is more than chance after the correction over all of them (1 up, 0 down): 0.9 on A "
            "+1.00.",
        ),
        (
            [
                ("A", "0.9", 0.5, 0.01, REAL),
                ("B", "0.9", 0.5, -0.02, REAL | {"layers": "last:3"}),
                ("C", "0.9", 0.5, -0.015, REAL | {"model": "mpnet"}),
                ("", "0.9", 0.5, -0.0123, mean(-0.1, 0, 0.01, p_holm_all=0.02)),
            ],
            "3 of 3 differences on tasks are more than chance after the correction over all of them (1 up, 2 down): 0.9 "
            "last:3 both on B of minilm -2.00, 0.9 on C of mpnet -1.50, 0.9 on A of minilm +1.00; the mean over tasks "
            "changes at 0.9 of minilm -1.23.",
        ),
    ],
)
def test_one_sentence_at_the_end(rows, expected):
    assert conclusion(comparison(*rows)) == expected
