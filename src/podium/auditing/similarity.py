"""The similarity of two images: verifies what a perceptual hash takes for duplicates."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import scipy  # its submodules load when they are first used
from PIL import Image

from podium.runtime.large_array import Table, in_parts

THUMB = 32
"""Side of the square thumbnails, in pixels: 3 KB per image."""

BLANK = 4.0  # standard deviation (of 255) of a thumbnail below which there is nothing to compare
GLANCE = 0.2  # correlation of the whole thumbnails' luminance below which no crop is tried
FIT = 0.7  # correlation of the best crop's luminance below which nothing more is compared
TRIES = 4  # crops for which colours and detail are compared
KEPT = 0.95  # share of the cells that are compared: those that differ least

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Window = tuple[tuple[float, float], tuple[float, float]]


def small_rgb(image: Image.Image) -> Bytes:
    """Make a thumbnail of the whole image, resized to a square: uint8, (THUMB, THUMB, 3)."""
    return np.asarray(image.resize((THUMB, THUMB), Image.Resampling.BOX), dtype=np.uint8)


def is_blank(thumbs: Table) -> npt.NDArray[np.bool_]:
    """Find thumbnails, uint8 of shape (n, THUMB, THUMB, 3), of almost one colour; bool, (n,)."""
    blank = np.zeros(len(thumbs), dtype=np.bool_)
    for place, values in in_parts(thumbs):
        part = values.astype(np.float32)
        part -= part.mean(axis=(1, 2), keepdims=True)
        blank[place] = np.square(part).mean(axis=(1, 2, 3)) < BLANK**2
    return blank


def is_grey(thumbs: Table) -> npt.NDArray[np.bool_]:
    """Find the thumbnails without colour, ignoring compression artefacts; bool, (n,)."""
    grey = np.zeros(len(thumbs), dtype=np.bool_)
    for place, part in in_parts(thumbs):
        grey[place] = (part.max(axis=3) - part.min(axis=3)).max(axis=(1, 2)) < 12
    return grey


def greys(thumbs: Bytes) -> Floats:
    """Compute the luminance (ITU-R BT.601), rounded: float32, (n, THUMB, THUMB)."""
    weights = np.asarray([0.299, 0.587, 0.114], dtype=np.float32)
    return np.asarray(np.rint(thumbs @ weights), dtype=np.float32)


def _windows() -> list[Window]:
    """Windows of an image that the other one may show: all of it first, or up to 12 % cropped."""
    found: list[Window] = [((0.0, 1.0), (0.0, 1.0))]
    for cut in (0.05, 0.1):
        spans = [(at * cut, 1 - cut + at * cut) for at in (0.0, 0.5, 1.0)]
        found += [(rows, columns) for rows in spans for columns in spans]
    for cut in (0.06, 0.12):
        for span in ((cut / 2, 1 - cut / 2), (0.0, 1 - cut), (cut, 1.0)):
            found += [(span, (0.0, 1.0)), ((0.0, 1.0), span)]
    return found


WINDOWS = _windows()
COARSE, FINE = 16, 24  # sides of the cropped thumbnails that are compared


def similarity(first: Bytes, second: Bytes) -> Floats:
    """Compute the similarity of pairs of images, invariant to brightness, contrast and cropping.

    One image is compared with 30 crops of the other, and vice versa, by the normalised correlation
    of their luminance. For the few best crops, colours and fine detail are compared, except for
    the twentieth of the image that differs most, which may be a watermark. The lower of the two
    correlations counts, so that scenes with the same layout (a white stage, a blue sky, one car in
    two liveries) differ. An image without colour is compared by its luminance.

    Args:
        first: uint8, (n, THUMB, THUMB, 3).
        second: uint8, (n, THUMB, THUMB, 3); its i-th image is compared with the i-th of `first`.

    Returns:
        float32, (n,), up to 1; 0 if not even the luminance of any crop fits.
    """
    scores = np.zeros(len(first), dtype=np.float32)
    grey = [greys(pictures) for pictures in (first, second)]
    worth = np.flatnonzero(_correlation(*grey) >= GLANCE)
    for start in range(0, len(worth), 512):
        part = worth[start : start + 512]
        fits = grey_fits(grey[0][part], grey[1][part])
        part, fits = part[fits.max(axis=0) >= FIT], fits[:, fits.max(axis=0) >= FIT]
        a, b = _comparable(first[part], second[part])
        for choice in np.argsort(-fits, axis=0)[:TRIES]:
            scores[part] = np.maximum(scores[part], _at_crop(a, b, choice))
    return scores


def grey_fits(a: Floats, b: Floats) -> Floats:
    """Correlate the luminance of each window of one image with the whole of the other.

    Args:
        a: luminance from `greys`, (n, THUMB, THUMB).
        b: luminance from `greys`, (n, THUMB, THUMB).

    Returns:
        (2 windows, n): in row 2w, window w of `a` with the whole of `b`; in row 2w + 1, window w
        of `b` with the whole of `a`.
    """
    crops_a, crops_b = _all_crops(a), _all_crops(b)
    of_a = np.einsum("wnp,np->wn", crops_a, crops_b[0])
    of_b = np.einsum("wnp,np->wn", crops_b, crops_a[0])
    return np.stack([of_a, of_b], axis=1).reshape(-1, len(a))


def _all_crops(grey: Floats) -> Floats:
    """Every window of each image as a unit vector: (windows, n, COARSE^2)."""
    crops = np.empty((len(WINDOWS), len(grey), COARSE**2), dtype=np.float32)
    narrow = {
        span: grey @ _averaging(*span, THUMB, COARSE).T for span in {span for _, span in WINDOWS}
    }
    for place, (rows, columns) in enumerate(WINDOWS):
        small = _averaging(*rows, THUMB, COARSE) @ narrow[columns]
        crops[place] = _unit(small.reshape(len(grey), -1, 1))
    return crops


def _comparable(first: Bytes, second: Bytes) -> tuple[Floats, Floats]:
    """Convert both to float, and both to grey if one of them has no colour."""
    a, b = first.astype(np.float32), second.astype(np.float32)
    plain = is_grey(first) | is_grey(second)
    for pictures, bytes_ in ((a, first), (b, second)):
        pictures[plain] = greys(bytes_[plain])[..., None]
    return a, b


def _at_crop(a: Floats, b: Floats, choice: npt.NDArray[np.int64]) -> Floats:
    """The lower of the correlations of colours and of detail, at the crop chosen for each pair."""
    scores = np.zeros(len(a), dtype=np.float32)
    for chosen in np.unique(choice):
        here = np.flatnonzero(choice == chosen)
        one, other = (b[here], a[here]) if chosen % 2 else (a[here], b[here])
        cropped, whole = _crop(one, WINDOWS[chosen // 2]), _crop(other, WINDOWS[0])
        scores[here] = np.minimum(
            _mostly(cropped, whole), _mostly(_detail(cropped), _detail(whole))
        )
    return scores


def _mostly(a: Floats, b: Floats) -> Floats:
    """Correlate without the cells that differ most: a watermark, a caption, a date."""
    cells_a, cells_b = (one.reshape(len(one), FINE * FINE, -1) for one in (a, b))
    gap = _unit(cells_a) - _unit(cells_b)
    apart = np.square(gap).reshape(len(gap), FINE * FINE, -1).sum(axis=2)
    kept = np.argpartition(apart, round(KEPT * FINE * FINE), axis=1)[:, : round(KEPT * FINE * FINE)]
    vectors = [
        _unit(np.take_along_axis(cells, kept[..., None], axis=1)) for cells in (cells_a, cells_b)
    ]
    return np.asarray((vectors[0] * vectors[1]).sum(axis=1), dtype=np.float32)


def crop_grey(pictures: Floats, window: Window, side: int) -> Floats:
    """Average over each cell of a grid on the window: (n, THUMB, THUMB) -> (n, side, side)."""
    rows, columns = (_averaging(low, high, THUMB, side) for low, high in window)
    return np.asarray(rows @ pictures @ columns.T, dtype=np.float32)


def _crop(pictures: Floats, window: Window) -> Floats:
    """Mean colour of each cell of a grid on the window: (n, FINE, FINE, 3)."""
    rows, columns = (_averaging(low, high, THUMB, FINE) for low, high in window)
    planes = rows @ np.moveaxis(pictures, 3, 1) @ columns.T
    return np.asarray(np.moveaxis(planes, 1, 3), dtype=np.float32)


@cache
def _averaging(low: float, high: float, source: int, side: int) -> Floats:
    """A (side, source) matrix: the weight of each source pixel in each cell of low..high."""
    edges = np.linspace(low * source, high * source, side + 1)
    pixels = np.arange(source)
    shares = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    shares = np.clip(shares, 0, None)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True), dtype=np.float32)


def _detail(pictures: Floats) -> Floats:
    """Fine detail: the image minus its local mean."""
    around = scipy.ndimage.uniform_filter(pictures, (0, 7, 7, 0), mode="nearest")
    return np.asarray(pictures - around, dtype=np.float32)


def _correlation(a: Floats, b: Floats) -> Floats:
    vectors = [_unit(one.reshape(len(one), one.shape[1] * one.shape[2], -1)) for one in (a, b)]
    return np.asarray((vectors[0] * vectors[1]).sum(axis=1), dtype=np.float32)


def _unit(pictures: Floats) -> Floats:
    """(n, pixels, colours) as vectors of length 1, with the mean of each colour subtracted."""
    centred = (pictures - pictures.mean(axis=1, keepdims=True)).reshape(len(pictures), -1)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(length, 1e-3), dtype=np.float32)
