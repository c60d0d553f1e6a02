"""The labelled images that a trained run may be scored on, and the record that it was."""

from __future__ import annotations

from podium.auditing import index_data
from podium.data.index import DataIndex
from podium.data.indexing import build_scored_index
from podium.data.listing import Listing, listed_images
from podium.data.parts import fold_index, without_images
from podium.data.source import Source
from podium.errors import DataError, PodiumError, RunFolderError
from podium.runs.folder import RunFolder
from podium.runs.ledger import record
from podium.runs.predictions import Predictions, SplitName
from podium.runtime.events import Notify, WarningMessage
from podium.runtime.files import utc_now
from podium.statistics.metrics import scores


def index_to_score(
    run: RunFolder, source: Source, split: SplitName, channels: int | None, notify: Notify
) -> DataIndex:
    """All labelled images for a split; of the run's own data, those held out for that split.

    If the study itself split the images, their folder or table also holds training images. Scoring
    those with the others would overstate the accuracy, so those of a source without splits are
    left out, and those of a source's own split are told.

    Args:
        run: the run to score.
        source: the images.
        split: which of them, if they have splits.
        channels: of each image that is not RGB; None: RGB.
        notify: called with what is left out, or should have been.

    Raises:
        DataError: all were used in the training.
    """
    own, found, seen = None, listed_images(source, channels), set[str]()
    try:
        spec, known = run.study.read_spec().data, run.study.read_data()
        seen = run.study.read_seen(split)
        if _may_be_own(run, found, split):
            own = index_data(spec, source)
    except (PodiumError, OSError):  # a run copied out of its study, or other images
        pass
    if own is not None and own.fingerprint == known.get("fingerprint"):
        return own if own.folds is None else _fold_to_score(run, own)
    every = build_scored_index(found, split)
    unseen = without_images(every, split, seen)
    total, left = len(every.splits[split]), len(unseen.splits[split])
    why = "that the study trained on, or chose by"
    if left == total:
        return every
    if found.is_split:
        notify(WarningMessage(f"{total - left:,} of {total:,} images of {split} are images {why}"))
        return every
    if not left:
        raise DataError(
            f"All images of {every.root} are images {why}: scoring {run.path} on them says "
            "nothing. Give other images."
        )
    notify(WarningMessage(f"left out: {total - left:,} images {why}"))
    return unseen


def _fold_to_score(run: RunFolder, index: DataIndex) -> DataIndex:
    """The images that a fold's model was tested or validated on."""
    if run.fold is None:
        raise DataError(
            f"The model of {run.path} was trained on all of these images: scoring it on them says "
            f"nothing. Its accuracy is estimated by its folds ({run.predictions('test').name}); "
            "give other images, or a fold's folder."
        )
    return fold_index(index, run.fold)


def _may_be_own(run: RunFolder, found: Listing, split: SplitName) -> bool:
    """Whether these may be the images that the run was scored on; if not, none need be read."""
    scored = run.predictions(split)
    return not scored.is_file() or set(found.paths).issuperset(Predictions.read(scored).paths)


def write_down(run: RunFolder, index: DataIndex, predictions: Predictions) -> None:
    """Record the use of the test images in the study's ledger, if the run has a writable study.

    Args:
        run: the run.
        index: its images.
        predictions: of its test images.
    """
    try:
        recipe = run.read_config()["recipe"]
        record(
            run,
            images=index.split_fingerprint("test"),
            n=len(predictions),
            accuracy=scores(predictions).accuracy,
            at=utc_now(),
            recipe=recipe,
            by="evaluate",
        )
    except (OSError, RunFolderError):
        return  # a run copied out of its study, or on a read-only disk
