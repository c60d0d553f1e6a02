"""Make the report of records that were kept without weights and images.

    python -m benchmarks.records benchmarks/results/sports100 --into FOLDER

The images come back from the data set, and the heat maps from raw numbers (`heat.npz`), which
`benchmarks.gpu` wrote. Everything else is what the runs wrote.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from podium.data.images import load_rgb, thumbnail_jpeg
from podium.data.index import DataIndex
from podium.data.indexing import build_index
from podium.evaluation.gradcam import overlay
from podium.reporting import build_report
from podium.runs.folder import StudyFolder
from podium.runs.pictures import write_pictures
from podium.study.explain import SIDE
from podium.study.pictures import store_pictures

__all__ = ["main", "restore"]


def restore(records: Path, index: DataIndex, into: Path) -> StudyFolder:
    """Copy a study's records, and draw its small images and heat maps again.

    Args:
        records: the study's folder, without weights and images.
        index: of the images that the study was run on.
        into: the folder to make; it must not exist.
    """
    shutil.copytree(records, into)
    folder = StudyFolder(into)
    store_pictures(folder, index)
    for run in folder.runs(folder.read_spec()):
        heat = run.path / "heat.npz"
        if heat.is_file():
            write_pictures(run.explanations, _maps(heat, index))
            heat.unlink()
    return folder


def _maps(heat: Path, index: DataIndex) -> Iterator[tuple[str, bytes]]:
    """Key and JPEG of each map, as `podium.study.explain` writes them."""
    with np.load(heat) as found:
        for key, numbers in zip(found["keys"].tolist(), found["heat"], strict=True):
            path = key.removesuffix("#label")
            image = load_rgb(index.root / path, name=path)
            image.thumbnail((SIDE, SIDE))
            yield key, thumbnail_jpeg(overlay(image, numbers.astype(np.float32) / 255), SIDE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Restore records and build their report.

    Args:
        arguments: of the command line; None: those of this process.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", type=Path, help="folder of the study's records")
    parser.add_argument("--data", default="sports100", help="the study's images (sports100)")
    parser.add_argument("--into", type=Path, required=True, help="folder to make")
    parser.add_argument("--page", action="store_true", help="without files of the figures")
    parser.add_argument("--lang", choices=("en", "pt"), default="en", help="of the report")
    given = parser.parse_args(arguments)
    folder = restore(given.records, build_index(given.data), given.into)
    formats = () if given.page else ("png", "pdf")
    print(build_report(folder, lang=given.lang, formats=formats).index)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
