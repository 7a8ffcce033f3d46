"""Texts of one's own, from a file: plain text, CSV, TSV or JSON lines."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

# Read whole, into memory; enough for a hundred thousand pages.
MAX_BYTES = 200 * 10**6

# How many column names a message lists.
_LISTED = 20


def read_texts(path: str | Path, column: str | None = None, *, at_least: int = 1) -> list[str]:
    """Return the texts in a file, in its order, without blanks around them.

    Args:
        path: a file in UTF-8 of at most 200 MB. Its suffix says how it is read:
            .txt or none: one text a line;
            .csv, .tsv: one text a row, below a header; quoted fields may span lines;
            .jsonl, .ndjson: one text a line, in a JSON object.
        column: name of the texts' column (CSV, TSV) or key (JSON lines); may be left out if there is only one.
        at_least: smallest number of texts that will do.

    Returns:
        The texts, equal ones included. Empty ones, JSON nulls and objects without the key are left out.

    Raises:
        OSError: no such file, a folder, or no permission.
        ValueError: another suffix, too large, binary, not UTF-8, malformed, an unknown or missing column, values that are
            not text, or fewer than `at_least` texts.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "reviews.csv"
    >>> _ = file.write_text('stars,review\\n5,"Warm, bright.\\nI stay."\\n1,Too cold.\\n')
    >>> read_texts(file, "review")
    ['Warm, bright.\\nI stay.', 'Too cold.']
    """
    texts = [text for text in read_columns(path, [column])[0] if text]
    if len(texts) < at_least:
        where = str(path) if column is None else f"column {column!r} of {path}"
        raise ValueError(f"{where} holds {len(texts) or 'no'} texts: expected at least {at_least}")
    return texts


def read_columns(path: str | Path, columns: Sequence[str | None]) -> list[list[str]]:
    """Return the texts in several columns of a file, row by row, without blanks around them; empty ones stay.

    Args:
        path: file, as for `read_texts`.
        columns: names of columns or keys, None for the only one.

    Raises:
        OSError, ValueError: as `read_texts` does.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        known = ", ".join(filter(None, _READERS))
        raise ValueError(f"cannot tell how to read {path}: expected a file that ends in {known}")
    content = _decoded(path)
    return [[text.strip() for text in _READERS[suffix](path, content, column)] for column in columns]


def _decoded(path: Path) -> str:
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file of texts")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)  # also bounds what a pipe delivers
    except OSError as error:
        raise type(error)(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    if len(content) > MAX_BYTES:
        raise ValueError(f"{path} is larger than {MAX_BYTES / 1e6:g} MB: take a sample of its texts")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{path} is encoded in UTF-16: save it as UTF-8")
    if b"\0" in content:
        raise ValueError(f"{path} is a binary file: expected text in UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path} is not UTF-8: byte 0x{content[error.start]:02x} in line {line}; save it as UTF-8"
        ) from error


def _lines(content: str) -> list[str]:
    # str.splitlines would also split at separators that may stand inside a text or a JSON string.
    return content.replace("\r\n", "\n").split("\n")


def _from_text(path: Path, content: str, column: str | None) -> Iterator[str]:
    if column is not None:
        raise ValueError(f"{path} is plain text, one text a line, and has no column {column!r}: leave the column out")
    yield from _lines(content)


def _from_json_lines(path: Path, content: str, column: str | None) -> Iterator[str]:
    rows: list[tuple[int, dict[str, Any]]] = []
    for number, line in enumerate(_lines(content), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"line {number} of {path} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number} of {path} is no JSON object: expected one such as {{'text': ...}}")
        rows.append((number, row))
    key = _chosen(path, column, list(dict.fromkeys(key for _, row in rows for key in row)))
    for number, row in rows:
        value = row.get(key)
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{key!r} in line {number} of {path} is {value!r:.40}: expected a text in quotes")
        yield value or ""


def _from_table(path: Path, content: str, column: str | None, *, delimiter: str) -> Iterator[str]:
    # Not pandas: it fills short rows up, and its fast engine reads on after malformed quotes.
    limit = csv.field_size_limit(MAX_BYTES)  # the default, 131072, is less than a long text
    rows = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    try:
        header = next(rows, [])
        index = header.index(_chosen(path, column, header))
        for row in filter(None, rows):
            if len(row) != len(header):
                raise ValueError(
                    f"the row that ends in line {rows.line_num} of {path} has {len(row)} fields, its header "
                    f"{len(header)}: put a text with {'commas' if delimiter == ',' else 'tabs'} or line breaks in quotes"
                )
            yield row[index]
    except csv.Error as error:
        raise ValueError(f"{path} is malformed near line {rows.line_num}: {error}") from error
    finally:
        csv.field_size_limit(limit)


def _chosen(path: Path, column: str | None, columns: list[str]) -> str:
    if not columns:
        raise ValueError(f"{path} is empty: expected texts")
    if column is None and len(columns) == 1:
        return columns[0]
    if column in columns and columns.count(column) == 1:
        return column
    listed = ", ".join(columns[:_LISTED]) + (", ..." if len(columns) > _LISTED else "")
    if column is None:
        raise ValueError(f"{path} has several columns: name the one that holds the texts, of {listed}")
    problem = "has two columns" if column in columns else "has no column"
    raise ValueError(f"{path} {problem} {column!r}: its columns are {listed}")


_READERS: dict[str, Callable[[Path, str, str | None], Iterator[str]]] = {
    "": _from_text,
    ".txt": _from_text,
    ".csv": partial(_from_table, delimiter=","),
    ".tsv": partial(_from_table, delimiter="\t"),
    ".jsonl": _from_json_lines,
    ".ndjson": _from_json_lines,
}
