"""A network without its classifier, on this machine or sent to others, which compute parts."""

from __future__ import annotations

import contextlib
import copy
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

from podium.config.machine import Machine
from podium.data.checking import load_checked
from podium.data.grey import GreyWindows
from podium.data.source import Reader
from podium.data.transforms import Normalization, eval_transform, prepare
from podium.errors import DataError, UnreadableImageError
from podium.features.disk import Floats
from podium.features.folding import folded_if_equal
from podium.features.threads import in_threads
from podium.runtime.device import choose_device, choose_precision
from podium.runtime.parts import SEEN_BY_ALL

View = Literal["plain", "mirrored"]

_CPU_BATCH = 8  # measured at 224 px: 4 and 16 are a quarter slower
_GPU_BATCH = 64


@dataclass(frozen=True)
class Named:
    """An image: its name in the source, and the SHA-256 that its file has."""

    path: str
    digest: str


class FrozenNetwork:
    """A network in evaluation mode, from images to features.

    Where it is sent, it is put on the first device of the same kind.

    Args:
        module: on the CPU; not changed.
        size: side of its input images, pixels.
        channels: of its input images.
        normalization: of the inputs.
        device: where to compute; nothing is put there before something is computed.
    """

    def __init__(
        self,
        module: nn.Module,
        size: int,
        channels: int,
        normalization: Normalization,
        device: torch.device,
    ) -> None:
        self.module, self.size, self.channels = module, size, channels
        self.normalization, self.device = normalization, device
        self._networks: dict[str, nn.Module] = {}
        # a GPU runs one batch at a time; on a CPU every thread has its own core
        self._turn = contextlib.nullcontext() if device.type == "cpu" else threading.Lock()

    def __reduce__(self) -> tuple[type[FrozenNetwork], tuple[object, ...]]:
        place = torch.device(self.device.type)
        return type(self), (self.module, self.size, self.channels, self.normalization, place)

    @property
    def batch(self) -> int:
        """Number of images that are computed at a time; it may decide the last bits."""
        return _CPU_BATCH if self.device.type == "cpu" else _GPU_BATCH

    def use(self, precision: str) -> nn.Module:
        """The network in a precision; made once, so call this before threads do.

        Args:
            precision: fp32 or bf16.
        """
        if "fp32" not in self._networks:
            module = copy.deepcopy(self.module).to(self.device)
            module = module.to(memory_format=torch.channels_last)
            folded = folded_if_equal(module, self.size, self.device, self.channels)
            self._networks["fp32"] = folded
        if precision not in self._networks:
            self._networks[precision] = copy.deepcopy(self._networks["fp32"]).to(torch.bfloat16)
        return self._networks[precision]

    def run(self, images: torch.Tensor, precision: str, view: View) -> Floats:
        """Compute the features of a batch.

        Args:
            images: uint8 of shape (n, channels, size, size).
            precision: fp32 or bf16.
            view: the images as evaluation sees them, or their mirror images.

        Returns:
            float32 of shape (n, ...).
        """
        network = self.use(precision)
        mean, std = self.normalization or (None, None)
        with self._turn, torch.inference_mode():
            inputs = prepare(images.to(self.device), mean, std)
            inputs = inputs.flip(3) if view == "mirrored" else inputs
            inputs = inputs.to(torch.bfloat16) if precision == "bf16" else inputs
            values = network(inputs.contiguous(memory_format=torch.channels_last))
            return np.asarray(values.float().cpu().numpy())

    def bf16_error(self, images: torch.Tensor) -> float:
        """Relative L2 distance of bf16 features from fp32, mean over images.

        Args:
            images: uint8 of shape (n, channels, size, size).

        Returns:
            The mean; infinite if a feature is not finite.
        """
        exact, rounded = (self.run(images, one, "plain") for one in ("fp32", "bf16"))
        far = np.linalg.norm((rounded - exact).reshape(len(images), -1), axis=1)
        error = far / np.linalg.norm(exact.reshape(len(images), -1), axis=1).clip(1e-12)
        return float(error.mean()) if np.isfinite(error).all() else float("inf")


@dataclass(frozen=True)
class PrecisionOf:
    """Chooses the precision of a training, on the machine where it is called.

    Args:
        machine: its `precision` is the one asked for, its `device` of the kind that computes.
        size: side of the images, pixels.
        channels: of the images.
    """

    machine: Machine
    size: int
    channels: int = 3

    def __call__(self, module: nn.Module) -> str:
        """The precision.

        Args:
            module: the model.
        """
        device = choose_device(self.machine)
        return choose_precision(self.machine, device, module, self.size, self.channels)[0]


@dataclass
class FeaturesOfParts:
    """Computes the features of parts of the images: the work of other machines."""

    network: FrozenNetwork
    precision: str
    view: View
    reader: Reader
    windows: GreyWindows

    def images(self, those: Sequence[Named]) -> torch.Tensor:
        """Read images.

        Args:
            those: the images.

        Returns:
            uint8 of shape (n, channels, size, size).

        Raises:
            UnreadableImageError: a file cannot be read, or has changed.
        """
        transform = eval_transform(self.network.size)
        return torch.stack(
            [
                transform(load_checked(self.reader, one.path, one.digest, self.windows))
                for one in those
            ]
        )

    def batch(self, those: Sequence[Named]) -> Floats:
        """The features of as many images as are computed at a time."""
        return self.network.run(self.images(those), self.precision, self.view)

    def __call__(self, part: Sequence[Named]) -> Floats:
        """The features of a part, in the batches that one machine would make.

        Args:
            part: the images.

        Returns:
            float32 of shape (n, ...).

        Raises:
            DataError: an image cannot be read here.
        """
        self.network.use(self.precision)  # created here: threads would create several
        size = self.network.batch
        batches = [part[at : at + size] for at in range(0, len(part), size)]
        try:
            return np.concatenate(list(in_threads(self.batch, batches)))
        except UnreadableImageError as error:
            raise DataError(f"{socket.gethostname()}: {error}. {SEEN_BY_ALL}") from None
