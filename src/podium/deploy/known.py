"""What its classes look like to a run's model: computed once, from the study's images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch

from podium.data.images import decode_picture
from podium.data.source import Reader
from podium.data.transforms import eval_transform, prepare
from podium.deploy.export.images import source_of, spread
from podium.deploy.find.hub import KNOWN
from podium.deploy.similarity import Featured, KnownImages, WithSimilarity
from podium.errors import ConfigError, RunFolderError
from podium.evaluation.description import classifier_of, read_description
from podium.evaluation.inference import score
from podium.evaluation.trained import TrainedModel
from podium.runs.folder import RunFolder
from podium.runtime.threads import in_order

OF_A_CLASS = 20
"""Training images of each class whose mean stands for it; all of them gained little, see
`docs/single-pictures.md`."""

MOST_VALID = 2000
"""Validation images, evenly spaced, that the threshold comes from: further ones would change the
share that is kept by less than a point."""

_BATCH = 16

Tell = Callable[[str], None]


def featured(run: RunFolder, model: TrainedModel, device: torch.device) -> Featured:
    """A run's model with its features.

    Args:
        run: the run.
        model: its model.
        device: where the model is.

    Raises:
        ConfigError: the model has no features that images could be compared by.
    """
    found = read_description(run.model)
    if found.trained_by in ("ensemble", "mean"):
        raise ConfigError(
            f"--keep: {run.path} averages {found.members} models, which have no features in "
            "common. Give the run of a single model, or omit --keep."
        )
    side, channels = model.image_size, model.windows.inputs
    generator = torch.Generator().manual_seed(0)
    sample = torch.rand(2, channels, side, side, generator=generator).to(device)
    return Featured(model.module, classifier_of(found), sample)


def with_similarity(
    run: RunFolder, model: TrainedModel, device: torch.device, known: KnownImages
) -> WithSimilarity:
    """A run's model that also returns how similar images are to its training images.

    Args:
        run: the run.
        model: its model.
        device: where the model is.
        known: of the run.

    Raises:
        RunFolderError: they are of another model: a file from the Hub may hold anything.
    """
    parts = featured(run, model, device)
    side, channels = model.image_size, model.windows.inputs
    with torch.inference_mode():
        width = parts(torch.zeros(1, channels, side, side, device=device))[1].shape[1]
    if known.means.shape[1] != width:
        raise RunFolderError(
            f"{run.path / KNOWN} is damaged: expected {width} features of each class, got "
            f"{known.means.shape[1]}. Remove it, or omit --keep."
        )
    return WithSimilarity(parts, known.means.to(device)).eval()


def known_images(
    run: RunFolder, model: TrainedModel, device: torch.device, tell: Tell = lambda text: None
) -> KnownImages:
    """Read them from the run's folder, or compute them from the study's images and keep them there.

    Args:
        run: the run.
        model: its model, on `device`.
        device: where to compute.
        tell: called with a sentence before the images are read.

    Raises:
        ConfigError: the model was trained on all images, or has no features of its own; or the
            study's images are missing.
        RunFolderError: the run is not part of a study.
    """
    kept = run.path / KNOWN
    if (stored := KnownImages.read(kept, run.best)) is not None:
        return stored
    if read_description(run.model).trained_by == "refit" or run.fold is not None:
        raise ConfigError(
            f"--keep: {run.path} was trained in a cross-validation. No images of the study were "
            "held out from this model, which would show what it takes for its own classes."
        )
    source = source_of(run, None, model.windows.channels)
    by_class = run.study.read_training_images() if source is not None else {}
    if source is None or not by_class:
        raise ConfigError(
            f"--keep compares images with those that {run.path} was trained on, and they are "
            "missing. Put them back, or use a run whose folder has the file known.safetensors, "
            "which `podium push` publishes, too."
        )
    valid = spread(run.read_predictions("valid").paths, MOST_VALID)
    of_class = [spread(paths, OF_A_CLASS) for _, paths in sorted(by_class.items())]
    train = [path for paths in of_class for path in paths]
    tell(
        f"Looking once at {len(train):,} training and {len(valid):,} validation images, to tell "
        "others from them."
    )
    parts = featured(run, model, device)
    reader = Reader(source)

    def look(path: str) -> npt.NDArray[np.uint8]:
        picture = decode_picture(reader.read(path), path, model.windows)
        return eval_transform(model.image_size).source(picture)

    def run_on(
        paths: Sequence[str], network: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        pixels, found = in_order(look, paths), []
        while batch := list(islice(pixels, _BATCH)):
            images = torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2).to(device)
            with torch.inference_mode():
                inputs = prepare(images, *(model.normalization or (None, None)))
                inputs = inputs.contiguous(memory_format=torch.channels_last)
                found.append(network(inputs).cpu())
        return torch.cat(found)

    features = run_on(train, lambda inputs: parts(inputs)[1])
    of_each = torch.split(features, [*map(len, of_class)])
    means = torch.stack([one.mean(0) for one in of_each])
    means = means / means.norm(dim=1, keepdim=True).clamp_min(1e-12)
    network = WithSimilarity(parts, means.to(device)).eval()
    similar = run_on(valid, lambda inputs: score(network, inputs, flip=model.flip_test)[:, -1])
    made = KnownImages(means, similar.double().numpy())
    made.write(kept, run.best)
    return made
