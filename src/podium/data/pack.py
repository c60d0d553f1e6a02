"""Packs images into tar shards and an index; `podium.data.pack_format` describes them.

The same images give the same bytes. What a killed process has packed is kept: `packing.json` says
what is being packed, and `shard-000000.parquet` where the images of a finished shard are.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import tarfile
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from podium.data.checking import check_files, readable_images
from podium.data.columns import Rows, Texts
from podium.data.file_checks import Verdicts
from podium.data.listing import Listing
from podium.data.pack_format import ABOUT, FORMAT, INDEX, OWN, UNDERWAY, WHERE, About, shard_name
from podium.data.place import Place
from podium.data.record import typed_array
from podium.data.source import Reader
from podium.data.splits import SPLITS
from podium.errors import ConfigError, DataError
from podium.runtime.events import Notify, Progress, silent

_BLOCK = tarfile.BLOCKSIZE
_ENDING = re.compile(r"\.[a-z0-9]{1,10}")


def pack(
    found: Listing,
    to: str,
    *,
    shard_size: float = 1.0,
    cache_folder: Path | None = None,
    workers: int | None = None,
    notify: Notify = silent,
) -> tuple[About, list[str]]:
    """Pack images; files that cannot be read are left out.

    Args:
        found: the images, with their groups.
        to: a folder or an address, which is empty or has a part of the same pack.
        shard_size: a shard ends with the image that makes its files this large together, GB.
        cache_folder: where to cache the results of checking files; None: Podium's cache.
        workers: number of threads that check files; None: one per core.
        notify: receives the progress: number of images packed.

    Returns:
        What was packed, and sentences for the user.

    Raises:
        ConfigError: there is something else, or the address cannot be used.
        DataError: no image can be used, or one has changed meanwhile.
        StorageError: a file cannot be written.

    Examples:
        >>> import pathlib, tempfile
        >>> from podium.data.folder import FolderSource
        >>> from podium.data.listing import list_images
        >>> from podium.data.synthetic import make_demo
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> demo = make_demo(folder / "demo", size=32, per_class=(3, 1, 1))
        >>> about, _ = pack(list_images(FolderSource(demo)), str(folder / "packed"))
        >>> about.images, sorted(path.name for path in (folder / "packed").iterdir())
        (50, ['index.parquet', 'pack.json', 'shard-000000.tar'])
    """
    if not shard_size > 0:
        raise ConfigError(f"shard_size: expected more than 0 GB, got {shard_size:g}.")
    place = Place(to)
    _refuse_taken(place)
    verdicts = check_files(found, cache_folder, workers, notify)
    parts, notices = readable_images(found, verdicts)
    rows = np.sort(np.concatenate([*parts.values()]))
    table = _described(found, verdicts, rows)
    _begin(place, {"format": FORMAT, "shard_size": shard_size, "images": _digest(table)})

    classes = sorted({found.names[code] for code in np.unique(found.labels[rows]).tolist()})
    number = {name: at for at, name in enumerate(classes)}
    numbers = np.array([number.get(name, -1) for name in found.names])[found.labels[rows]]
    work = _Work(found.reader, found.paths.take(rows), verdicts.digests[rows], numbers)
    pieces: list[pa.Table] = []
    done = 0
    while done < len(rows):
        piece = _finished(place, len(pieces))
        if piece is None:
            piece = _write_shard(place, len(pieces), work, done, shard_size * 1e9, notify)
        pieces.append(piece)
        done += piece.num_rows
        notify(Progress("packed", done, len(rows)))

    where = pa.concat_tables(pieces)
    for name in WHERE.names[::-1]:
        table = table.add_column(4, name, where[name])
    with tempfile.TemporaryFile() as file:
        pq.write_table(table, file, compression="zstd")
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        place.write(INDEX, lambda out: shutil.copyfileobj(file, out))
    size = pc.sum(where["length"]).as_py()
    about = About(FORMAT, len(rows), len(pieces), size, classes, found.channels, sha256)
    _write_json(place, ABOUT, asdict(about))
    for at in range(len(pieces)):
        place.remove(_piece(at))
    place.remove(UNDERWAY)
    place.remove_temporaries()
    return about, notices


def _piece(number: int) -> str:
    return f"shard-{number:06d}.parquet"


@dataclass(frozen=True)
class _Work:
    """The images to pack, in order: their paths, SHA-256 and class numbers."""

    reader: Reader
    paths: Texts
    digests: npt.NDArray[np.uint8]
    numbers: npt.NDArray[np.int64]


def _refuse_taken(place: Place) -> None:
    names = [name for name in place.names() if not name.startswith(".")]
    if ABOUT in names:
        raise ConfigError(f"{place} has a pack already. Remove it, or choose another --to.")
    if names and UNDERWAY not in names:
        raise ConfigError(
            f"{place} is not empty ({names[0]}): choose another --to, such as {place}/packed."
        )


def _begin(place: Place, asked: dict[str, Any]) -> None:
    """Say what is being packed, or check that it is what another process has begun."""
    try:
        begun = json.loads(place.read(UNDERWAY))
    except FileNotFoundError:
        _write_json(place, UNDERWAY, asked)
        return
    except (OSError, ValueError) as error:
        raise DataError(f"{place}/{UNDERWAY} cannot be read: {error}.") from None
    if begun != asked:
        raise ConfigError(
            f"{place} has a part of another pack: of other images, or with another --shard-size. "
            "Remove it, or choose another --to."
        )


def _described(found: Listing, verdicts: Verdicts, rows: Rows) -> pa.Table:
    """The index without the places of the images."""
    splits = np.full(len(found.paths), -1)
    for name, those in found.parts.items():
        splits[those] = SPLITS.index(name) if found.is_split else -1
    columns = {
        "path": found.paths.take(rows).text(),
        "label": pa.array(found.names, pa.string()).take(pa.array(found.labels[rows])),
        "split": pa.array(SPLITS).take(pa.array(splits[rows], mask=splits[rows] < 0)),
        "group": pa.array(
            [None] * len(rows) if found.groups is None else found.groups.take(rows), pa.string()
        ),
        **verdicts.columns(rows),
    }
    for name, cells in found.columns.items():
        columns[f"{name} (source)" if name in OWN else name] = typed_array([*cells.take(rows)])
    return pa.table(columns)


def _finished(place: Place, number: int) -> pa.Table | None:
    """Where the images of a shard are, if it was finished."""
    try:
        return pq.read_table(io.BytesIO(place.read(_piece(number))), schema=WHERE)
    except FileNotFoundError:
        return None


def _write_shard(
    place: Place, number: int, work: _Work, first: int, most: float, notify: Notify
) -> pa.Table:
    """Write a shard, then where its images are.

    Args:
        place: of the pack.
        number: of the shard.
        work: all images.
        first: the first image of the shard.
        most: bytes of images that end it.
        notify: receives the progress.
    """
    found: list[dict[str, Any]] = []

    def write(out: BinaryIO) -> None:
        found.clear()
        total = 0
        with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for at in range(first, len(work.paths)):
                path, key = work.paths[at], f"{at:09d}"
                content = work.reader.read(path)
                if hashlib.sha256(content).digest() != work.digests[at].tobytes():
                    raise DataError(f"{path} changed while it was packed: start again.")
                offset = archive.offset + _BLOCK
                ending = PurePosixPath(path).suffix.lower()
                sound = _ENDING.fullmatch(ending) and ending != ".cls"
                _add(archive, f"{key}{ending if sound else '.img'}", content)
                _add(archive, f"{key}.cls", b"%d" % work.numbers[at])
                place_of = {"key": key, "shard": number, "offset": offset, "length": len(content)}
                found.append(place_of)
                total += len(content)
                notify(Progress("packed", at + 1, len(work.paths)))
                if total >= most:
                    break

    place.write(shard_name(number), write)
    piece = pa.Table.from_pylist(found, WHERE)
    place.write(_piece(number), lambda out: pq.write_table(piece, out))
    return piece


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # no time, no owner: the same images give the same bytes
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _digest(table: pa.Table) -> str:
    """SHA-256 of a table's cells."""
    total = hashlib.sha256()
    for batch in table.combine_chunks().to_batches(max_chunksize=65_536):
        total.update(batch.serialize())
    return total.hexdigest()


def _write_json(place: Place, name: str, value: dict[str, Any]) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    place.write(name, lambda out: out.write(text.encode()))
