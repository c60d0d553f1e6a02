"""Images in, calibrated probabilities out: shared by prediction, exports and the server."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from podium.config.machine import Machine
from podium.data.bands import Picture
from podium.data.grey import OWN_WINDOWS, GreyWindows
from podium.data.transforms import Normalization, eval_transform, prepare
from podium.deploy.known import known_images, with_similarity
from podium.deploy.sets import Wanted
from podium.errors import DataError, RunFolderError
from podium.evaluation.inference import score
from podium.evaluation.trained import TrainedModel, load_run
from podium.features.folding import folded_if_equal
from podium.runs.find import choose_run
from podium.runs.folder import RunFolder
from podium.runs.predictions import softmax
from podium.runtime.device import choose_device
from podium.statistics.conformal import KnownRule, SetRule

Pixels = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Guess:
    """A class and its calibrated probability, 0 to 1.

    Examples:
        >>> import podium
        >>> guess = podium.Guess("judo", 0.93)
        >>> f"{guess.name}: {guess.probability:.0%}"
        'judo: 93%'
    """

    name: str
    probability: float


@dataclass(frozen=True)
class Predictor:
    """A trained model that takes images as evaluation does, and returns probabilities.

    Attributes:
        class_names: names of the classes, in the order of the logits.
        image_size: side of the square that images are resized to, pixels.
        temperature: divides the logits before softmax; fitted on validation images.
        compute: from uint8 pixels of shape (n, S, S, channels), RGB unless `windows` says
            otherwise, to float32 logits of shape (n, classes); with `known`, a further column has
            the similarity to training images. Thread-safe.
        name: display name: the contender, or the file.
        windows: how to decode images with grey values deeper than 8 bit, and with which channels.
        sets: decides which classes are in the set of an image; None: no sets are wanted.
        known: decides which images are none of the classes; None: that is not wanted.
        network: the module that adds the column of similarities; None: there is none, or this is
            an export.
    """

    class_names: tuple[str, ...]
    image_size: int
    temperature: float
    compute: Callable[[Pixels], Logits]
    name: str = ""
    windows: GreyWindows = OWN_WINDOWS
    sets: SetRule | None = None
    known: KnownRule | None = None
    network: nn.Module | None = None

    def pixels(self, picture: Picture) -> Pixels:
        """The model's input for an image: uint8 of shape (S, S, channels).

        Args:
            picture: image of mode RGB, or of the model's channels, as returned by
                `podium.data.images.load_picture` and `decode_picture` with these `windows`.

        Raises:
            DataError: it has other channels than the model.
        """
        found = eval_transform(self.image_size).source(picture)
        if found.ndim != 3 or found.shape[2] != self.windows.inputs:
            got = f"{found.shape[2]}" if found.ndim == 3 else "1"
            raise DataError(f"Expected an image of {self.windows.inputs} channels, got {got}.")
        return found

    def probabilities(self, logits: Logits) -> npt.NDArray[np.float64]:
        """Calibrated probabilities of shape (n, classes): softmax of logits / temperature.

        Args:
            logits: as `compute` returns them; a column of similarities is not used.
        """
        return softmax(logits[:, : len(self.class_names)], self.temperature)

    def foreign(self, logits: Logits) -> npt.NDArray[np.bool_] | None:
        """Whether each image is none of the classes, shape (n,); None without `known`.

        Args:
            logits: as `compute` returns them.
        """
        return None if self.known is None else self.known.foreign(logits[:, -1].astype(np.float64))

    def predict(self, pictures: Sequence[Picture], top: int = 5) -> list[list[Guess]]:
        """The `top` most likely classes of each image, the most likely first.

        Args:
            pictures: images of mode RGB, or of the model's channels, any sizes.
            top: at least 1; more than the number of classes means all.
        """
        if not pictures:
            return []
        logits = self.compute(np.stack([self.pixels(picture) for picture in pictures]))
        return [self.best(row, top) for row in self.probabilities(logits)]

    def best(self, probabilities: npt.NDArray[np.float64], top: int = 5) -> list[Guess]:
        """The `top` most likely classes of one image; of ties, the first in `class_names`.

        Args:
            probabilities: shape (classes,).
            top: at least 1.
        """
        order = np.argsort(-probabilities, kind="stable")[:top]
        return [Guess(self.class_names[i], float(probabilities[i])) for i in order]

    def candidates(self, probabilities: npt.NDArray[np.float64]) -> list[Guess]:
        """The classes in the set of one image, the most likely first; empty without `sets`.

        Args:
            probabilities: shape (classes,).
        """
        if self.sets is None:
            return []
        inside = self.sets.members(probabilities[None])[0]
        order = np.argsort(-probabilities, kind="stable")
        return [Guess(self.class_names[i], float(probabilities[i])) for i in order if inside[i]]


class Computation:
    """A run's model, from pixels to logits: the `compute` of a `Predictor`.

    Sent to another process it computes on the CPU there, until `on` puts it on another device.

    Args:
        module: from prepared images to logits, in evaluation mode, on `device`; not changed.
        size: side of its images, pixels.
        channels: of its images.
        normalization: of its images.
        flip: whether the logits of an image and its mirror image are averaged.
        device: where to compute.
    """

    def __init__(
        self,
        module: nn.Module,
        size: int,
        channels: int,
        normalization: Normalization,
        flip: bool,
        device: torch.device,
    ) -> None:
        self.module, self.size, self.channels = module, size, channels
        self.normalization, self.flip, self.device = normalization, flip, device
        self.network = folded_if_equal(module, size, device, channels)

    def __call__(self, pixels: Pixels) -> Logits:
        mean, std = self.normalization or (None, None)
        writable = np.require(pixels, np.uint8, "W")  # torch warns about read-only arrays
        images = torch.from_numpy(writable).permute(0, 3, 1, 2).to(self.device)
        with torch.inference_mode():
            inputs = prepare(images, mean, std).contiguous(memory_format=torch.channels_last)
            return np.asarray(score(self.network, inputs, flip=self.flip).cpu().numpy())

    def on(self, kind: str) -> Computation:
        """The same on the first device of a kind.

        Args:
            kind: `cpu` or `cuda`.
        """
        device = torch.device(kind)
        module = copy.deepcopy(self.module).to(device)
        return Computation(module, self.size, self.channels, self.normalization, self.flip, device)

    def __reduce__(self) -> Any:
        module = copy.deepcopy(self.module).cpu()
        given = (self.size, self.channels, self.normalization, self.flip, torch.device("cpu"))
        return Computation, (module, *given)


def asked_for(predictor: Predictor, wanted: Wanted | None) -> Predictor:
    """An export's predictor, with no answers but those that are wanted.

    Args:
        predictor: of the export, which may give more.
        wanted: what is wanted beside probabilities; None: nothing.
    """
    sets = predictor.sets if wanted is not None and wanted.coverage is not None else None
    known = predictor.known if wanted is not None and wanted.keep is not None else None
    return replace(predictor, sets=sets, known=known)


def load_predictor(
    run: RunFolder | str | Path,
    *,
    device: str = "auto",
    wanted: Wanted | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[Predictor, TrainedModel]:
    """Load a run's best epoch for prediction.

    Args:
        run: folder of a run, `runs/<study>/<contender>/seed-<n>`.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        wanted: what is wanted beside probabilities; None: nothing.
        tell: called with a sentence before training images are looked at.

    Returns:
        `(predictor, model)`: the predictor, and the model itself, for access to its layers.

    Raises:
        RunFolderError: `run` holds no trained model, or a damaged one.
        ConfigError: the device is not available, or the validation images cannot promise the
            coverage.
    """
    folder = choose_run(run)
    sets = None if wanted is None else wanted.rule(folder)  # refused before the model is read
    place = choose_device(Machine(device=device)).torch
    model = load_run(folder, place)
    if model.sees_files:
        raise RunFolderError(
            f"{folder.path} sees only the metadata of files, to find out whether labels leak: it "
            "cannot be used on images from elsewhere. Give the folder of another contender."
        )
    module: nn.Module = model.module
    known: KnownRule | None = None
    if wanted is not None and wanted.keep is not None:
        found = known_images(folder, model, place, tell)
        known = KnownRule.of(found.valid, wanted.keep)
        module = with_similarity(folder, model, place, found)
    predictor = Predictor(
        model.class_names,
        model.image_size,
        model.temperature,
        Computation(
            module,
            model.image_size,
            model.windows.inputs,
            model.normalization,
            model.flip_test,
            place,
        ),
        folder.contender,
        model.windows,
        sets,
        known,
        None if known is None else module,
    )
    return predictor, model
