"""A frozen backbone runs once per image: its features are kept, and epochs take seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from podium.config.settings import RunSpec
from podium.data.dataset import EpochSampler, ImageDataset
from podium.data.index import DataIndex
from podium.data.loader import Batch
from podium.data.transforms import Normalization, eval_transform, prepare
from podium.features.extract import Backbone, without_classifier
from podium.features.network import View
from podium.models import BuiltModel
from podium.runtime.events import Message, Notify, StopRequest, of_part

MOST_BYTES = 4 * 2**30


@dataclass(frozen=True)
class Features:
    """The classifier's inputs: `values` of shape (n, ...), float32; `labels` of shape (n,)."""

    values: torch.Tensor
    labels: torch.Tensor

    def logits(self, head: nn.Module) -> npt.NDArray[np.float32]:
        """Compute the logits of every image; float32 of shape (n, classes).

        Args:
            head: the classifier, on any device; left in evaluation mode.
        """
        device = next(head.parameters()).device
        with torch.inference_mode():
            found: torch.Tensor = head.eval()(self.values.to(device)).float()
            return np.asarray(found.cpu().numpy())

    def in_batches(self, sampler: EpochSampler, device: torch.device) -> Iterator[Batch]:
        """Yield the sampler's batches in the format of `podium.data.loader.batches`.

        Args:
            sampler: yields the keys of the images of each batch.
            device: where the batches go.

        Yields:
            `(values, labels, numbers)`.
        """
        for keys in sampler:
            numbers = torch.tensor([key[0] for key in keys])
            values, labels = self.values[numbers], self.labels[numbers]
            yield values.to(device), labels.to(device), numbers


def features_are_fixed(recipe: RunSpec, processes: int) -> bool:
    """Whether every epoch would compute the same features.

    Args:
        recipe: of the training.
        processes: number of training processes.
    """
    varied = recipe.augmentation != "none" or recipe.mixup or recipe.cutmix
    # averaging features averages logits only for a probe: other classifiers may not be linear
    mirrored = recipe.flip_test and not recipe.linear_probe
    fixed = not (varied or mirrored or recipe.progressive_sizes)
    return recipe.freeze == "backbone" and fixed and processes == 1


def views_of(recipe: RunSpec) -> tuple[View, ...]:
    """The views of an image that the features of a training are averaged over.

    Args:
        recipe: of the training.
    """
    # a probe is linear: averaging features averages logits
    return ("plain", "mirrored") if recipe.flip_test and recipe.linear_probe else ("plain",)


def head_follows_backbone(
    module: nn.Module, classifier: str, sample: torch.Tensor, most_images: int
) -> bool:
    """Whether the model is its features followed by the classifier, checked on a batch.

    A model that pools, reshapes or adds after its classifier must be run whole; so must one
    whose features of `most_images` images take more memory than `MOST_BYTES`.

    Args:
        module: the model; left in evaluation mode.
        classifier: name of the classifier in the module.
        sample: prepared images, shape (n, 3, h, w).
        most_images: number of images whose features must fit into memory.
    """
    name = classifier.rpartition(".")[2]
    module.eval()
    with torch.inference_mode():
        whole = module(sample)
        parent, head = without_classifier(module, classifier)
        try:
            features = module(sample)
            parts = head(features)
        finally:
            setattr(parent, name, head)
    if features[0].numel() * features.element_size() * most_images > MOST_BYTES:
        return False
    return whole.shape == parts.shape and bool(torch.allclose(whole, parts, rtol=1e-4, atol=1e-5))


def compute_features(
    built: BuiltModel,
    index: DataIndex,
    *,
    size: int,
    normalization: Normalization,
    device: torch.device,
    precision: str,
    notify: Notify,
    stop: StopRequest | None = None,
    views: tuple[View, ...] = ("plain",),
    splits: tuple[str, ...] = ("train", "valid"),
) -> dict[str, Features]:
    """Compute the features of all training and validation images, or read them from the cache.

    For a fold of a study, those of all images of the study are computed, once for all folds, and
    always in fp32: an image trains one fold's model and tests another's.

    The model runs in evaluation mode. Validation features are always in fp32, the same that the
    final scoring uses. Training features are in bf16 if training is, there are many of them, and a
    sample shows that bf16 is accurate.

    Args:
        built: the model; not changed.
        index: the images.
        size: side of the model's input images, pixels.
        normalization: of the inputs.
        device: where to compute.
        precision: of training.
        notify: receives the progress.
        stop: checked after every batch.
        views: the views that features are averaged over.
        splits: to compute; the first must have images.

    Returns:
        Features by split; empty if the classifier cannot be separated from the model.

    Raises:
        KeyboardInterrupt: `stop` was set; what was computed is kept in the cache.
        UnreadableImageError: an image can no longer be read.
    """
    part, source = index.part_of, index
    parts = splits if part is None else ("test",)
    if part is not None:
        source = part.whole
    total = sum(len(source.splits[split]) for split in parts)
    first = ImageDataset(index, splits[0], eval_transform(size), None)
    sample = torch.stack([first[number][0] for number in range(min(4, len(first)))]).to(device)
    sample = prepare(sample, *(normalization or (None, None)))
    if not head_follows_backbone(built.module, built.classifier, sample, most_images=total):
        return {}
    backbone = Backbone(built, size=size, normalization=normalization, device=device)
    used, reason = "fp32", ""
    if part is None:
        used, reason = backbone.precision_for(index, "train", precision)
    means: dict[str, npt.NDArray[np.float32]] = {}
    done, fresh = 0, 0
    for split in parts:
        values = []
        for view in views:
            of_view, computed = backbone.features(
                source,
                split,
                precision=used if split == "train" else "fp32",
                view=view,
                notify=of_part(notify, done, total * len(views)),
                stop=stop,
            )
            values.append(of_view)
            fresh += computed
            done += len(of_view)
        means[split] = (
            values[0] if len(values) == 1 else sum(values[1:], values[0]) / np.float32(len(views))
        )
    if part is not None:
        means = {split: means["test"][part.rows[split]] for split in splits}
    cached = total * len(views) - fresh
    where = (
        "from the cache" if not fresh else f"{cached:,} of them from the cache" if cached else ""
    )
    kept = f"keeps the frozen backbone's features of {total:,} images"
    notify(Message("; ".join(filter(None, [kept, reason, where]))))
    return {
        split: Features(
            torch.from_numpy(mean), torch.from_numpy(index.splits[split].labels.astype(np.int64))
        )
        for split, mean in means.items()
    }
