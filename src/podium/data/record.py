"""Podium's own table of a data set: what a study was trained on, image by image, with hashes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from podium.data.table_file import FORMAT, KEY, OWN
from podium.errors import ConfigError
from podium.runtime.files import atomic_write

if TYPE_CHECKING:
    import pyarrow as pa

    from podium.data.index import DataIndex


def index_table(index: DataIndex) -> pa.Table:
    """The images of an index as a table, one row per image, in the order of the splits.

    Args:
        index: the images.

    Returns:
        The columns `path`, `label`, `split`, `group` (null where there is none) and `sha256` (of
        the file), then the metadata of the images. The schema's metadata has, under `podium`, JSON
        with `format`, `root` (the folder that paths are relative to) and `fingerprint`.

    Examples:
        >>> import pathlib, tempfile
        >>> from podium.data.indexing import build_index
        >>> from podium.data.synthetic import make_demo
        >>> demo = make_demo(pathlib.Path(tempfile.mkdtemp()), size=32, per_class=(3, 1, 1))
        >>> table = index_table(build_index(demo))
        >>> table.num_rows, table.column_names
        (50, ['path', 'label', 'split', 'group', 'sha256'])
    """
    import pyarrow as pa

    splits = index.splits.values()
    sizes = [len(split) for split in splits]
    labels = np.concatenate([split.labels for split in splits])
    groups = [one for split in splits for one in split.groups or (None,) * len(split)]
    hexes = (one for split in splits for one in split.images.hexes(split.rows))
    columns: dict[str, Any] = {
        "path": pa.chunked_array([split.paths.arrow() for split in splits]).cast(pa.string()),
        "label": pa.array(index.classes, pa.string()).take(pa.array(labels)),
        "split": pa.array([*index.splits], pa.string()).take(
            pa.array(np.repeat(range(len(sizes)), sizes))
        ),
        "group": pa.array(groups, pa.string()),
        "sha256": pa.array(hexes, pa.string(), size=sum(sizes)),
    }
    for name in sorted({name for split in splits for name in split.columns}):
        cells = [cell for split in splits for cell in split.columns[name]]
        key = f"{name} (source)" if name in OWN else name
        columns[key] = typed_array(cells)
    # absolute: the table may be read from any folder
    root = str(index.root.resolve()) if index.root.is_dir() else index.reader.root_text
    about = {"format": FORMAT, "root": root, "fingerprint": index.fingerprint}
    return pa.table(columns, metadata={KEY: json.dumps(about)})


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table of `index_table`.

    Args:
        table: the table.
        path: a name that ends in `.parquet`, or `.csv`, which keeps neither root nor fingerprint.

    Raises:
        ConfigError: it ends in something else.
        StorageError: it cannot be written.
    """
    import pyarrow.csv as pv
    import pyarrow.parquet as pq

    check_name(path)
    writer = pq.write_table if path.suffix.lower() == ".parquet" else pv.write_csv
    atomic_write(path, lambda file: writer(table, file))


def check_name(path: Path) -> None:
    """Refuse the name of a file that `write_table` could not write.

    Args:
        path: of the file.

    Raises:
        ConfigError: it ends in neither `.parquet` nor `.csv`.
    """
    if path.suffix.lower() not in (".parquet", ".csv"):
        raise ConfigError(f"{path}: expected a name that ends in .parquet or .csv.")


def typed_array(cells: list[Any]) -> pa.Array:
    """Cells of one type as that type, and else as text."""
    import pyarrow as pa

    try:
        return pa.array(cells)
    except (pa.ArrowException, OverflowError):
        return pa.array([cell if cell is None else str(cell) for cell in cells], pa.string())
