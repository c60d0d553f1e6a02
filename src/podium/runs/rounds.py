"""How many seeds a study has come to, which with `seeds: auto` only its folder tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podium.config.seeds import FIRST_SEEDS
from podium.runs.folder import StudyFolder

if TYPE_CHECKING:
    from podium.config.settings import StudySpec


def reached_seeds(folder: StudyFolder, spec: StudySpec) -> tuple[int, ...]:
    """The seeds of a study; with `seeds: auto`, those of the rounds that were begun.

    Args:
        folder: the study's folder.
        spec: the study, as `StudyFolder.read_spec` returns it.
    """
    if spec.seeds != "auto":
        return spec.seeds
    begun = {run.seed for run in folder.runs(spec) if run.path.is_dir()}
    return spec.every_seed[: max(FIRST_SEEDS, 1 + max(begun, default=0))]
