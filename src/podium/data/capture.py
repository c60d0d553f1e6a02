"""Groups photographs by the EXIF data of the camera: what one camera took in quick succession."""

from __future__ import annotations

import contextlib
import datetime
import io
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import ExifTags, Image

from podium.data.columns import coded
from podium.data.listing import Listing
from podium.data.source import Reader
from podium.data.words import counted
from podium.errors import ConfigError, DataError, UnreadableImageError
from podium.runtime.threads import in_order

CAPTURE = "capture"
BURST = 10.0
"""Longest pause within a burst unless the rule states another, in seconds."""

_TIMES = (ExifTags.Base.DateTimeOriginal, ExifTags.Base.DateTimeDigitized, ExifTags.Base.DateTime)
_CAMERA = (ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.BodySerialNumber)


@dataclass(frozen=True, order=True)
class Shot:
    """When and with what a photograph was taken.

    Attributes:
        camera: maker, model and serial number, as far as they are known.
        seconds: time on the camera's clock.
        path: of the image.
    """

    camera: tuple[str, ...]
    seconds: float
    path: str


def pause_of(rule: str) -> float | None:
    """The longest pause within a burst, in seconds, if a rule is `capture` or `capture:SECONDS`.

    Args:
        rule: a study's `data.group`.

    Raises:
        ConfigError: what follows `capture:` is not a number of seconds.

    Examples:
        >>> pause_of("capture"), pause_of("capture:60"), pause_of("patient")
        (10.0, 60.0, None)
    """
    if rule == CAPTURE:
        return BURST
    if not rule.startswith(f"{CAPTURE}:"):
        return None
    given = rule.partition(":")[2]
    if not re.fullmatch(r"\d+(\.\d+)?", given):
        raise ConfigError(
            f"data.group: expected capture:SECONDS, such as capture:60, got {rule!r}."
        )
    return float(given)


def grouped_by_capture(found: Listing, pause: float) -> Listing:
    """Group the photographs that one camera took without a longer pause; reads every file.

    Args:
        found: the images.
        pause: longest time between successive photographs of a group, in seconds.

    Returns:
        The same images, in groups that are named after their first image; an image that does not
        say when it was taken has none.

    Raises:
        DataError: no image says when it was taken.
    """
    shots = read_shots(found.reader, found.paths)
    if not shots:
        raise DataError(
            f"data.group: no image of {found.place} says when it was taken (EXIF), so there are "
            "no bursts to group. Use another rule."
        )
    series = bursts(shots, pause)
    total, without = len(found.paths), len(found.paths) - len(shots)
    told = (
        f"{counted(sum(map(len, series)), 'image')} of {total:,} in "
        f"{counted(len(series), 'burst')} (one camera, pauses of {pause:g} s or less)"
    )
    if without:
        told += f"; {without:,} do not say when they were taken, and stand alone"
    alone = {one.path: one.path for one in shots}
    group = alone | {path: burst[0] for burst in series for path in burst}
    groups = coded(map(group.get, found.paths))
    return replace(found, groups=groups, notices=(*found.notices, f"{told}."))


def read_shots(reader: Reader, paths: Sequence[str]) -> list[Shot]:
    """Read when and with what each image was taken, of those that say so.

    Args:
        reader: of their source.
        paths: of the images.
    """

    def shot(path: str) -> Shot | None:
        try:
            return _shot(path, reader.read(path))
        except UnreadableImageError:  # reported where all files are checked
            return None

    with contextlib.closing(in_order(shot, sorted(paths))) as shots:
        return [one for one in shots if one is not None]


def _shot(path: str, content: bytes) -> Shot | None:
    try:
        with Image.open(io.BytesIO(content)) as image:
            exif = image.getexif()
            tags = {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}
    except Exception:  # Pillow raises many kinds of errors on damaged EXIF data
        return None
    camera = tuple(str(tags.get(tag, "")).strip("\0 ") for tag in _CAMERA)
    for tag in _TIMES:
        with contextlib.suppress(ValueError):
            at = datetime.datetime.strptime(str(tags.get(tag))[:19], "%Y:%m:%d %H:%M:%S")
            return Shot(camera, at.replace(tzinfo=datetime.UTC).timestamp(), path)
    return None


def bursts(shots: Sequence[Shot], pause: float) -> list[list[str]]:
    """Find what each camera took without a longer pause: two paths or more each, in time order.

    Args:
        shots: the photographs.
        pause: longest time between successive photographs, in seconds.

    Examples:
        >>> taken = [Shot(("A",), at, f"{at}.jpg") for at in (0, 8, 15, 99)]
        >>> bursts([*taken, Shot(("B",), 9, "other.jpg")], pause=10)
        [['0.jpg', '8.jpg', '15.jpg']]
    """
    by_camera: defaultdict[tuple[str, ...], list[Shot]] = defaultdict(list)
    for one in sorted(shots):
        by_camera[one.camera].append(one)
    found: list[list[str]] = []
    for taken in by_camera.values():
        last = float("-inf")
        for one in taken:
            if one.seconds - last > pause:
                found.append([])
            found[-1].append(one.path)
            last = one.seconds
    return [burst for burst in found if len(burst) > 1]
