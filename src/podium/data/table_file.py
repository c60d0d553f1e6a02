"""Reads tables as people have them, CSV, TSV, Parquet, JSON lines, into Arrow; guesses no types."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from podium.config.text import decode_text
from podium.data.layout import SPLIT_NAMES
from podium.data.words import listed
from podium.errors import DataError, one_line

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")
"""Extensions, in lower case, of files that are read as tables."""

METADATA = tuple(f"metadata{suffix}" for suffix in (".csv", ".jsonl", ".parquet"))
"""Names of the tables in Hugging Face's `imagefolder` layout."""

FILE_NAME = "file_name"
"""The column that such a table must have: the path of an image, relative to the table's folder."""

KEY, FORMAT = b"podium", 1
"""Where the schema of a table that Podium wrote describes it, and the version of its format."""

OWN = ("path", "label", "split", "group", "sha256")
"""The columns of such a table; those of the metadata follow them."""

SHORT = b"rows that end early"
"""Where the schema of a table that was read tells their number."""

_BLOCK = 1 << 24  # bytes of a CSV parsed at a time: a row must fit


def read_table(path: Path) -> pa.Table:
    r"""Read a table file. The cells of CSV and TSV stay text: `007` is not the number 7.

    Args:
        path: a file with one of `SUFFIXES`; with any other, it is read as delimited text.

    Raises:
        DataError: it is missing or damaged, or has no rows, or two columns of one name.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "photos.csv")
        ...     _ = file.write_text("file;species\n007.jpg;cat\n")
        ...     read_table(file).to_pylist()
        [{'file': '007.jpg', 'species': 'cat'}]
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.suffix.lower() == ".parquet":
            table = pq.read_table(path)
        elif path.suffix.lower() in (".jsonl", ".ndjson"):
            table = _from_lines(decode_text(path.read_bytes()).split("\n"))
        else:
            table = _from_text(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"There is no table {path}.") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as a table ({one_line(error)}).") from None
    twice = [name for name, times in Counter(table.column_names).items() if times > 1]
    if twice:
        raise DataError(f"{path} has several columns named {listed([*map(repr, twice)])}.")
    if not table.num_rows:
        raise DataError(f"{path} has no rows: expected one row per image.")
    return table


def column_names(path: Path) -> list[str]:
    """The names of a table's columns; of a CSV or JSON lines, only the beginning is read.

    Args:
        path: the table.

    Returns:
        The names; empty if the file cannot be read as a table.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.suffix.lower() == ".parquet":
            return list(pq.read_schema(path).names)
        with open(path, "rb") as file:
            start = file.read(1 << 16)
        line = start[: start.rfind(b"\n") + 1 or len(start)]  # whole lines: whole characters
        if path.suffix.lower() in (".jsonl", ".ndjson"):
            return list(json.loads(decode_text(line).split("\n")[0]))
        return _head(decode_text(line))[0]
    except (OSError, ValueError, TypeError, pa.ArrowException):
        return []


def as_table(frame: Any) -> pa.Table:
    """Take a table from memory: an Arrow table, or a data frame of pandas, Polars or others.

    Args:
        frame: a `pyarrow.Table`, or anything with `__arrow_c_stream__`. A named index of pandas
            is a column.

    Raises:
        DataError: it is neither, or has no rows.
    """
    import pyarrow as pa

    if isinstance(frame, pa.Table):
        table = frame
    elif hasattr(frame, "__arrow_c_stream__"):
        try:
            table = pa.table(frame)
        except (ValueError, TypeError, pa.ArrowException) as error:
            raise DataError(
                f"The {type(frame).__name__} cannot be taken as a table ({one_line(error)}). "
                "Expected one type of value in each column, and a column of each name."
            ) from None
    else:
        raise DataError(
            "Expected the path of a table, a pandas.DataFrame or a pyarrow.Table, got "
            f"{type(frame).__name__}."
        )
    table = table.drop_columns(
        [name for name in table.column_names if re.fullmatch(r"__index_level_\d+__", name)]
    )
    if not table.num_rows:
        raise DataError(f"The {type(frame).__name__} has no rows: expected one row per image.")
    return table


def metadata_files(folder: Path) -> dict[str, Path]:
    """The tables of a folder in Hugging Face's `imagefolder` layout: its own, or of its splits.

    Args:
        folder: any folder.

    Returns:
        Folder's name -> table; the folder itself is ''. Empty: it has another layout.
    """
    places = {"": folder}
    try:
        inner = sorted(one for one in folder.iterdir() if one.name.lower() in SPLIT_NAMES)
    except OSError:
        return {}
    places |= {one.name: one for one in inner if one.is_dir()}
    found = {}
    for name, place in places.items():
        # Path.is_file raises where it may not look
        tables = [file for file in map(place.joinpath, METADATA) if os.path.isfile(file)]  # noqa: PTH113
        if tables and FILE_NAME in column_names(tables[0]):
            found[name] = tables[0]
    return {"": found[""]} if "" in found else found


def read_metadata(tables: dict[str, Path]) -> pa.Table:
    """Read the tables of an `imagefolder` as one, with paths relative to the whole folder.

    Args:
        tables: folder's name -> table, as from `metadata_files`.

    Raises:
        DataError: one cannot be read, or they have columns of different types.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    parts = []
    for name, path in tables.items():
        part = read_table(path)
        if name:
            at = part.column_names.index(FILE_NAME)
            inside = pc.binary_join_element_wise(name, part.column(FILE_NAME).cast("string"), "/")
            part = part.set_column(at, FILE_NAME, inside)
        parts.append(part)
    short = sum(int((part.schema.metadata or {}).get(SHORT, 0)) for part in parts)
    parts = [part.replace_schema_metadata({SHORT: str(short)} if short else None) for part in parts]
    try:
        return pa.concat_tables(parts, promote_options="permissive")
    except pa.ArrowException as error:
        files = " and ".join(map(str, tables.values()))
        raise DataError(f"{files} cannot be read as one table ({one_line(error)}).") from None


def about(table: pa.Table) -> Mapping[str, Any]:
    """What a table says of itself: `format`, `root`, `fingerprint`; empty: it is not Podium's.

    Args:
        table: any table.
    """
    try:
        found = json.loads((table.schema.metadata or {})[KEY])
    except (KeyError, ValueError):
        return {}
    own = isinstance(found, dict) and set(OWN) <= set(table.column_names)
    return found if own and isinstance(found.get("root"), str) else {}


def _from_text(content: bytes) -> pa.Table:
    """Delimited text: the first line names the columns, every cell is text."""
    import pyarrow as pa
    import pyarrow.csv as pv

    text = decode_text(content)
    names, delimiter = _head(text)
    if not all(name.strip() for name in names[1:]):
        raise ValueError("its first line leaves columns without a name")
    names = [name.strip() for name in names]
    if not names[0]:  # pandas writes its index that way
        names[0] = "index"
    if len(set(names)) < len(names):
        twice = [name for name, times in Counter(names).items() if times > 1]
        raise ValueError(f"several columns are named {listed([*map(repr, twice)])}")
    try:
        return pv.read_csv(
            pa.BufferReader(text.encode()),
            read_options=pv.ReadOptions(column_names=names, skip_rows=1, block_size=_BLOCK),
            parse_options=pv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid:  # Arrow takes no row that ends early, as other readers do
        return _from_uneven(text, names, delimiter)


def _from_uneven(text: str, names: list[str], delimiter: str) -> pa.Table:
    """Delimited text with rows that end early; what they lack is empty, and `SHORT` counts them."""
    import pyarrow as pa

    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    next(rows)
    columns: list[list[str]] = [[] for _ in names]
    short = 0
    try:
        for row in filter(None, rows):
            if len(row) > len(names):
                raise ValueError(
                    f"line {rows.line_num} has {len(row)} cells, and the first line names "
                    f"{len(names)} columns; a cell that contains {delimiter!r} needs quotes"
                )
            short += len(row) < len(names)
            for column, cell in zip_longest(columns, row, fillvalue=""):
                column.append(cell)  # type: ignore[union-attr]
    except csv.Error as error:
        raise ValueError(f"line {rows.line_num}: {error}") from None
    table = pa.table(dict(zip(names, columns, strict=True)))
    return table.replace_schema_metadata({SHORT: str(short)})


def _head(text: str) -> tuple[list[str], str]:
    """The cells of the first line, and the delimiter: what gives most cells outside of quotes."""
    line = text.partition("\n")[0].rstrip("\r")
    if not line.strip():
        raise ValueError("its first line is empty: expected the names of the columns")
    cells = {one: next(csv.reader([line], delimiter=one)) for one in ",;\t"}
    delimiter = max(cells, key=lambda one: len(cells[one]))
    return cells[delimiter], delimiter


def _from_lines(lines: Iterable[str]) -> pa.Table:
    """JSON lines, with the values as they are written: Arrow's reader would turn text into dates"""
    import pyarrow as pa

    columns: dict[str, list[Any]] = {}
    for at, row in enumerate(_rows(lines)):
        columns |= {name: [None] * at for name in row if name not in columns}
        for name, values in columns.items():
            values.append(row.get(name))
    made = {}
    for name, values in columns.items():
        try:
            made[name] = pa.array(values)
        except (pa.ArrowException, OverflowError):  # numbers among text
            made[name] = pa.array([one if one is None else str(one) for one in values])
    return pa.table(made)


def _rows(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number} is not JSON: {error}") from None
        if not isinstance(row, dict):
            kind = type(row).__name__
            raise ValueError(f"line {number}: expected an object of columns, got a {kind}")
        yield row
