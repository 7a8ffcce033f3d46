"""read_texts: what it reads, against what wrote it, and what it says of files that it cannot read."""

import csv
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tempscale.texts import files as texts
from tempscale.texts.files import read_texts

# Any text that survives the stripping of blanks, without NUL (binary) and lone surrogates (not UTF-8).
TEXTS = st.lists(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1).filter(
        lambda text: text == text.strip() != ""
    ),
    min_size=1,
    max_size=5,
)


@given(TEXTS)
def test_csv_and_tsv_as_python_writes_them(tmp_path_factory, written):
    for suffix, delimiter in ((".csv", ","), (".tsv", "\t")):
        path = tmp_path_factory.mktemp("texts") / f"file{suffix}"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter=delimiter)
            writer.writerows([["id", "text"], *enumerate(written)])
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


def test_empty_values_are_left_out(tmp_path):
    path = tmp_path / "gaps.jsonl"
    path.write_text('{"a": "one"}\n{"a": null}\n{"b": "no"}\n\n{"a": " "}\n{"a": "two"}\n')
    assert read_texts(path, "a") == ["one", "two"]


def test_equal_texts_are_kept(tmp_path):
    path = tmp_path / "same.txt"
    path.write_text("a\na\n")
    assert read_texts(path) == ["a", "a"]


@pytest.mark.parametrize(
    ("name", "content", "column", "message"),
    [
        ("a.txt", b"", None, "a.txt holds no texts: expected at least 1"),
        ("a.txt", b" \n\n", None, "a.txt holds no texts: expected at least 1"),
        ("a.csv", b"", None, "a.csv is empty: expected texts"),
        ("a.csv", b"text\n", None, "a.csv holds no texts"),
        ("a.csv", b"a,b\n1,\n", "b", "column 'b' of .*a.csv holds no texts: expected at least 1"),
        ("a.jsonl", b"", "text", "a.jsonl is empty: expected texts"),
        ("a.jsonl", b"{}\n", "text", "a.jsonl is empty: expected texts"),
        ("a.txt", b"text\0text", None, "a.txt is a binary file: expected text in UTF-8"),
        ("a.txt", "text".encode("utf-16"), None, "a.txt is encoded in UTF-16: save it as UTF-8"),
        ("a.txt", b"one\ncaf\xe9\n", None, "a.txt is not UTF-8: byte 0xe9 in line 2; save it as UTF-8"),
        (
            "a.pdf",
            b"%PDF",
            None,
            r"cannot tell how to read .*a.pdf: expected a file that ends in .txt, .csv, .tsv, .jsonl",
        ),
        ("a.json", b"[]", None, "cannot tell how to read"),
        (
            "a.txt",
            b"text",
            "text",
            "a.txt is plain text, one text a line, and has no column 'text': leave the column out",
        ),
        ("a.csv", b"id,body\n1,x\n", "text", "a.csv has no column 'text': its columns are id, body"),
        ("a.csv", b"id,body\n1,x\n", None, "a.csv has several columns: name the one that holds the texts, of id, body"),
        ("a.csv", b"a,a,b\n1,x,y\n", "a", "a.csv has two columns 'a'"),
        (
            "a.csv",
            b"a,b\n1,x\n2,x, y\n",
            "b",
            "ends in line 3 of .*a.csv has 3 fields, its header 2: put a text with commas",
        ),
        ("a.tsv", b"a\tb\n1\n", "b", "has 1 fields, its header 2: put a text with tabs"),
        ("a.csv", b'a,b\n1,"x\n', "b", "a.csv is malformed near line 2: unexpected end of data"),
        ("a.jsonl", b'{"a": "b"}\n{"a"\n', "a", "line 2 of .*a.jsonl is not JSON: Expecting ':' delimiter"),
        ("a.jsonl", b"[" * 100_000, "a", "line 1 of .*a.jsonl is not JSON"),
        ("a.jsonl", b'"text"\n', None, "line 1 of .*a.jsonl is no JSON object: expected one such as"),
        ("a.jsonl", b'{"a": 1}\n', "a", "'a' in line 1 of .*a.jsonl is 1: expected a text in quotes"),
        ("a.jsonl", b'{"a": "x", "b": "y"}\n', "c", "a.jsonl has no column 'c': its columns are a, b"),
    ],
)
def test_refusals(tmp_path, name, content, column, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_texts(tmp_path / name, column)


def test_too_few(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    with pytest.raises(ValueError, match=r"a.txt holds 2 texts: expected at least 20"):
        read_texts(tmp_path / "a.txt", at_least=20)


def test_many_columns_are_not_all_listed(tmp_path):
    (tmp_path / "wide.csv").write_text(",".join(f"c{i}" for i in range(5000)) + "\n")
    with pytest.raises(ValueError, match=r"c18, c19, \.\.\.$"):
        read_texts(tmp_path / "wide.csv", "text")


def test_an_enormous_file_is_not_read_whole(tmp_path, monkeypatch):
    path = tmp_path / "huge.txt"
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
