"""Texts of one's own, from a file: plain text, CSV, TSV, JSON, JSON lines or Parquet, gzipped or not, or from stdin.

The standard library and pandas read; what stands here tells a file's encoding and delimiter, and says what is wrong.
"""

import csv
import gzip
import io
import json
import re
import sys
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# Read whole, into memory; enough for a hundred thousand pages.
MAX_BYTES = 200 * 10**6

# Ends of the names of files with rows and columns; gzipped, .gz comes after them.
TABLES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet")

_PLAIN = ("", ".txt")

# How many column names a message lists.
_LISTED = 20

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}

# UTF-32 before UTF-16, whose mark its own begins with.
_MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}


def read_texts(
    path: str | Path, column: str | None = None, *, at_least: int = 1, encoding: str | None = None
) -> list[str]:
    """Return the texts in a file, in its order, without blanks around them.

    What was guessed (a delimiter, an encoding other than UTF-8, a header where no column is named) and how many rows were
    left out is said in one UserWarning.

    Args:
        path: a file of at most 200 MB, or "-" for stdin. The end of its name, also before .gz, says how it is read:
            .txt or none: one text a line;
            .csv, .tsv: one text a row, below a header; quoted fields may span lines; separated by commas, semicolons,
            tabs or bars, as the header shows;
            .jsonl, .ndjson, .json: one text in each object, one object a line or all in an array;
            .parquet: one text a row, if pyarrow is installed.
            Stdin is JSON if it looks so, with a column CSV, and else plain text.
        column: name of the texts' column or key, "question.text" for a key inside an object; may be left out if there is
            only one.
        at_least: smallest number of texts that will do.
        encoding: name of the file's encoding; by default that of its byte order mark, UTF-8, or Windows-1252.

    Returns:
        The texts, equal ones included. Empty ones, nulls and objects without the key are left out.

    Raises:
        OSError: no such file, a folder, or no permission.
        ValueError: another suffix, too large, binary, another encoding, malformed, an unknown or missing column, values that
            are not text, or fewer than `at_least` texts.
        ModuleNotFoundError: a Parquet file, and no pyarrow.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "reviews.csv"
    >>> _ = file.write_text('stars,review\\n5,"Warm, bright.\\nI stay."\\n1,Too cold.\\n')
    >>> read_texts(file, "review")
    ['Warm, bright.\\nI stay.', 'Too cold.']
    """
    table = read_table(path, encoding=encoding, plain=column is None)
    name = table.chosen(column)
    texts = table.kept(name)
    if len(texts) < at_least:
        where = f"{table.path}" if column is None else f"column {column!r} of {table.path}"
        if table.plain and len(texts) == 1:
            raise ValueError(f"{where} was read as one text: put one text on a line, at least {at_least}")
        if table.frame.empty:
            raise ValueError(f"{table.path} has no rows: expected at least {at_least} with a text")
        raise ValueError(
            f"{where} holds {len(texts) or 'no'} text{'s' * (len(texts) != 1)}: expected at least {at_least}"
        )
    table.say()
    return texts


@dataclass
class Table:
    """What a file holds.

    Attributes:
        path: name of the file, for messages.
        frame: values as they stand there, a column each; the index is the line or row.
        place: what the index counts, "line" or "row".
        plain: whether it is plain text, whose lines are the only column.
        header: whether the names of the columns are its first line.
        notes: what whoever gave the file should know.
    """

    path: str
    frame: "pd.DataFrame"
    place: str = "line"
    plain: bool = False
    header: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Names of the columns, and of the keys inside objects: "question.text"."""
        if self.header:  # of CSV, which has no objects
            return list(self.frame.columns)
        found: list[str] = []
        for position, name in enumerate(self.frame.columns):
            objects = [value for value in self.frame.iloc[:, position] if isinstance(value, dict)]
            found += dict.fromkeys(f"{name}.{path}" for value in objects for path in _paths(value)) or [name]
        return found

    def chosen(self, column: str | None) -> str:
        """Return the name of a column, None for the only one, or raise ValueError."""
        if self.plain:
            if column is not None:
                raise ValueError(
                    f"{self.path} is plain text, one text a line, and has no column {column!r}: leave the column out"
                )
            return str(self.frame.columns[0])
        names = self.names
        if not names:
            raise ValueError(f"{self.path} has no rows: expected texts")
        if column is None and len(names) == 1:
            if self.header and names[0] != "text":
                self.notes.append(f"its first line, {names[0]!r:.60}, is taken for the header{_hint(names)}")
            return names[0]
        if column in names and names.count(column) == 1:
            return column
        listed = ", ".join(f"{name!r:.60}" for name in names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
        if column is None:
            raise ValueError(f"{self.path} has several columns: name the one that holds the texts, of {listed}")
        problem = "has two columns" if column in names else "has no column"
        hint = _hint(names) if self.header else ""
        raise ValueError(f"{self.path} {problem} {column!r}: its columns are {listed}{hint}")

    def values(self, name: str) -> list[Any]:
        """Return the values of a column that `chosen` returned, None where there is none."""
        import pandas as pd

        if name in self.frame.columns:
            found = self.frame[name]
        else:
            rows = self.frame.to_dict("records")
            found = pd.Series([_at(row, name) for row in rows], dtype=object)
        return [None if missing else value for value, missing in zip(found, found.isna(), strict=True)]

    def texts(self, name: str) -> list[str]:
        """Return the texts of a column that `chosen` returned, without blanks around them, "" where there is none.

        Raises:
            ValueError: a value that is no text.
        """
        return [self._text(name, at, value) for at, value in zip(self.frame.index, self.values(name), strict=True)]

    def kept(self, name: str) -> list[str]:
        """Return the texts of a column without the empty ones, whose number is noted."""
        values = self.texts(name)
        texts = [text for text in values if text]
        if len(texts) < len(values):
            empty = len(values) - len(texts)
            self.notes.append(f"{empty} of {len(values)} rows have no text in {name!r} and are left out")
        return texts

    def _text(self, name: str, at: int, value: Any) -> str:
        if value is None:
            return ""
        where = f"{name!r} in {self.place} {at} of {self.path}"
        if not isinstance(value, str):
            raise ValueError(f"{where} is {value!r:.40}: expected a text{' in quotes' * (self.place == 'line')}")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                half = value[error.start].encode("unicode_escape").decode()
                raise ValueError(f"{where} has half of a character, {half}, which no model reads: mend it") from error
        return value.strip()

    def say(self) -> None:
        """Warn of what was guessed and left out, in one sentence."""
        if self.notes:
            warnings.warn(f"{self.path}: {'; '.join(self.notes)}", UserWarning, stacklevel=3)


def read_table(path: str | Path, *, encoding: str | None = None, plain: bool = False) -> Table:
    """Return what a file holds.

    Args:
        path, encoding: as for `read_texts`, which also says what is raised.
        plain: whether stdin is plain text unless it looks like JSON, and not CSV.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "export.csv"
    >>> _ = file.write_bytes("id;text\\n7;café\\n".encode("cp1252"))
    >>> table = read_table(file)
    >>> table.texts("text"), table.notes
    (['café'], ["read as Windows-1252, such as 'café'", 'separated by semicolons'])
    """
    name = "stdin" if str(path) == "-" else str(path)
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    suffix = (suffixes[:-1] if suffixes[-1:] == [".gz"] else suffixes)[-1:] or [""]
    if name != "stdin" and suffix[0] not in (*_PLAIN, *TABLES):
        raise ValueError(
            f"cannot tell how to read {name}: expected a file that ends in .txt, {', '.join(TABLES)}, or these with .gz; "
            "spreadsheets can be saved as CSV"
        )
    content = _content(path, name)
    kind = ".parquet" if content.startswith(b"PAR1") else suffix[0]
    if kind == ".parquet":
        return _from_parquet(name, content)
    notes: list[str] = []
    text = _decoded(name, content, encoding, notes)
    if name == "stdin":
        kind = ".jsonl" if re.match(r'\s*(\{\s*"|\[\s*[{"])', text) else ".txt" if plain else ".csv"
    if kind in _PLAIN:
        return _from_text(name, text, notes)
    return _from_json(name, text, notes) if "json" in kind else _from_csv(name, text, kind, notes)


def _content(path: str | Path, name: str) -> bytes:
    if name != "stdin" and Path(path).is_dir():
        raise IsADirectoryError(f"{name} is a folder: name a file of texts")
    try:
        if name == "stdin":
            content = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(path).open("rb") as file:
                content = file.read(MAX_BYTES + 1)  # also bounds what a pipe delivers
    except OSError as error:
        raise type(error)(f"cannot read {name}: {(error.strerror or str(error)).lower()}") from error
    if content.startswith(b"\x1f\x8b") and len(content) <= MAX_BYTES:
        try:
            content = gzip.GzipFile(fileobj=io.BytesIO(content)).read(MAX_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{name} is a damaged gzip file: {error}") from error
    if len(content) > MAX_BYTES:
        raise ValueError(f"{name} is larger than {MAX_BYTES / 1e6:g} MB: take a sample of its texts")
    return content


def _decoded(name: str, content: bytes, encoding: str | None, notes: list[str]) -> str:
    guess = encoding or next((codec for mark, codec in _MARKS.items() if content.startswith(mark)), None)
    if guess is None and b"\0" in content:
        raise ValueError(
            f"{name} is a binary file: expected text; if it is UTF-16 without a byte order mark, name the encoding utf-16-le"
        )
    try:
        text = content.decode(guess or "utf-8")
    except LookupError as error:
        raise ValueError(
            f"unknown encoding {encoding!r}: expected one such as utf-8, utf-16 or windows-1252"
        ) from error
    except UnicodeDecodeError as error:
        byte, line = content[error.start], content.count(b"\n", 0, error.start) + 1
        at = f"byte 0x{byte:02x} in line {line}"
        if guess:
            raise ValueError(f"{name} is not {guess}: {at}; save it as UTF-8, or name its encoding") from error
        # What is UTF-8 up to here, and not only ASCII, is damaged UTF-8.
        if not content[: error.start].isascii():
            raise ValueError(f"{name} is not UTF-8: {at}; save it as UTF-8, or name its encoding") from error
        try:
            text = content.decode("windows-1252")
        except UnicodeDecodeError:
            raise ValueError(f"{name} is neither UTF-8 ({at}) nor Windows-1252: name its encoding") from error
        sample = re.search(r'[^\s,;|"]*[^\0-\x7f][^\s,;|"]*', text)
        notes.append(f"read as Windows-1252, such as {sample and sample[0]!r:.40}")
    if guess and guess != encoding and guess != "utf-8-sig":
        notes.append(f"read as {guess.upper()}")
    return text.removeprefix("\ufeff")


def _lines(content: str) -> list[str]:
    # str.splitlines would also split at separators that may stand inside a text or a JSON string.
    return content.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _from_text(name: str, content: str, notes: list[str]) -> Table:
    lines = {number: line for number, line in enumerate(_lines(content), 1) if line.strip()}
    return Table(name, _frame(list(lines.values()), list(lines), ["text"]), plain=True, notes=notes)


def _from_json(name: str, content: str, notes: list[str]) -> Table:
    rows: dict[int, Any] = {}
    place = "row" if content.lstrip().startswith("[") else "line"
    try:
        if place == "row":
            rows = {n: {"text": one} if isinstance(one, str) else one for n, one in enumerate(json.loads(content), 1)}
        for number, line in enumerate(_lines(content) if place == "line" else [], 1):
            if line.strip():
                rows[number] = json.loads(line)
    except (ValueError, RecursionError) as error:
        at = name if place == "row" else f"line {number} of {name}"
        raise ValueError(
            f"{at} is not JSON: {error}; expected an object such as {{'text': ...}} a line, or an array of them"
        ) from error
    for number, row in rows.items():
        if not isinstance(row, dict):
            raise ValueError(f"{place} {number} of {name} is no JSON object: expected one such as {{'text': ...}}")
    return Table(name, _frame(list(rows.values()), list(rows)), place, notes=notes)


def _from_csv(name: str, content: str, kind: str, notes: list[str]) -> Table:
    # Not pandas: it fills short rows up, and its fast engine reads on after malformed quotes.
    limit = csv.field_size_limit(MAX_BYTES)  # the default, 131072, is less than a long text
    file = io.StringIO(content, newline="")
    usual = "\t" if kind == ".tsv" else ","
    said = re.match(r"sep=(.)\r?\n", content)  # as Excel reads and writes it
    delimiter = said[1] if said else _delimiter(content, usual)
    rows = csv.reader(file, delimiter=delimiter, strict=True)
    try:
        if said:
            next(rows)
        header = [column.strip() for column in next(rows, [])]
        values, lines = [], []
        for row in filter(None, rows):
            if len(row) != len(header):
                raise ValueError(
                    f"the row that ends in line {rows.line_num} of {name} has {len(row)} fields, its header {len(header)}: "
                    f"put a text with {_DELIMITERS.get(delimiter, repr(delimiter))} or line breaks in quotes{_hint(header)}"
                )
            values.append(row)
            lines.append(rows.line_num)
    except csv.Error as error:
        raise ValueError(f"{name} is malformed near line {rows.line_num}: {error}") from error
    finally:
        csv.field_size_limit(limit)
    if delimiter != usual:
        notes.append(f"separated by {_DELIMITERS.get(delimiter, repr(delimiter))}")
    return Table(name, _frame(values, lines, header), header=True, notes=notes)


def _delimiter(content: str, usual: str) -> str:
    """Return the delimiter that gives the header most fields, the usual one if there is no difference."""
    fields = {}
    for delimiter in dict.fromkeys([usual, *_DELIMITERS]):
        try:
            fields[delimiter] = len(
                next(csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True), [])
            )
        except csv.Error:
            continue
    return max(fields, key=lambda delimiter: fields[delimiter], default=usual)


def _from_parquet(name: str, content: bytes) -> Table:
    import pandas as pd

    try:
        frame = pd.read_parquet(io.BytesIO(content))
    except ImportError as error:
        raise ModuleNotFoundError(f"to read {name} install pyarrow, or save it as CSV") from error
    except (ValueError, OSError) as error:
        raise ValueError(f"{name} is no Parquet file, or a damaged one: {str(error).splitlines()[0]}") from error
    frame.columns = frame.columns.map(str)
    return Table(name, frame.set_axis(range(1, len(frame) + 1)), "row")


def _frame(rows: list[Any], index: list[int], columns: list[str] | None = None) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(rows, index, columns, dtype=object)


def _paths(value: dict[str, Any]) -> Iterator[str]:
    """Yield the names of what an object of JSON holds: "text", or "author.name" for what is in an object there."""
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from (f"{key}.{path}" for path in _paths(inner))
        else:
            yield key


def _at(value: Any, path: str) -> Any:
    """Return what an object of JSON holds at a name that `_paths` gives, or None."""
    if not isinstance(value, dict):
        return None
    inside = (_at(inner, path[len(key) + 1 :]) for key, inner in value.items() if path.startswith(f"{key}."))
    return value[path] if path in value else next((found for found in inside if found is not None), None)


def _hint(header: list[str]) -> str:
    """Return what there is to say of a header that looks like texts: a sentence, or longer than names are."""
    prose = any(len(name) > 40 or len(name.split()) > 4 or re.search(r"\w[.!?]$", name) for name in header)
    return "; it looks like a text: if it is one, put a header above it" if prose else ""
