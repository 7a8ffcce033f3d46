"""read_texts: what it reads, against what wrote it, and what it says of files that it cannot read, or had to guess at."""

import csv
import gzip
import importlib.util
import io
import json
import os
import sys
import warnings

import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tempscale.texts import files as texts
from tempscale.texts.files import read_table, read_texts

PYARROW = importlib.util.find_spec("pyarrow") is not None  # not in the oldest environment

# Any text that survives the stripping of blanks, without NUL (binary) and lone surrogates (not UTF-8).
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1).filter(
    lambda text: text == text.strip() != ""
)
TEXTS = st.lists(TEXT, min_size=1, max_size=5)
# What is no ASCII here is other than UTF-8 in Windows-1252, whichever of these follow each other.
WESTERN = st.lists(
    st.text("ab ;,|\t'\"\n\r/{}[]äöüéß€–", min_size=1, max_size=30).filter(lambda text: text == text.strip() != ""),
    min_size=1,
    max_size=5,
)


def quiet(call, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return call(*arguments, **options)


def as_csv(written, delimiter, quoting):
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, quoting=quoting).writerows([["id", "text"], *enumerate(written)])
    return file.getvalue()


def as_json(written, array, nested):
    rows = [{"id": n, "a": {"b.c": text}} if nested else {"id": n, "text": text} for n, text in enumerate(written)]
    return json.dumps(rows) if array else "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def begins_like_utf_8(content):
    """Whether the first bytes beyond ASCII are a character in UTF-8, too, as those of "ß–" are: nobody could tell."""
    try:
        return not content.decode("utf-8").isascii()
    except UnicodeDecodeError as error:
        return not content[: error.start].isascii()


@settings(max_examples=300)
@given(
    WESTERN,
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"]),
    st.sampled_from(["csv", "tsv", "json", "jsonl", *["parquet"] * PYARROW]),
    st.booleans(),
    st.booleans(),
)
def test_the_texts_that_were_written_come_back(
    tmp_path_factory, written, delimiter, quoting, encoding, form, zipped, nested
):
    """Delimiter, quoting, encoding, format, compression and nesting in any combination."""
    path = tmp_path_factory.mktemp("texts") / f"file.{form}{'.gz' * zipped}"
    column = "a.b.c" if nested and "json" in form else "text"
    if form == "parquet":
        file = io.BytesIO()
        pd.DataFrame({"text": written, "n": 1}).to_parquet(file)
        content = file.getvalue()
    elif "json" in form:
        content = as_json(written, form == "json", nested).encode(encoding)
    else:
        content = as_csv(written, delimiter, quoting).encode(encoding)
    if encoding == "cp1252" and form != "parquet":
        assume(not begins_like_utf_8(content))
    path.write_bytes(gzip.compress(content) if zipped else content)
    assert quiet(read_texts, path, column) == written


@given(TEXTS)
def test_csv_and_tsv_as_python_writes_them(tmp_path_factory, written):
    for suffix, delimiter in ((".csv", ","), (".tsv", "\t")):
        path = tmp_path_factory.mktemp("texts") / f"file{suffix}"
        path.write_text(as_csv(written, delimiter, csv.QUOTE_MINIMAL), "utf-8", newline="")
        assert read_texts(path, "text") == written


@given(TEXTS, st.booleans())
def test_json_lines_as_python_writes_them(tmp_path_factory, written, ascii_only):
    path = tmp_path_factory.mktemp("texts") / "file.jsonl"
    lines = [json.dumps({"text": text}, ensure_ascii=ascii_only) for text in written]
    path.write_bytes("\n".join(lines).encode())
    assert read_texts(path) == read_texts(path, "text") == written


def test_plain_text_is_one_text_a_line(tmp_path):
    for name in ("file.txt", "FILE.TXT", "file"):
        path = tmp_path / name
        path.write_bytes("\ufeff first \r\n\r\nzweiter, größer\n   \nlast\u2028line".encode())
        assert read_texts(path) == ["first", "zweiter, größer", "last\u2028line"]


def test_windows_line_ends_and_byte_order_mark_in_a_table(tmp_path):
    path = tmp_path / "excel.csv"
    path.write_bytes(b'\xef\xbb\xbftext,n\r\n"one\r\ntwo",1\r\n\r\nthree,2\r\n')
    assert read_texts(path, "text") == ["one\r\ntwo", "three"]


def test_a_field_longer_than_the_csv_module_allows_by_default(tmp_path):
    path = tmp_path / "long.csv"
    before = csv.field_size_limit()
    path.write_text("text\n" + "word " * 100_000)
    assert len(read_texts(path)[0]) == 499_999
    assert csv.field_size_limit() == before


def test_arrays_of_texts_and_keys_inside_objects(tmp_path):
    (tmp_path / "a.json").write_text('["one", "two"]')
    assert read_texts(tmp_path / "a.json") == ["one", "two"]
    rows = [{"q": {"text": "one", "n": 1}}, {"q": None}, {"q": {"more": {"text": "two"}}}]
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert read_table(tmp_path / "b.jsonl").names == ["q.text", "q.n", "q.more.text"]
    with pytest.warns(UserWarning, match=r"b.jsonl: 2 of 3 rows have no text in 'q.more.text' and are left out"):
        assert read_texts(tmp_path / "b.jsonl", "q.more.text") == ["two"]


def test_equal_texts_are_kept(tmp_path):
    path = tmp_path / "same.txt"
    path.write_text("a\na\n")
    assert read_texts(path) == ["a", "a"]


def test_excel_names_its_delimiter(tmp_path):
    path = tmp_path / "excel.csv"
    path.write_bytes(b"sep=;\r\ntext;a, b\r\none, two;3\r\n")
    with pytest.warns(UserWarning, match="separated by semicolons"):
        assert read_texts(path, "text") == ["one, two"]


@pytest.mark.parametrize(
    ("content", "column", "expected"),
    [
        ("[" + '{"text": "one"}]', None, ["one"]),
        ('{"text": "one"}\n', None, ["one"]),
        ("n;text\n1;one\n", "text", ["one"]),
        ("one\n[two]\n", None, ["one", "[two]"]),
    ],
)
def test_stdin(content, column, expected, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    assert quiet(read_texts, "-", column) == expected


@pytest.mark.parametrize(
    ("name", "content", "column", "said"),
    [
        (
            "a.csv",
            "n;text\n1;caf\xe9\n".encode("cp1252"),
            "text",
            "read as Windows-1252, such as 'café'; separated by semi",
        ),
        ("a.tsv", b"n,text\n1,x\n", "text", "a.tsv: separated by commas"),
        ("a.txt", "one\ntwo\n".encode("utf-16"), None, "a.txt: read as UTF-16"),
        (
            "a.csv",
            b"Warm and bright.\nToo cold.\n",
            None,
            "its first line, 'Warm and bright.', is taken for the header; it looks",
        ),
        ("a.csv", b"Great\nBad\n", None, "its first line, 'Great', is taken for the header$"),
        ("a.csv", b"n,text\n1,x\n2,\n3, \n", "text", "2 of 3 rows have no text in 'text' and are left out"),
        ("a.jsonl", b'{"a": "x"}\n{"a": null}\n{"b": "y"}\n', "a", "2 of 3 rows have no text in 'a'"),
    ],
)
def test_what_is_guessed_or_left_out_is_said_once(tmp_path, name, content, column, said):
    (tmp_path / name).write_bytes(content)
    with pytest.warns(UserWarning, match=said) as caught:
        read_texts(tmp_path / name, column)
    assert len(caught) == 1


def test_what_is_as_expected_is_not_said(tmp_path):
    (tmp_path / "a.csv").write_text("text\nGröße\n\n", "utf-8")
    assert read_texts(tmp_path / "a.csv") == ["Größe"]  # a warning is an error in these tests


def test_a_named_encoding_is_taken(tmp_path):
    (tmp_path / "a.txt").write_bytes("привет\n".encode("cp1251"))
    assert read_texts(tmp_path / "a.txt", encoding="cp1251") == ["привет"]


@pytest.fixture
def parquet(tmp_path):
    pytest.importorskip("pyarrow")
    pd.DataFrame({"a": ["x"], "n": [1]}).to_parquet(tmp_path / "a.parquet")
    return tmp_path / "a.parquet"


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("b", "a.parquet has no column 'b': its columns are 'a', 'n'"),
        ("n", "'n' in row 1 of .*a.parquet is 1: expected a text$"),
    ],
)
def test_columns_of_parquet_that_are_no_texts(parquet, column, message):
    with pytest.raises(ValueError, match=message):
        read_texts(parquet, column)


@pytest.mark.parametrize("content", [b"PAR1", b"text"])
def test_what_is_no_parquet(parquet, content):
    parquet.write_bytes(content)
    with pytest.raises(ValueError, match=r"a.parquet is no Parquet file, or a damaged one: ") as refused:
        read_texts(parquet, "a")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content", "column", "message"),
    [
        ("a.txt", b"", None, "a.txt has no rows: expected at least 1 with a text"),
        ("a.txt", b" \n\n", None, "a.txt has no rows"),
        ("a.csv", b"", None, "a.csv has no rows: expected texts"),
        ("a.csv", b"text\n", None, "a.csv has no rows"),
        ("a.csv", b"a,b\n1,\n", "b", "column 'b' of .*a.csv holds no texts: expected at least 1"),
        ("a.jsonl", b"", "text", "a.jsonl has no rows"),
        ("a.jsonl", b"{}\n", "text", "a.jsonl has no rows"),
        ("a.json", b"[]", None, "a.json has no rows"),
        ("a.txt", b"text\0text", None, "a.txt is a binary file: expected text"),
        ("a.txt", "text".encode("utf-16-le"), None, "a.txt is a binary file.*name the encoding utf-16-le"),
        (
            "a.txt",
            "größer\n".encode() + b"caf\xe9\n",
            None,
            "a.txt is not UTF-8: byte 0xe9 in line 2; save it as UTF-8",
        ),
        ("a.txt", b"one\n\x81\n", None, r"neither UTF-8 \(byte 0x81 in line 2\) nor Windows-1252: name its encoding"),
        ("a.txt", b"\xff\xfet", None, "a.txt is not utf-16: byte 0x74 in line 1"),
        ("a.txt.gz", b"\x1f\x8b\x08cut", None, "a.txt.gz is a damaged gzip file"),
        (
            "a.pdf",
            b"%PDF",
            None,
            r"cannot tell how to read .*a.pdf: expected a file that ends in .txt, .csv, .tsv, .json",
        ),
        ("a.xlsx", b"PK", None, "spreadsheets can be saved as CSV"),
        (
            "a.txt",
            b"text",
            "text",
            "a.txt is plain text, one text a line, and has no column 'text': leave the column out",
        ),
        ("a.csv", b"id, body \n1,x\n", "text", "a.csv has no column 'text': its columns are 'id', 'body'$"),
        ("a.csv", b"id;body;n\n1;x;2\n", "text", "a.csv has no column 'text': its columns are 'id', 'body', 'n'$"),
        (
            "a.csv",
            b"1,It is fine.\n2,Bad.\n",
            "text",
            "has no column 'text': its columns are '1', 'It is fine.'; it looks like a text",
        ),
        (
            "a.csv",
            b"id,body\n1,x\n",
            None,
            "a.csv has several columns: name the one that holds the texts, of 'id', 'body'",
        ),
        ("a.csv", b"a,a,b\n1,x,y\n", "a", "a.csv has two columns 'a'"),
        (
            "a.csv",
            b"a,b\n1,x\n2,x, y\n",
            "b",
            "ends in line 3 of .*a.csv has 3 fields, its header 2: put a text with commas",
        ),
        (
            "a.csv",
            b"a;b\n1;x\n2;x; y\n",
            "b",
            "ends in line 3 of .*a.csv has 3 fields, its header 2: put a text with semi",
        ),
        ("a.tsv", b"a\tb\n1\n", "b", "has 1 fields, its header 2: put a text with tabs"),
        ("a.csv", b'a,b\n1,"x\n', "b", "a.csv is malformed near line 2: unexpected end of data"),
        ("a.csv", b'a,b\n1,"x"y\n', "b", "a.csv is malformed near line 2: ',' expected after"),
        ("a.jsonl", b'{"a": "b"}\n{"a"\n', "a", "line 2 of .*a.jsonl is not JSON: Expecting ':' delimiter"),
        (
            "a.json",
            b'{\n"a": "b"\n}\n',
            "a",
            "line 1 of .*a.json is not JSON.*expected an object .* a line, or an array of them",
        ),
        ("a.json", b'[{"a": "b"}', "a", "a.json is not JSON: Expecting ',' delimiter"),
        ("a.json", b"[[1]]", "a", "row 1 of .*a.json is no JSON object: expected one such as"),
        ("a.jsonl", b"[" * 100_000, "a", "a.jsonl is not JSON"),
        ("a.jsonl", b'"text"\n', None, "line 1 of .*a.jsonl is no JSON object: expected one such as"),
        ("a.jsonl", b'{"a": 1}\n', "a", "'a' in line 1 of .*a.jsonl is 1: expected a text in quotes"),
        ("a.jsonl", b'{"a": ["x"]}\n', "a", r"'a' in line 1 of .*a.jsonl is \['x'\]: expected a text in quotes"),
        (
            "a.jsonl",
            b'{"a": "x \\ud83d"}\n',
            "a",
            r"'a' in line 1 of .* has half of a character, \\ud83d, which no model reads",
        ),
        ("a.jsonl", b'{"a": "x", "b": "y"}\n', "c", "a.jsonl has no column 'c': its columns are 'a', 'b'"),
        (
            "a.jsonl",
            b'{"q": {"text": "x"}, "n": "y"}\n',
            "q",
            "a.jsonl has no column 'q': its columns are 'q.text', 'n'",
        ),
    ],
)
def test_refusals_are_one_sentence(tmp_path, name, content, column, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as refused:
        quiet(read_texts, tmp_path / name, column)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


def test_unknown_encodings(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    for encoding in ("latin-77", "hex"):
        with pytest.raises(ValueError, match=f"unknown encoding '{encoding}': expected one such as utf-8"):
            read_texts(tmp_path / "a.txt", encoding=encoding)
    (tmp_path / "b.txt").write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match=r"b.txt is not ascii: byte 0xe9 in line 1; save it as UTF-8, or name its"):
        read_texts(tmp_path / "b.txt", encoding="ascii")


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setattr(pd, "read_parquet", lambda *_: (_ for _ in ()).throw(ImportError("no engine")))
    with pytest.raises(ModuleNotFoundError, match=r"to read .*a.parquet install pyarrow, or save it as CSV"):
        read_texts(tmp_path / "a.parquet", "a")


def test_too_few(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    with pytest.raises(ValueError, match=r"a.txt holds 2 texts: expected at least 20"):
        read_texts(tmp_path / "a.txt", at_least=20)
    (tmp_path / "b.txt").write_text("One. Two. Three.")
    with pytest.raises(ValueError, match=r"b.txt was read as one text: put one text on a line, at least 2"):
        read_texts(tmp_path / "b.txt", at_least=2)


def test_many_columns_are_not_all_listed(tmp_path):
    (tmp_path / "wide.csv").write_text(",".join(f"c{i}" for i in range(5000)) + "\n")
    with pytest.raises(ValueError, match=r"'c18', 'c19', \.\.\.$"):
        read_texts(tmp_path / "wide.csv", "text")


@pytest.mark.parametrize("zipped", [False, True])
def test_an_enormous_file_is_not_read_whole(tmp_path, monkeypatch, zipped):
    path = tmp_path / "huge.txt"
    if zipped:
        path.write_bytes(gzip.compress(bytes(10**7)))
    else:
        with path.open("wb") as file:
            file.truncate(10**12)  # sparse: no space on disk
    monkeypatch.setattr(texts, "MAX_BYTES", 10**6)
    with pytest.raises(ValueError, match=r"huge.txt is larger than 1 MB: take a sample of its texts"):
        read_texts(path)


def test_what_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"cannot read .*none.txt: no such file or directory"):
        read_texts(tmp_path / "none.txt")
    with pytest.raises(IsADirectoryError, match="is a folder: name a file of texts"):
        read_texts(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read every file")
def test_no_permission(tmp_path):
    path = tmp_path / "secret.txt"
    path.write_text("text")
    path.chmod(0)
    with pytest.raises(PermissionError, match=r"cannot read .*secret.txt: permission denied"):
        read_texts(path)
