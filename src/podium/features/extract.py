"""A model without its classifier, run over the images of a split; the result is cached."""

from __future__ import annotations

import contextlib
import copy
import hashlib
from collections.abc import Callable, Generator, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from podium.config.registry import MODELS
from podium.data.dataset import ImageDataset
from podium.data.index import DataIndex
from podium.data.transforms import Normalization, eval_transform
from podium.features.disk import FeatureStore, Floats
from podium.features.network import FeaturesOfParts, FrozenNetwork, Named, View
from podium.features.threads import in_threads
from podium.models import BuiltModel
from podium.runtime.events import EvaluateProgress, Notify, StopRequest, silent
from podium.runtime.memory import recycled_memory
from podium.runtime.parts import Parts, once

FORMAT = 1  # increase it whenever features change

PART = 512  # images per part; the most that a kill loses, a few seconds
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
        parts: what computes instead, on other machines with a device of that kind; None: nothing.
    """

    def __init__(
        self,
        built: BuiltModel,
        *,
        size: int,
        normalization: Normalization,
        device: torch.device,
        parts: Parts | None = None,
    ) -> None:
        self.name, self.size, self.normalization = built.name, size, normalization
        self.device, self.parts = device, parts
        module = copy.deepcopy(built.module).cpu().float().eval()
        without_classifier(module, built.classifier)
        self.digest = _digest(module)
        self.network = FrozenNetwork(module, size, built.channels, normalization, device)
        self.stores: list[Path] = []  # what this network uses is not removed for what it adds

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
        error = self.network.bf16_error
        return error(images) if self.parts is None else once(self.parts, error, images)

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
        parts: dict[int, Floats] = {}
        computed = self.each_part(
            index,
            split,
            parts.__setitem__,
            precision=precision,
            view=view,
            notify=notify,
            stop=stop,
        )
        return np.concatenate([parts[at] for at in sorted(parts)]), computed

    def each_part(
        self,
        index: DataIndex,
        split: str,
        put: Callable[[int, Floats], None],
        *,
        precision: str = "fp32",
        view: View = "plain",
        notify: Notify = silent,
        stop: StopRequest | None = None,
    ) -> int:
        """Compute or read the features of a split as `features` does, a part at a time.

        Args:
            index: the images.
            split: the split to compute.
            put: receives the place of a part's first image in the split, and the part's features,
                float32 of shape (m, ...); those in the cache come first.
            precision: fp32 or bf16, of the network.
            view: the image as evaluation sees it, or its mirror image.
            notify: receives the progress: number of images done.
            stop: checked after every batch.

        Returns:
            The number of images that were not in the cache.

        Raises:
            KeyboardInterrupt: `stop` was set; finished parts are kept.
            UnreadableImageError: an image can no longer be read.
        """
        total = len(index.splits[split])
        store = FeatureStore(
            f"{self.name}-{self.size}", self._depends(index, split, precision, view)
        )
        missing, done = list(range(0, total, PART)), 0
        for ask in (False, True):
            if ask and missing:
                store.borrow()
            wanted, missing = missing, []
            for at in wanted:
                kept = store.read(at // PART, min(PART, total - at))
                if kept is None:
                    missing.append(at)
                else:
                    put(at, kept)
                    done += len(kept)
        notify(EvaluateProgress("features", done, total))
        entries = index.splits[split].entries()

        def named(at: int) -> list[Named]:
            numbers = range(at, min(at + PART, total))
            return [Named(entries.paths[n], entries.digest(n)) for n in numbers]

        work = FeaturesOfParts(self.network, precision, view, index.reader, index.windows)
        found: list[Floats] = []
        with (
            contextlib.closing(self._computed(work, map(named, missing))) as results,
            recycled_memory(),
        ):
            at, rest = 0, iter(missing)
            for values in results:
                at = at if found else next(rest)
                found.append(values)
                done += len(values)
                if sum(map(len, found)) == min(PART, total - at):
                    whole = np.concatenate(found)
                    put(at, whole)
                    store.write(at // PART, whole, bf16=precision == "bf16")
                    found = []
                notify(EvaluateProgress("features", done, total))
                if stop is not None and stop.is_set():
                    raise KeyboardInterrupt
        self.stores.append(store.path)
        store.used(keep=self.stores)
        return sum(min(PART, total - at) for at in missing)

    def _computed(
        self, work: FeaturesOfParts, parts: Iterator[list[Named]]
    ) -> Generator[Floats, None, None]:
        """The features of parts, batch after batch, or part after part from other machines."""
        if self.parts is not None:
            return self.parts.map(work, parts)
        self.network.use(work.precision)  # created here: threads would create several
        size = self.network.batch
        # batches do not depend on what is cached, so the features are bit-identical
        batches = (part[at : at + size] for part in parts for at in range(0, len(part), size))
        return in_threads(work.batch, batches)

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
