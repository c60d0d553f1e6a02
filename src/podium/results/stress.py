"""A study's contenders on corrupted images, as `podium stress` left them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from podium.errors import RunFolderError
from podium.runs.folder import StudyFolder
from podium.runs.predictions import SplitName
from podium.runs.stress import StressPredictions, stress_file
from podium.statistics.stress import Stressed, compare_stressed


def read_stress(study: StudyFolder, split: SplitName) -> Stressed:
    """Compare the contenders whose predictions on corrupted images are kept.

    Args:
        study: the study's folder.
        split: of the images.

    Raises:
        RunFolderError: there are none, or they are damaged.
    """
    found = StressPredictions.read(stress_file(study.path, split))
    spec, of = study.read_spec(), study.read_groups()
    contenders: dict[str, tuple[str, dict[int, npt.NDArray[np.int64]]]] = {}
    for (name, seed), predicted in found.predicted.items():
        if name not in spec.contenders:
            raise RunFolderError(f"{study.path} has no contender {name}. Call podium stress again.")
        contenders.setdefault(name, (spec.label(name), {}))[1][seed] = predicted
    groups = None
    units = [of.get(path, path) for path in found.paths]
    if len(set(units)) < len(units):
        groups = np.unique(units, return_inverse=True)[1].astype(np.int64)
    return compare_stressed(contenders, found.labels, found.conditions, groups)
