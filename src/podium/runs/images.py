"""The table of a study's images, `images.parquet`, as rows: what was trained and tested on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from podium.errors import RunFolderError, one_line


def image_rows(table: Path, *names: str) -> Iterable[tuple[Any, ...]]:
    """Columns of the table of images, row by row; nothing if there is no table.

    Args:
        table: the file.
        names: of the columns.

    Raises:
        RunFolderError: the table is damaged.
    """
    if not table.is_file():
        return []
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = pq.read_table(table, columns=[*names])
    except (OSError, ValueError, pa.ArrowException) as error:
        raise RunFolderError(
            f"{table} is not a table of images ({one_line(error)}). Remove it: the next "
            "`podium run` writes it again."
        ) from None
    return zip(*map(pa.ChunkedArray.to_pylist, found.columns), strict=True)
