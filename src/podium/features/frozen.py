"""A frozen backbone sees every image once: its features are kept, and epochs take seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from podium.config.settings import RunSpec
from podium.data.dataset import EpochSampler, ImageDataset
from podium.data.index import DataIndex
from podium.data.loader import Batch
from podium.data.transforms import Normalization, eval_transform, prepare
from podium.features.extract import Backbone, View, without_classifier
from podium.models import BuiltModel
from podium.runtime.events import Event, Notify, StopRequest

MOST_BYTES = 4 * 2**30


@dataclass(frozen=True)
class Features:
    """What the classifier gets: `values` of shape (n, ...), float32; `labels` of shape (n,)."""

    values: torch.Tensor
    labels: torch.Tensor

    def in_batches(self, sampler: EpochSampler, device: torch.device) -> Iterator[Batch]:
        """The sampler's batches, as `podium.data.loader.batches` yields those of images."""
        for keys in sampler:
            numbers = torch.tensor([key[0] for key in keys])
            values, labels = self.values[numbers], self.labels[numbers]
            yield values.to(device), labels.to(device), numbers


def features_are_fixed(recipe: RunSpec, processes: int) -> bool:
    """Whether every epoch would compute the same features again."""
    varied = recipe.augmentation != "none" or recipe.mixup or recipe.cutmix
    # averaged features are averaged logits for a probe alone: other classifiers may not be linear
    mirrored = recipe.flip_test and not recipe.linear_probe
    fixed = not (varied or mirrored or recipe.progressive_sizes)
    return recipe.freeze == "backbone" and fixed and processes == 1


def head_follows_backbone(
    module: nn.Module, classifier: str, sample: torch.Tensor, most_images: int
) -> bool:
    """Whether the classifier is all that comes after the features, checked on a batch.

    A model that pools, reshapes or adds after its classifier must be run whole; so must one
    whose features of `most_images` images take more memory than `MOST_BYTES`.
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
) -> dict[str, Features]:
    """Run every image of train and valid through all of the model but its classifier, or the cache.

    In evaluation mode. The validation images always in fp32: the very features that the final
    scoring will see. The training images in bf16 where training is, there are many of them, and
    bf16 features are near those in fp32 on a few of them.

    Args:
        built: the model; unchanged.
        index: the images.
        size: side of them, pixels.
        normalization: of the inputs.
        device: where to compute.
        precision: of training.
        notify: told of the progress.
        stop: asked after every batch.
        views: whose mean the features are.

    Returns:
        Features by split; empty where the model cannot be taken apart.

    Raises:
        KeyboardInterrupt: `stop` was set; what was computed is kept in the cache.
        UnreadableImageError: an image can no longer be read.
    """
    splits = ("train", "valid")
    total = sum(len(index.splits[split]) for split in splits)
    first = ImageDataset(index, "train", eval_transform(size), None)
    sample = torch.stack([first[number][0] for number in range(min(4, len(first)))]).to(device)
    sample = prepare(sample, *(normalization or (None, None)))
    if not head_follows_backbone(built.module, built.classifier, sample, most_images=total):
        return {}
    backbone = Backbone(built, size=size, normalization=normalization, device=device)
    used, reason = backbone.precision_for(index, "train", precision)
    found, done, fresh = {}, 0, 0

    def progress(images: int) -> None:
        nonlocal done
        done += images
        notify(Event("evaluate", "features", step=done, total=total * len(views)))

    for split in splits:
        values = []
        for view in views:
            of_view, computed = backbone.features(
                index,
                split,
                precision=used if split == "train" else "fp32",
                view=view,
                progress=progress,
                stop=stop,
            )
            values.append(of_view)
            fresh += computed
        mean = (
            values[0] if len(values) == 1 else sum(values[1:], values[0]) / np.float32(len(views))
        )
        labels = torch.from_numpy(index.splits[split].labels.astype(np.int64))
        found[split] = Features(torch.from_numpy(mean), labels)
    cached = total * len(views) - fresh
    source = (
        "from the cache" if not fresh else f"{cached:,} of them from the cache" if cached else ""
    )
    told = f"keeps the frozen backbone's features of {total:,} images"
    notify(Event("message", "; ".join(filter(None, [told, reason, source]))))
    return found
