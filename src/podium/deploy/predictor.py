"""Images in, calibrated probabilities out: shared by prediction, exports and the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from podium.config.machine import Machine
from podium.data.bands import Picture
from podium.data.grey import OWN_WINDOWS, GreyWindows
from podium.data.transforms import eval_transform, prepare
from podium.errors import DataError, RunFolderError
from podium.evaluation.inference import score
from podium.evaluation.trained import TrainedModel, load_run
from podium.features.folding import folded_if_equal
from podium.runs.find import choose_run
from podium.runs.folder import RunFolder
from podium.runs.predictions import softmax
from podium.runtime.device import choose_device

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
            otherwise, to float32 logits of shape (n, classes). Thread-safe.
        name: display name: the contender, or the file.
        windows: how to decode images with grey values deeper than 8 bit, and with which channels.
    """

    class_names: tuple[str, ...]
    image_size: int
    temperature: float
    compute: Callable[[Pixels], Logits]
    name: str = ""
    windows: GreyWindows = OWN_WINDOWS

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
            logits: shape (n, classes).
        """
        return softmax(logits, self.temperature)

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


def load_predictor(
    run: RunFolder | str | Path, *, device: str = "auto"
) -> tuple[Predictor, TrainedModel]:
    """Load a run's best epoch for prediction.

    Args:
        run: folder of a run, `runs/<study>/<contender>/seed-<n>`.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    Returns:
        `(predictor, model)`: the predictor, and the model itself, for access to its layers.

    Raises:
        RunFolderError: `run` holds no trained model, or a damaged one.
        ConfigError: the device is not available.
    """
    folder = choose_run(run)
    place = choose_device(Machine(device=device)).torch
    model = load_run(folder, place)
    if model.sees_files:
        raise RunFolderError(
            f"{folder.path} sees only the metadata of files, to find out whether labels leak: it "
            "cannot be used on images from elsewhere. Give the folder of another contender."
        )
    network = folded_if_equal(model.module, model.image_size, place, model.windows.inputs)

    def compute(pixels: Pixels) -> Logits:
        mean, std = model.normalization or (None, None)
        writable = np.require(pixels, np.uint8, "W")  # torch warns about read-only arrays
        images = torch.from_numpy(writable).permute(0, 3, 1, 2).to(place)
        with torch.inference_mode():
            inputs = prepare(images, mean, std).contiguous(memory_format=torch.channels_last)
            return np.asarray(score(network, inputs, flip=model.flip_test).cpu().numpy())

    predictor = Predictor(
        model.class_names,
        model.image_size,
        model.temperature,
        compute,
        folder.contender,
        model.windows,
    )
    return predictor, model
