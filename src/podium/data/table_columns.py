"""Which column of a table is the path, the label, the split; and its values as plain Python's."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from podium.config.text import words
from podium.data.layout import SPLIT_NAMES
from podium.data.source import Value
from podium.data.words import counted, listed, shown
from podium.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pyarrow as pa

PATHS = words(
    "path file filename filepath image imagefile imagefilename imagename imagepath img imgname "
    "imgpath"
)
IDS = words("id imageid imgid")
LABELS = words("label labels labelname class classname target category species diagnosis dx breed")
SPLITS = words("split subset partition set")
"""Names of columns that are guessed, in lower case, without spaces, `_` and `-`."""

ONE_HOT = "one-hot"
"""The label of a table with a column of 0 and 1 for each class."""

_GROUP = re.compile(
    "(group|patient|subject|person|individual|animal|plant|specimen|lesion|site|camera|video|clip|"
    "track|sequence|scene|session|burst|slide|study)(id|no|nr|number|name)?"
)
_DOT_ZERO = re.compile(r"([+-]?\d+)\.0+")


@dataclass(frozen=True)
class Roles:
    """What the columns of a table stand for.

    Attributes:
        path: column of the paths.
        label: column of the labels; None: they are not in one column.
        split: column of the splits; None: there is none.
        one_hot: columns of 0 and 1, one per class; empty: the labels are elsewhere.
        guessed: setting of a study -> column, of each that was guessed.
    """

    path: str
    label: str | None
    split: str | None
    one_hot: tuple[str, ...]
    guessed: dict[str, str]


def roles_of(
    table: pa.Table, place: str, path: str | None, label: str | None, split: str | None
) -> Roles:
    """Find the columns of the paths, the labels and the splits: as named, or else guessed by name.

    Args:
        table: the table.
        place: its name in messages.
        path: column of the paths; None: guess.
        label: column of the labels, `one-hot`, or a regular expression on the path; None: guess.
        split: column of the splits; None: guess.

    Raises:
        ConfigError: there is no such column.
        DataError: no column, or more than one, can be the path or the label.
    """
    names, guessed = table.column_names, {}
    if path is None:
        path = _guess(names, PATHS, place, "image's path", "options: {path_column: ...}")
        path = path or _guess(names, IDS, place, "image's id", "options: {path_column: ...}")
        if path is None:
            raise DataError(
                f"{place} has no column for the image's path, such as path, file or image_id; it "
                f"has {listed(names, most=12)}. Name it: data: {{options: {{path_column: ...}}}}."
            )
        guessed["options.path_column"] = path
    _refuse_unknown(names, path, place, "data.options.path_column")
    by_pattern = label is not None and "(?P<" in label
    one_hot: tuple[str, ...] = ()
    if label is None:
        label = _guess([one for one in names if one != path], LABELS, place, "label", "label: ...")
        one_hot = () if label is not None else one_hot_columns(table)
        if label is None and not one_hot:
            raise DataError(
                f"{place} has no column for the label, such as label, class or species; it has "
                f"{listed(names, most=12)}. Name it: data: {{label: ...}}; or give a regular "
                "expression on the path: data: {label: '(?P<label>...)'}."
            )
        guessed["label"] = ONE_HOT if label is None else label
    elif label == ONE_HOT and ONE_HOT not in names:
        label, one_hot = None, one_hot_columns(table)
        if not one_hot:
            raise DataError(
                f"{place}: label: {ONE_HOT} expects two or more neighbouring columns of 0 and 1 "
                f"with exactly one 1 per row; its columns are {listed(names, most=12)}."
            )
    elif not by_pattern:
        _refuse_unknown(names, label, place, "data.label")
    if split is not None:
        _refuse_unknown(names, split, place, "data.options.split_column")
    else:
        split = _guess_split(table, {path, label, *one_hot})
        if split is not None:
            guessed["options.split_column"] = split
    return Roles(path, None if by_pattern else label, split, one_hot, guessed)


def has_label(names: Sequence[str]) -> bool:
    """Whether one of the columns would be guessed to hold the labels.

    Args:
        names: of the columns.
    """
    return any(_plain(name) in LABELS for name in names)


def one_hot_columns(table: pa.Table) -> tuple[str, ...]:
    """Two or more neighbouring columns of 0 and 1 with exactly one 1 in every row; or none.

    Args:
        table: the table.

    Examples:
        >>> import pyarrow as pa
        >>> one_hot_columns(pa.table({"image": ["a", "b"], "MEL": ["1.0", "0.0"], "NV": [0, 1]}))
        ('MEL', 'NV')
    """
    import numpy as np

    runs: list[list[tuple[str, Any]]] = [[]]
    for name in table.column_names:
        values = ones(table.column(name))
        if values is None:
            runs.append([])
        else:
            runs[-1].append((name, values))
    for run in runs:
        if len(run) > 1 and (np.sum([values for _, values in run], axis=0, dtype=int) == 1).all():
            return tuple(name for name, _ in run)
    return ()


def ones(column: pa.ChunkedArray) -> Any:
    """Where a column of 0 and 1 has 1: bool of shape (rows,); None: it has other values.

    Args:
        column: numbers, or text such as `1.0`.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.null_count or pa.types.is_nested(column.type):
        return None
    try:
        distinct = pc.unique(column.cast("string")).to_pylist()
    except pa.ArrowException:
        return None
    if not {"0", "1"} >= {_DOT_ZERO.sub(r"\1", one) for one in distinct}:
        return None
    return pc.starts_with(column.cast("string"), "1").to_numpy()


def group_like(table: pa.Table, used: Collection[str | None]) -> list[str]:
    """Columns that look as if they named what images belong to, such as `patient_id`.

    Args:
        table: the table.
        used: columns that are something else.
    """
    import pyarrow.compute as pc

    return [
        name
        for name in table.column_names
        if name not in used
        and _GROUP.fullmatch(_plain(name))
        and pc.count_distinct(table.column(name).combine_chunks()).as_py() < table.num_rows
    ]


def texts(column: pa.ChunkedArray) -> tuple[list[str | None], int]:
    """The cells of a column as text without white space around it; empty ones are None.

    Args:
        column: of text, numbers, dates or categories.

    Returns:
        `(cells, trimmed)`: the cells, and the number of those that had white space around them.

    Raises:
        ValueError: its cells are lists or other values that are not text.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        raise ValueError(f"its cells are of type {kind}, expected text or numbers")
    if pa.types.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), None, column)
        if pc.all(pc.equal(pc.floor(column), column)).as_py():
            column = column.cast("int64")
    text = column.cast("large_string")
    bare = pc.utf8_trim_whitespace(text)
    trimmed = pc.sum(pc.not_equal(text, bare)).as_py() or 0
    coded = pc.dictionary_encode(bare).combine_chunks()
    # one object per distinct value: a million rows have few labels
    known = [one or None for one in coded.dictionary.to_pylist()]
    codes = pc.fill_null(coded.indices, len(known)).to_pylist()
    known.append(None)
    return [known[code] for code in codes], int(trimmed)


def values(column: pa.ChunkedArray) -> list[Value] | None:
    """The cells of a column of metadata; None: they are lists or other values that are not kept.

    Args:
        column: of any type; dates and decimal numbers become text.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return column.to_pylist()  # type: ignore[no-any-return]
    if pa.types.is_floating(kind):
        return pc.if_else(pc.is_nan(column), None, column).to_pylist()  # type: ignore[no-any-return]
    try:
        return list(texts(column)[0])
    except (ValueError, pa.ArrowException):
        return None


def splits_in(cells: Sequence[str | None], place: str, column: str) -> list[str]:
    """Translate the values of a split column to `train`, `valid` and `test`.

    Args:
        cells: the values.
        place: the table's name in messages.
        column: the name of the column.

    Raises:
        DataError: some cells are empty, or have other values.
    """
    known = {one: SPLIT_NAMES.get(one.lower(), "") for one in set(cells) if one is not None}
    other = sorted(one for one, split in known.items() if not split)
    if other:
        raise DataError(
            f"{place}: column {column!r} has {listed([*map(repr, other)])}; expected "
            f"{listed([*SPLIT_NAMES], most=10)}."
        )
    empty = sum(one is None for one in cells)
    if empty:
        raise DataError(
            f"{place}: {counted(empty, 'row')} of {len(cells):,} with an empty {column!r}. Give "
            "every image its split, or none; or split all anew: data: {split: {by: image}}."
        )
    return [known[str(one)] for one in cells]


def _guess(
    names: Sequence[str], wanted: Sequence[str], place: str, what: str, setting: str
) -> str | None:
    """The only column with one of the wanted names; None: there is none."""
    found = [name for name in names if _plain(name) in wanted]
    if len(found) > 1:
        raise DataError(
            f"{place}: {listed([*map(repr, found)])} could each be the {what}. Name the right one: "
            f"data: {{{setting.replace('...', found[0])}}}."
        )
    return found[0] if found else None


def _guess_split(table: pa.Table, used: Collection[str | None]) -> str | None:
    """The only column with such a name whose values are all names of splits, empty or not."""
    found = []
    for name in table.column_names:
        if name not in used and _plain(name) in SPLITS:
            try:
                cells = set(texts(table.column(name))[0]) - {None}
            except ValueError:
                continue
            if cells and all(str(one).lower() in SPLIT_NAMES for one in cells):
                found.append(name)
    return found[0] if len(found) == 1 else None


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name.lower())


def _refuse_unknown(names: Sequence[str], name: str | None, place: str, setting: str) -> None:
    if name is None or name in names:
        return
    folded = {one.lower(): one for one in names}
    close = difflib.get_close_matches(name.lower(), folded, n=1)
    hint = f" Did you mean {folded[close[0]]!r}?" if close else ""
    raise ConfigError(
        f"{setting}: {place} has no column {shown(name)!r}.{hint} It has "
        f"{listed([*names], most=12)}."
    )
