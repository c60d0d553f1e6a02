"""The table source: images that a CSV, Parquet or JSON-lines file, or a data frame, lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, MutableSequence, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from podium.config.registry import SOURCES
from podium.data.file_checks import file_stamp
from podium.data.folder import FolderSource
from podium.data.images import read_image_file
from podium.data.names import NO_LABEL, label_pattern, labels_in, splits_in_paths
from podium.data.source import Item, Source, Value
from podium.data.table_columns import (
    Roles,
    group_like,
    has_label,
    roles_of,
    splits_in,
    texts,
    values,
)
from podium.data.table_file import (
    OWN,
    SHORT,
    SUFFIXES,
    about,
    as_table,
    column_names,
    metadata_files,
    read_metadata,
    read_table,
)
from podium.data.table_labels import named_labels, one_hot_labels, without_dot_zero
from podium.data.table_paths import locate, where_else
from podium.data.words import counted, in_study, listed, shown
from podium.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pyarrow as pa

MISSING, NO_PATH, REPEATED = "missing files", "rows without a path", "repeated rows"


class TableSource(Source):
    """Images that a table lists, one row per image, with label, split and further columns.

    Columns that are not named are guessed by their names, and each guess is reported with the
    setting that states it. All columns that are neither path, label nor split are kept as
    metadata, so that a study's `group` can name one of them. Rows without a label, missing files
    and repeated rows are left out, counted and reported.

    Args:
        table: a CSV (comma, semicolon or tab), TSV, Parquet or JSON-lines file; a folder in
            Hugging Face's `imagefolder` layout, with `metadata.csv`, `.jsonl` or `.parquet`; a
            table that `podium data import` wrote; in Python also a `pandas.DataFrame` or a
            `pyarrow.Table`.
        label: column of the labels; `one-hot`: a column of 0 and 1 per class; or a regular
            expression on the path with a named group `(?P<label>...)`. None: guess.
        path_column: column of the paths; None: guess.
        split_column: column with `train`, `valid` (`val`, `dev`...) and `test`; None: guess.
        images: folder that the paths are relative to, itself relative to the table's folder;
            None: the table's folder, or for a data frame the current folder.
        extension: added to paths that do not end with it, such as `.jpg`; empty: a path without
            an extension is completed if one image file fits.
        names: file with the classes' names, if labels are their numbers: text with one name per
            line, numbered from 0; CSV with number and name; or JSON. Relative to the table's
            folder.
        missing: largest share of the images, from 0 to 1, whose file may be missing.

    Raises:
        ConfigError: a setting is invalid.
        DataError: there is no table, or not the expected kind.

    Examples:
        >>> import pyarrow as pa, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("1.jpg", "2.jpg"):
        ...         Path(folder, name).touch()
        ...     columns = {"file": ["1.jpg", "2"], "species": ["cat", "dog"], "site": [3, 4]}
        ...     source = TableSource(pa.table(columns), images=folder)
        ...     items = list(source.list())
        >>> items[1]
        Item(path='2.jpg', label='dog', split=None, group=None, columns={'site': 4})
        >>> source.chosen
        {'options.path_column': 'file', 'label': 'species'}
    """

    skipped: Counter[str]
    notices: MutableSequence[str]

    def __init__(
        self,
        table: Any,
        label: str | None = None,
        *,
        path_column: str | None = None,
        split_column: str | None = None,
        images: str | Path | None = None,
        extension: str = "",
        names: str | Path | None = None,
        missing: float = 0.01,
    ) -> None:
        if not 0 <= missing <= 1:
            raise ConfigError(f"data.options.missing: expected 0 to 1, got {missing:g}.")
        self._path = Path(table).expanduser() if isinstance(table, str | Path) else None
        self._frame = as_table(table) if self._path is None else None
        self._metadata: dict[str, Path] = {}
        self._folder = Path()
        if self._path is not None and self._path.is_dir():
            self._folder, self._metadata = self._path, metadata_files(self._path)
            if not self._metadata:
                raise DataError(
                    f"{self._path} is a folder without a table: expected metadata.csv, "
                    "metadata.jsonl or metadata.parquet with a column file_name, in it or in its "
                    "split folders."
                )
        elif self._path is not None:
            self._folder = self._path.parent
        self._columns = path_column, label, split_column
        self._pattern = label_pattern(label) if label is not None and "(?P<" in label else None
        self._images, self._names = images, names
        self._extension = f".{extension.removeprefix('.')}" if extension else ""
        self._missing = missing
        self.root: Path | None = None
        self.skipped, self.notices = Counter(), []

    def __reduce__(self) -> Any:
        if self.root is None:
            return super().__reduce__()
        return FolderSource, (self.root, self.root)  # other processes only read its files

    def list(self) -> Iterator[Item]:
        self.skipped, self.notices = Counter(), []
        table = self._table()
        own = about(table)
        columns = ("path", "label", "split") if own else self._columns
        roles = roles_of(table, self.place, *columns)
        cells, labels = self._cells(table, roles.path), self._labels(table, roles)
        if labels is None:  # from the paths, below
            paths = self._located(dict(enumerate(cells)), own)
            labels = self._labels_in(paths)
            paths = {row: paths[row] for row in labels}
        else:
            paths = self._located({row: cells[row] for row in labels}, own)
        if not paths:
            raise DataError(f"{self.place} lists no image that has both a label and a file.")
        splits = self._splits(table, roles, paths)
        groups = self._cells(table, "group") if own else None
        used = {roles.path, roles.label, roles.split, *roles.one_hot, *(OWN if own else ())}
        further = self._further(table, used)
        if not own:
            self._tell_guesses(table, roles, used)
        for row in self._once(paths, labels, splits):
            yield Item(
                paths[row],
                labels[row],
                splits.get(row),
                groups[row] if groups else None,
                {name: column[row] for name, column in further.items()},
            )

    def stamp_of(self, path: str) -> tuple[int, ...] | None:
        return file_stamp(f"{self.root}/{path}")

    def read(self, path: str) -> bytes:
        if self.root is None:  # opened only to read: the first item tells
            next(self.list())
        assert self.root is not None
        return read_image_file(self.root / path, path)

    def _table(self) -> pa.Table:
        if self._metadata:
            table = read_metadata(self._metadata)
        else:
            table = self._frame if self._path is None else read_table(self._path)
        if short := int((table.schema.metadata or {}).get(SHORT, 0)):
            self.notices.append(
                f"{counted(short, 'row')} with fewer cells than the first line has columns: the "
                "last columns are taken as empty there."
            )
        return table

    def _cells(self, table: pa.Table, name: str) -> Sequence[str | None]:
        try:
            cells, trimmed = texts(table.column(name))
        except ValueError as error:
            raise DataError(f"{self.place}: column {name!r}: {error}.") from None
        if trimmed:
            self.notices.append(
                f"{counted(trimmed, 'value')} of column {name!r} with white space at its ends, "
                "which is ignored."
            )
        return cells

    def _labels(self, table: pa.Table, roles: Roles) -> dict[int, str] | None:
        """Row -> label, of the rows that have one; None: the paths have them."""
        if roles.one_hot:
            labels = one_hot_labels(table, roles.one_hot)
        elif roles.label is None:
            return None
        else:
            labels = without_dot_zero(self._cells(table, roles.label))
        if self._names is not None:
            labels = named_labels(labels, self._folder / self._names, self.place)
        found = {row: label for row, label in enumerate(labels) if label is not None}
        if without := len(labels) - len(found):
            self.skipped[NO_LABEL] += without
            self.notices.append(f"{counted(without, 'row')} without a label, left out.")
        return found

    def _labels_in(self, paths: dict[int, str]) -> dict[int, str]:
        """Row -> label, of the rows whose path has one."""
        assert self._pattern is not None
        labels, told = labels_in([*paths.values()], self._pattern, self.place)
        self.notices += told
        found = {row: one for row, one in zip(paths, labels, strict=True) if one is not None}
        if without := len(paths) - len(found):
            self.skipped[NO_LABEL] += without
        return found

    def _located(self, cells: dict[int, str | None], own: Mapping[str, Any]) -> dict[int, str]:
        """Row -> path relative to the root, of the rows whose file exists."""
        cells = self._with_path(cells)
        if not cells:
            return {}
        folder = self._folder / Path(self._images or "").expanduser()
        first = next(iter(cells.values()))
        if own and self._images is None and not (folder / str(first)).is_file():
            folder = Path(own["root"])
        if folder.is_file():
            raise DataError(
                f"{self.place}: its images are in {folder}, and a table can only name files of a "
                "folder. Unpack them and give the folder: data: {options: {images: FOLDER}}."
            )
        if not folder.is_dir():
            raise DataError(
                f"{self.place}: expected its images in {folder}, which is not a folder."
            )
        found = locate([*cells.values()], folder, self._extension, self.place)
        self.root, absent = found.root, set(found.missing)
        if absent:
            self._tell_missing([found.names[at] for at in found.missing], len(cells), folder)
        if found.respelled:
            self.notices.append(
                f"{counted(found.respelled, 'path')} spelled unlike the file's name (capital "
                "letters, accents): the file is used."
            )
        if found.completed:
            self.notices.append(
                f"{counted(found.completed, 'path')} without an extension: the only image file of "
                "that name is used."
            )
        names = enumerate(zip(cells, found.names, strict=True))
        return {row: name for at, (row, name) in names if at not in absent}

    def _with_path(self, cells: dict[int, str | None]) -> dict[int, str | None]:
        """The rows that name an image; the others count like those whose file is missing."""
        empty = [f"row {row + 1:,}" for row, cell in cells.items() if not cell]
        if not empty:
            return cells
        told = f"{len(empty):,} of {counted(len(cells), 'row')} of {self.place} without a path"
        if len(empty) > self._missing * len(cells):
            raise DataError(
                f"{told} ({listed(empty)}), more than {100 * self._missing:g} %. Give every row "
                "its path, name another column (data: {options: {path_column: ...}}), or allow "
                "more: data: {options: {missing: 1}}."
            )
        self.skipped[NO_PATH] += len(empty)
        self.notices.append(f"{told}, left out: {listed(empty)}.")
        return {row: cell for row, cell in cells.items() if cell}

    def _tell_missing(self, absent: Sequence[str], total: int, folder: Path) -> None:
        named = f"{len(absent):,} of {counted(total, 'image')} of {self.place}"
        some = shown(listed(absent))
        if len(absent) > self._missing * total:
            elsewhere = where_else(absent[:: 1 + len(absent) // 100], folder)
            raise DataError(
                f"{named} do not exist in {self.root} ({some}), more than "
                f"{100 * self._missing:g} %.{elsewhere} Mend the paths, add the files, or allow "
                "more: data: {options: {missing: 1}}."
            )
        self.skipped[MISSING] += len(absent)
        self.notices.append(f"{named} do not exist, left out: {some}.")

    def _splits(self, table: pa.Table, roles: Roles, paths: dict[int, str]) -> dict[int, str]:
        """Row -> split; empty: the images are not split."""
        if roles.split is not None:
            cells = self._cells(table, roles.split)
            named = splits_in([cells[row] for row in paths], self.place, roles.split)
        else:
            named = splits_in_paths([*paths.values()])
            if named:
                self.notices.append(
                    "The first folders of the paths are named after splits, and taken as such."
                )
        return dict(zip(paths, named, strict=True)) if named else {}

    def _further(self, table: pa.Table, used: set[str | None]) -> dict[str, Sequence[Value]]:
        """Name -> cells, of the columns of metadata."""
        columns = {one: values(table.column(one)) for one in table.column_names if one not in used}
        lost = [name for name, cells in columns.items() if cells is None]
        if lost:
            self.notices.append(
                f"Not kept, since the cells are not single values: {listed([*map(repr, lost)])}."
            )
        return {name: cells for name, cells in columns.items() if cells is not None}

    def _tell_guesses(self, table: pa.Table, roles: Roles, used: set[str | None]) -> None:
        self.chosen = roles.guessed
        if roles.guessed:
            self.notices.append(
                f"Columns guessed by their names; to state them in the study: "
                f"{in_study(roles.guessed)}."
            )
        self.likely_groups = group_like(table, used)

    def _once(
        self, paths: dict[int, str], labels: dict[int, str], splits: dict[int, str]
    ) -> Iterator[int]:
        """The rows, each image once."""
        first: dict[str, int] = {}
        for row, path in paths.items():
            first.setdefault(path, row)
        if len(first) == len(paths):
            return iter(paths)
        again = {row: first[path] for row, path in paths.items() if first[path] != row}
        for what, cells in (("label", labels), ("split", splits)):
            differ = {
                paths[row]: f"{shown(paths[row])} ({cells[one]} and {cells[row]})"
                for row, one in again.items()
                if cells.get(one) != cells.get(row)
            }
            if differ:
                raise DataError(
                    f"{self.place} gives {counted(len(differ), 'image')} more than one {what}: "
                    f"{listed([*differ.values()])}. Keep one row for each image."
                )
        self.skipped[REPEATED] += len(again)
        self.notices.append(
            f"{counted(len(again), 'row')} of an image that an earlier row has, with the same "
            "label: the earlier row is used."
        )
        return iter(first.values())


def is_table(path: Path, label: str | None = None) -> bool:
    """Whether a path is read as a table unless a study says otherwise.

    Args:
        path: a file with the extension of a table; or a folder with `metadata.csv`, `.jsonl` or
            `.parquet` that has a column of labels: without one, its folders are its classes.
        label: column of the labels, if the study names it.
    """
    if path.suffix.lower() in SUFFIXES and not path.is_dir():
        return True
    tables = metadata_files(path) if path.is_dir() else {}
    return bool(tables) and all(
        has_label(names) or label in names for names in map(column_names, tables.values())
    )


SOURCES.register("table", TableSource)
