"""Ten thousand damaged images of every format: none may crash, hang or use excessive memory."""

from __future__ import annotations

import io
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, features

from torture.mutate import mutate_bytes

__all__ = ["PictureResult", "sound_pictures", "torture_pictures"]

BATCH = 500  # files per command; one that hangs stops its whole batch
SECONDS = 120.0  # allowed for a batch, which normally takes a few


@dataclass(frozen=True)
class PictureResult:
    """Results for the damaged files."""

    files: int
    formats: int
    named: int
    """Reported as unreadable, with the reason."""
    decoded: int
    """Still decodable, though not necessarily to the same pixels."""
    lost: tuple[str, ...]
    """Neither decoded nor reported: a bug."""
    crashes: int
    hangs: int
    peak_mib: int
    """Peak memory of a command."""
    seconds: float
    reasons: tuple[tuple[str, int], ...]
    """The most frequent reasons, with their counts."""


def sound_pictures(seed: int = 0) -> dict[str, bytes]:
    """Make valid image files of every format, in most of its variants.

    Args:
        seed: random seed of the pixels.

    Returns:
        file name with extension -> bytes.
    """
    random_ = np.random.default_rng(seed)
    coarse = Image.fromarray(random_.integers(0, 255, (9, 12, 3), dtype=np.uint8))
    picture = coarse.resize((96, 72), Image.Resampling.BICUBIC)
    alpha = picture.convert("RGBA")
    alpha.putalpha(picture.convert("L"))
    deep = Image.fromarray(random_.integers(0, 65535, (24, 32), dtype=np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated
    kinds: dict[str, tuple[Image.Image, dict[str, object]]] = {
        "plain.jpg": (picture, {"quality": 80}),
        "progressive.jpeg": (picture, {"quality": 60, "progressive": True, "exif": exif}),
        "cmyk.jpe": (picture.convert("CMYK"), {}),
        "grey.jfif": (picture.convert("L"), {"format": "JPEG"}),
        "rgb.png": (picture, {}),
        "alpha.png": (alpha, {}),
        "palette.png": (picture.quantize(16), {"transparency": 3}),
        "deep.png": (deep, {}),
        "frames.png": (picture, {"save_all": True, "append_images": [picture.rotate(9)]}),
        "frames.gif": (picture, {"save_all": True, "append_images": [picture.rotate(9)]}),
        "plain.bmp": (picture, {}),
        "palette.bmp": (picture.quantize(16), {}),
        "lossy.webp": (picture, {"quality": 60}),
        "lossless.webp": (alpha, {"lossless": True}),
        "frames.webp": (picture, {"save_all": True, "append_images": [picture.rotate(9)]}),
        "raw.tif": (picture, {}),
        "lzw.tiff": (picture, {"compression": "tiff_lzw"}),
        "deflate.tiff": (alpha, {"compression": "tiff_adobe_deflate"}),
        "jpeg.tiff": (picture, {"compression": "jpeg"}),
        "fax.tiff": (picture.convert("1"), {"compression": "group4"}),
        "float.tif": (picture.convert("F"), {}),
        "pages.tif": (picture, {"save_all": True, "append_images": [picture.rotate(9)]}),
        "colour.ppm": (picture, {}),
        "grey.pgm": (picture.convert("L"), {}),
        "bits.pbm": (picture.convert("1"), {}),
    }
    if features.check("avif"):  # images from the web often have the wrong extension
        kinds["avif.jpg"] = (picture, {"format": "AVIF"})
    found = {}
    for name, (image, options) in kinds.items():
        out = io.BytesIO()
        kind = str(options.pop("format", "") or Image.registered_extensions()[Path(name).suffix])
        image.save(out, kind, **options)
        found[name] = out.getvalue()
    return found


def torture_pictures(folder: Path, count: int, seed: int = 0) -> PictureResult:
    """Damage images and check them with the real command.

    Args:
        folder: an empty folder for the files; emptied again.
        count: number of damaged files.
        seed: random seed of the damage.

    Returns:
        how many files were decoded, reported or lost, and the peak memory.
    """
    chance, sound = random.Random(seed), sound_pictures()
    names, began = sorted(sound), time.monotonic()
    named = decoded = crashes = hangs = peak = 0
    lost: list[str] = []
    reasons: Counter[str] = Counter()
    for first in range(0, count, BATCH):
        data = folder / f"batch-{first}"
        for split in ("train", "valid", "test"):  # what a study needs at least
            for kind in ("a", "b"):
                (data / split / kind).mkdir(parents=True)
                (data / split / kind / "sound.png").write_bytes(sound["rgb.png"])
        damaged = []
        for number in range(first, min(count, first + BATCH)):
            name = names[number % len(names)]
            path = data / "train" / "ab"[number % 2] / f"{number}-{name}"
            other = sound[chance.choice(names)]
            path.write_bytes(mutate_bytes(sound[name], chance, other))
            damaged.append(path.relative_to(data).as_posix())
        code, told, high = _check(data)
        peak = max(peak, high)
        hangs += code is None
        crashes += code not in (0, None)
        unreadable = dict(re.findall(r"^unreadable: (\S+) \((.*)\)$", told, re.MULTILINE))
        kept = re.search(r"^\s*2 classes\s+(\d+)\s", told, re.MULTILINE)
        alive = int(kept[1]) - 2 if kept else 0
        missing = len(damaged) - len(unreadable) - alive
        if code == 0 and (missing or set(unreadable) - set(damaged)):
            lost.append(f"{data.name}: {missing} of {len(damaged)} neither decoded nor named")
        named, decoded = named + len(unreadable), decoded + alive
        reasons.update(re.sub(r"\d[\d,.]*", "N", reason)[:60] for reason in unreadable.values())
        shutil.rmtree(data)
    return PictureResult(
        files=count,
        formats=len(names),
        named=named,
        decoded=decoded,
        lost=tuple(lost),
        crashes=crashes,
        hangs=hangs,
        peak_mib=peak,
        seconds=time.monotonic() - began,
        reasons=tuple(reasons.most_common(12)),
    )


# prints the peak memory of the command after its own output
_MEASURED = r"""
import pathlib, re, resource, sys
from podium.cli.app import main
code = main(sys.argv[1:])
sys.stdout.flush()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
status = pathlib.Path("/proc/self/status")
if status.is_file():  # Linux's ru_maxrss begins with the peak of the process that started us
    peak = int(re.search(r"VmHWM:\s*(\d+)", status.read_text())[1])
print("peak", peak // 1024)
sys.exit(code)
"""


def _check(data: Path) -> tuple[int | None, str, int]:
    """Exit code (None: it hung), output, and peak memory in MiB."""
    command = [sys.executable, "-c", _MEASURED, "data", "check", str(data)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return None, "", 0
    told = done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
    peak = re.search(r"^peak (\d+)$", told, re.MULTILINE)
    return done.returncode, told, int(peak[1]) if peak else 0
