"""Small JPEG images in a Parquet file, by path."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from podium.errors import RunFolderError
from podium.runtime.files import atomic_write


def write_pictures(path: Path, pictures: Iterable[tuple[str, bytes]]) -> None:
    """Write a Parquet file with the columns path and jpeg.

    Args:
        path: the file to write.
        pictures: path and JPEG bytes of each image.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths, contents = [], []
    for name, content in pictures:
        paths.append(name)
        contents.append(content)
    table = pa.table(
        {"path": pa.array(paths, pa.string()), "jpeg": pa.array(contents, pa.binary())}
    )
    atomic_write(path, lambda file: pq.write_table(table, file))


def read_pictures(path: Path) -> dict[str, bytes]:
    """Read a file written by `write_pictures`.

    Args:
        path: the file.

    Returns:
        JPEG bytes by path; empty where the file does not exist.

    Raises:
        RunFolderError: the file is damaged.
    """
    if not path.is_file():
        return {}
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        names, contents = table.column("path").to_pylist(), table.column("jpeg").to_pylist()
        if not all(isinstance(name, str) for name in names):
            raise ValueError("its column path holds no text")
        if not all(isinstance(content, bytes) for content in contents):
            raise ValueError("its column jpeg holds no bytes")
        return dict(zip(names, contents, strict=True))
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise RunFolderError(
            f"{path} is not a Podium image file ({error}). Remove it: the next `podium run` "
            "writes it again."
        ) from None
