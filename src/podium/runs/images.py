"""The table of a study's images, `images.parquet`: what was trained and tested on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from podium.errors import RunFolderError, one_line

if TYPE_CHECKING:
    import pyarrow as pa


def image_rows(file: Path, *names: str) -> Iterable[tuple[Any, ...]]:
    """Columns of the table of images, row by row; nothing if there is no table.

    Args:
        file: of the table.
        names: of the columns.

    Raises:
        RunFolderError: the table is damaged.
    """
    table = _read(file, names)
    if table is None:
        return []
    return zip(*(table[name].to_pylist() for name in names), strict=True)


def read_metadata(file: Path, paths: Sequence[str]) -> dict[str, list[Any]]:
    """What the source tells of images beyond label, split and group.

    Args:
        file: of the table.
        paths: of the images.

    Returns:
        Column -> a cell per path, None where the table lacks the image; empty where there is
        no table.

    Raises:
        RunFolderError: the table is damaged.
    """
    import pyarrow as pa
    from pyarrow import compute

    table = _read(file, None)
    if table is None:
        return {}
    # few of millions of images are tested
    table = table.filter(compute.is_in(table["path"], pa.array(paths, pa.string())))
    rows = {path: at for at, path in enumerate(table["path"].to_pylist())}
    order = pa.array([rows.get(path) for path in paths], pa.int64())
    own = ("path", "label", "split", "group", "sha256")
    return {
        name: table[name].take(order).to_pylist() for name in table.column_names if name not in own
    }


def _read(file: Path, names: Sequence[str] | None) -> pa.Table | None:
    if not file.is_file():
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(file, columns=None if names is None else [*names])
    except (OSError, ValueError, pa.ArrowException) as error:
        raise RunFolderError(
            f"{file} is not a table of images ({one_line(error)}). Remove it: the next "
            "`podium run` writes it again."
        ) from None
