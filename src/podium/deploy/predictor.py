"""Pictures in, calibrated probabilities out: what prediction, exports and the server share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from podium.config.settings import Machine
from podium.data.grey import OWN_WINDOWS, GreyWindows
from podium.data.transforms import eval_transform, prepare
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
    """A class and its calibrated probability, 0 to 1."""

    name: str
    probability: float


@dataclass(frozen=True)
class Predictor:
    """A trained model that takes pictures as evaluation does, and answers with probabilities.

    Attributes:
        class_names: in the order of the logits.
        image_size: side of the square that pictures are squeezed to, pixels.
        temperature: what logits are divided by before softmax; fitted on validation images.
        compute: from uint8 pixels of shape (n, S, S, 3), RGB, to float32 logits of shape
            (n, classes). Thread-safe.
        name: what to call it: the contender, or the file.
        windows: what pictures are to be decoded with.
    """

    class_names: tuple[str, ...]
    image_size: int
    temperature: float
    compute: Callable[[Pixels], Logits]
    name: str = ""
    windows: GreyWindows = OWN_WINDOWS

    def pixels(self, picture: Image.Image) -> Pixels:
        """What the model sees of a picture: uint8 of shape (S, S, 3).

        Args:
            picture: of mode RGB, as `podium.data.images.load_rgb` and `decode_rgb` give it with
                these `windows`.
        """
        return eval_transform(self.image_size).source(picture)

    def probabilities(self, logits: Logits) -> npt.NDArray[np.float64]:
        """Calibrated probabilities of shape (n, classes): softmax of logits / temperature."""
        return softmax(logits, self.temperature)

    def predict(self, pictures: list[Image.Image], top: int = 5) -> list[list[Guess]]:
        """The `top` likeliest classes of each picture, the likeliest first.

        Args:
            pictures: of mode RGB, any sizes.
            top: at least 1; more than there are classes means all of them.
        """
        if not pictures:
            return []
        logits = self.compute(np.stack([self.pixels(picture) for picture in pictures]))
        return [self.best(row, top) for row in self.probabilities(logits)]

    def best(self, probabilities: npt.NDArray[np.float64], top: int = 5) -> list[Guess]:
        """The `top` likeliest classes of one picture; of equals, the first in `class_names`.

        Args:
            probabilities: shape (classes,).
            top: at least 1.
        """
        order = np.argsort(-probabilities, kind="stable")[:top]
        return [Guess(self.class_names[i], float(probabilities[i])) for i in order]


def load_predictor(
    run: RunFolder | str | Path, *, device: str = "auto"
) -> tuple[Predictor, TrainedModel]:
    """A run's best epoch, ready to predict; and the model itself, for what needs its inside.

    Args:
        run: a run's folder, `runs/<study>/<contender>/seed-<n>`.
        device: as in `Machine`.

    Raises:
        RunFolderError: there is no trained model in `run`, or it is damaged.
        ConfigError: the device is not there.
    """
    folder = choose_run(run)
    place = choose_device(Machine(device=device)).torch
    model = load_run(folder, place)
    network = folded_if_equal(model.module, model.image_size, place)

    def compute(pixels: Pixels) -> Logits:
        mean, std = model.normalization or (None, None)
        writable = np.require(pixels, np.uint8, "W")  # torch warns of an array that is not
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
