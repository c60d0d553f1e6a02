"""Decodes DICOM: the image as its device meant it, in the units of the device."""

from __future__ import annotations

import importlib.util
import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})
"""File extensions, in lower case, of DICOM."""

IS_INSTALLED = importlib.util.find_spec("pydicom") is not None

REMEDY = "to read DICOM: pip install 'podium[dicom]'"

_DEFLATED = b"1.2.840.10008.1.2.1.99"


def is_dicom(content: bytes) -> bool:
    """Whether a file's content is DICOM.

    Args:
        content: bytes of the file.
    """
    return content[128:132] == b"DICM"


def read_dicom(content: bytes) -> Any:
    """Read a file without decoding its pixels.

    Args:
        content: bytes of the file.

    Returns:
        A `pydicom.Dataset` with `Rows` and `Columns`.

    Raises:
        ValueError: pydicom is not installed, or the file has no image that can be decoded safely.
        Exception: it is damaged; pydicom raises many types.
    """
    if not IS_INSTALLED:
        raise ValueError(REMEDY)
    if _DEFLATED in content:  # it would be inflated at once, to any size
        raise ValueError("deflated DICOM; decompress it, such as with dcmconv")
    import pydicom

    found = pydicom.dcmread(io.BytesIO(content))
    if "PixelData" not in found or not found.get("Rows") or not found.get("Columns"):
        raise ValueError("DICOM without an image")
    return found


def has_more_frames(found: Any) -> bool:
    """Whether a file has several frames.

    Args:
        found: from `read_dicom`.
    """
    return int(found.get("NumberOfFrames") or 1) > 1


def decode_dicom(found: Any) -> Image.Image:
    """Decode the first frame.

    Grey values are in the units of the device, such as Hounsfield units: rescale slope and
    intercept, or the modality's table, are applied. Values that mean white when they are low
    (MONOCHROME1) are inverted within the stored range first, so that more is always brighter.

    Args:
        found: from `read_dicom`.

    Returns:
        An image of mode L (8 bits without rescaling), F (all other grey values) or RGB.

    Raises:
        Exception: its pixels cannot be decoded; pydicom raises many types.
    """
    from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array

    values = pixel_array(found, index=0)
    kind = str(found.PhotometricInterpretation)
    bits = int(found.BitsStored)
    if kind == "PALETTE COLOR":
        values = apply_color_lut(values, found)
        bits = 8 * values.dtype.itemsize
    if values.ndim == 3 and values.shape[2] == 3:
        return Image.fromarray((values >> max(0, bits - 8)).astype(np.uint8))
    if kind not in ("MONOCHROME1", "MONOCHROME2") or values.ndim != 2:
        raise ValueError(f"DICOM of kind {kind}, which is not read")
    if kind == "MONOCHROME1":
        lowest = -(1 << bits - 1) if found.PixelRepresentation else 0
        values = 2 * lowest + (1 << bits) - 1 - values.astype(np.int64)
    if bits <= 8 and not found.PixelRepresentation and not _is_rescaled(found):
        return Image.fromarray(values.astype(np.uint8))
    scaled: npt.NDArray[np.float32] = apply_modality_lut(values, found).astype(np.float32)
    return Image.fromarray(scaled)


def is_deep_colour(found: Any) -> bool:
    """Whether the colour channels have more than 8 bits, of which the upper 8 are used.

    Args:
        found: from `read_dicom`.
    """
    return int(found.get("SamplesPerPixel") or 1) == 3 and int(found.BitsStored) > 8


def _is_rescaled(found: Any) -> bool:
    slope, intercept = found.get("RescaleSlope"), found.get("RescaleIntercept")
    factor = 1.0 if slope is None else float(slope)
    return "ModalityLUTSequence" in found or factor != 1 or float(intercept or 0) != 0
