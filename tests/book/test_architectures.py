"""The page of architectures: its table, what it says about folding, and its measurements."""

import math

import pandas as pd
import pytest
import transformers
from repository import ROOT
from support.agreement import FAMILIES, RESULTS, foldable, members, newest, summary
from support.architectures import ARCHITECTURES, architecture

TABLES = sorted(RESULTS.glob("agreement-*.csv"))
# whose biases by position are computed, or whose queries are made by no module
NOT_WEIGHTS = {"Bloom", "MPT", "XLNet"}
# a table of biases, a soft cap, or the layer itself, in one copy for all layers
SHARED = {"MPNet", "T5", "mT5", "LongT5, local", "LongT5, global", "Gemma 2", "ALBERT"}


@pytest.mark.parametrize("file", TABLES, ids=lambda file: file.stem)
def test_the_tables_say_what_weights_can_hold(file):
    held = pd.read_csv(file).groupby("architecture").fold.unique()
    assert all(len(values) == 1 for values in held)
    assert set(held[held.str[0] == "no"].index) == NOT_WEIGHTS
    assert set(held[held.str[0] == "one for all"].index) == SHARED
    assert set(held.str[0]) == {"no", "one for all", "by layer"}


# One for each answer, and UMT5, whose layers have tables of their own.
@pytest.mark.parametrize("name", ["BERT", "ALBERT", "MPNet", "T5", "UMT5", "Gemma 2", "Gemma 3", "Bloom"])
def test_what_a_table_says_about_folding_is_so(name):
    table = pd.read_csv(RESULTS / f"agreement-{transformers.__version__}.csv").set_index("architecture")
    assert {foldable(architecture(name))} == set(table.fold[[name]])


def test_every_architecture_belongs_to_one_family():
    names = [name for family in FAMILIES for name in members(family)]
    assert sorted(names) == sorted(row.name for row in ARCHITECTURES)


def test_the_summary_is_that_of_the_newest_table():
    found = pd.read_csv(RESULTS / "agreement.csv")
    pd.testing.assert_frame_equal(found, summary(newest()), check_exact=False, rtol=1e-6)
    # the families whose weights can hold a temperature
    assert (found.fold != "no").sum() == 10


def test_the_page_names_every_family_and_what_it_can_hold():
    page = (ROOT / "book" / "architectures.md").read_text("utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("|")]
    found = summary(newest())
    assert [(row[3], row[2]) for row in rows if len(row) == 4][2:] == [
        *found[["architectures", "fold"]].itertuples(index=False, name=None)
    ]
    assert [names for names, *_ in (row for row in rows if len(row) == 2)][2:] == found.architectures.tolist()
    assert [row[1] for row in rows if len(row) == 4][2:] == found.error.map(rounded_up).tolist()
    n, kept = len(ARCHITECTURES), len(ARCHITECTURES) - len(NOT_WEIGHTS)
    assert f"**{n} architectures were tested, as small models with random weights: all {n} take" in page
    assert f"and {kept} of them can hold one in their weights.**" in page


def rounded_up(error):
    """An error as the page writes it, with one digit that is not below it."""
    exponent = math.floor(math.log10(error))
    digit = math.ceil(error / 10**exponent)
    if digit == 10:
        digit, exponent = 1, exponent + 1
    raised = str(-exponent).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{digit} · 10⁻{raised}".replace(" ", "\N{NO-BREAK SPACE}")


@pytest.mark.parametrize("file", TABLES, ids=lambda file: file.stem)
def test_errors_are_those_of_rounding(file):
    """Float32 has 24 bits, and sums over channels, tokens and three layers lose some of them."""
    table = pd.read_csv(file)
    assert table.error.max() < 3e-5
    assert 5e-7 < table.error.median() < 1.5e-6
    assert table.effect.min() > 0.09
