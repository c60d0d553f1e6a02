"""A model without its classifier, run over the images of a split; the result is cached."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import threading
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from podium.config.registry import MODELS
from podium.data.dataset import ImageDataset
from podium.data.index import DataIndex
from podium.data.transforms import Normalization, eval_transform, prepare
from podium.features.disk import FeatureStore, Floats
from podium.features.folding import folded_if_equal
from podium.features.threads import in_threads
from podium.models import BuiltModel
from podium.runtime.events import EvaluateProgress, Notify, StopRequest, silent

View = Literal["plain", "mirrored"]

FORMAT = 1  # increase it whenever features change

PART = 512  # images per part; the most that a kill loses, a few seconds
_CPU_BATCH = 8  # measured at 224 px: 4 and 16 are a quarter slower
_GPU_BATCH = 64

BF16_TOLERANCE = 0.1  # mean over images; bf16 has 8 bits, and 50 layers add up to about 4 %
_SAMPLE = 16  # images that bf16 is checked on
_WORTH_CHECKING = 1000  # images: for fewer, checking bf16 takes longer than computing in fp32


class Backbone:
    """A copy of a model without its classifier, in evaluation mode.

    Args:
        built: the model, with its current weights; not changed.
        size: side of its input images, pixels.
        normalization: of the inputs.
        device: where to compute.
    """

    def __init__(
        self, built: BuiltModel, *, size: int, normalization: Normalization, device: torch.device
    ) -> None:
        self.name, self.size, self.normalization = built.name, size, normalization
        self.device = device
        module = copy.deepcopy(built.module).float().eval()
        without_classifier(module, built.classifier)
        self.digest = _digest(module)
        module = module.to(device).to(memory_format=torch.channels_last)
        self.networks = {"fp32": folded_if_equal(module, size, device, built.channels)}
        # a GPU runs one batch at a time; on a CPU every thread has its own core
        self._turn = contextlib.nullcontext() if device.type == "cpu" else threading.Lock()

    def bf16_error(self, index: DataIndex, split: str) -> float:
        """Measure the error of bf16 features on a few images spread over a split.

        Args:
            index: the images.
            split: the split to sample from.

        Returns:
            Relative L2 distance to fp32, mean over images; infinite if one is not finite.
        """
        numbers = np.linspace(0, len(index.splits[split]) - 1, _SAMPLE).astype(int)
        dataset = ImageDataset(index, split, eval_transform(self.size), None)
        images = torch.stack([dataset[int(number)][0] for number in numbers])
        exact, rounded = (self._run(images, p, "plain") for p in ("fp32", "bf16"))
        far = np.linalg.norm((rounded - exact).reshape(_SAMPLE, -1), axis=1)
        error = far / np.linalg.norm(exact.reshape(_SAMPLE, -1), axis=1).clip(1e-12)
        return float(error.mean()) if np.isfinite(error).all() else float("inf")

    def precision_for(self, index: DataIndex, split: str, wanted: str) -> tuple[str, str]:
        """Choose the precision of a split's features: bf16 if requested, useful and accurate.

        Args:
            index: the images.
            split: the split to compute.
            wanted: the requested precision.

        Returns:
            `(precision, reason)`: fp32 or bf16, and the reason to report, '' for none.
        """
        if wanted != "bf16" or len(index.splits[split]) < _WORTH_CHECKING:
            return "fp32", ""
        error = self.bf16_error(index, split)
        if error < BF16_TOLERANCE:
            return "bf16", f"training images in bf16, within {100 * error:.2g} % of fp32"
        return "fp32", f"in fp32, since bf16 is off by {100 * error:.2g} %"

    def features(
        self,
        index: DataIndex,
        split: str,
        *,
        precision: str = "fp32",
        view: View = "plain",
        notify: Notify = silent,
        stop: StopRequest | None = None,
    ) -> tuple[Floats, int]:
        """Compute the features of every image of a split, or read them from the cache.

        Args:
            index: the images.
            split: the split to compute.
            precision: fp32 or bf16, of the network.
            view: the image as evaluation sees it, or its mirror image.
            notify: receives the progress: number of images done.
            stop: checked after every batch.

        Returns:
            `(values, computed)`: float32 of shape (n, ...) in the order of the split, and the
            number of images that were not in the cache.

        Raises:
            KeyboardInterrupt: `stop` was set; finished parts are kept.
            UnreadableImageError: an image can no longer be read.
        """
        paths = index.splits[split].paths
        store = FeatureStore(
            f"{self.name}-{self.size}", self._depends(index, split, precision, view)
        )
        starts = range(0, len(paths), PART)
        parts = {at: store.read(at // PART, len(paths[at : at + PART])) for at in starts}
        missing = [at for at in starts if parts[at] is None]
        done = sum(len(part) for part in parts.values() if part is not None)
        notify(EvaluateProgress("features", done, len(paths)))
        dataset = ImageDataset(index, split, eval_transform(self.size), None)
        batch = _CPU_BATCH if self.device.type == "cpu" else _GPU_BATCH

        def compute(numbers: range) -> Floats:
            return self._run(torch.stack([dataset[n][0] for n in numbers]), precision, view)

        # batches do not depend on what is cached, so the features are bit-identical
        work = [
            range(first, min(first + batch, at + PART, len(paths)))
            for at in missing
            for first in range(at, min(at + PART, len(paths)), batch)
        ]
        self._network(precision)  # created here: threads would create several
        found: list[Floats] = []
        with contextlib.closing(in_threads(compute, work)) as results:
            for numbers, values in zip(work, results, strict=True):
                found.append(values)
                at = numbers.start // PART * PART
                if numbers.stop in (at + PART, len(paths)):
                    parts[at] = whole = np.concatenate(found)
                    store.write(at // PART, whole, bf16=precision == "bf16")
                    found = []
                done += len(numbers)
                notify(EvaluateProgress("features", done, len(paths)))
                if stop is not None and stop.is_set():
                    raise KeyboardInterrupt
        store.used()
        return np.concatenate([p for p in parts.values() if p is not None]), sum(
            len(numbers) for numbers in work
        )

    def _run(self, images: torch.Tensor, precision: str, view: View) -> Floats:
        network = self._network(precision)
        mean, std = self.normalization or (None, None)
        with self._turn, torch.inference_mode():
            inputs = prepare(images.to(self.device), mean, std)
            inputs = inputs.flip(3) if view == "mirrored" else inputs
            inputs = inputs.to(torch.bfloat16) if precision == "bf16" else inputs
            values = network(inputs.contiguous(memory_format=torch.channels_last))
            return np.asarray(values.float().cpu().numpy())

    def _network(self, precision: str) -> nn.Module:
        if precision not in self.networks:
            self.networks[precision] = copy.deepcopy(self.networks["fp32"]).to(torch.bfloat16)
        return self.networks[precision]

    def _depends(self, index: DataIndex, split: str, precision: str, view: View) -> dict[str, Any]:
        content = hashlib.sha256()
        for digest in index.pixel_digests(split):  # the images' contents, not their names
            content.update(f"{digest.tobytes().hex()}\n".encode())
        code = MODELS.provenance(self.name)  # a user's model may change
        return {
            **({} if code is None else {"code": code}),
            "format": FORMAT,
            "images": content.hexdigest(),
            "model": self.name,
            "weights": self.digest,
            "size": self.size,
            "normalization": self.normalization,
            "view": view,
            "precision": precision,
            "device": self.device.type,
            "versions": [version(name) for name in ("torch", "torchvision", "timm", "pillow")],
        }


def without_classifier(module: nn.Module, classifier: str) -> tuple[nn.Module, nn.Module]:
    """Replace the classifier with an identity.

    Args:
        module: changed in place.
        classifier: its name in the module.

    Returns:
        `(parent, head)`: the module that held the classifier, and the classifier.
    """
    parent_name, _, name = classifier.rpartition(".")
    parent, head = module.get_submodule(parent_name), module.get_submodule(classifier)
    setattr(parent, name, nn.Identity())
    return parent, head


def _digest(module: nn.Module) -> str:
    """SHA-256 over names and values of all tensors."""
    total = hashlib.sha256()
    for name, value in module.state_dict().items():
        total.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        total.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return total.hexdigest()
