"""A frozen backbone sees every image once: its features are kept, and epochs take seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from podium.config import RunSpec
from podium.data.dataset import EpochSampler
from podium.events import Event, Notify
from podium.inference import Batch, Normalization, batches

__all__ = ["Features", "compute_features", "features_are_fixed", "head_follows_backbone"]


MOST_BYTES = 4 * 2**30


@dataclass(frozen=True)
class Features:
    """What the classifier gets: `values` of shape (n, ...), float32; `labels` of shape (n,)."""

    values: torch.Tensor
    labels: torch.Tensor

    def in_batches(self, sampler: EpochSampler, device: torch.device) -> Iterator[Batch]:
        """The sampler's batches, as `podium.inference.batches` yields those of images."""
        for keys in sampler:
            numbers = torch.tensor([key[0] for key in keys])
            values, labels = self.values[numbers], self.labels[numbers]
            yield values.to(device), labels.to(device), numbers


def features_are_fixed(recipe: RunSpec, processes: int) -> bool:
    """Whether every epoch would compute the same features again."""
    varied = recipe.augmentation != "none" or recipe.mixup or recipe.cutmix
    sized = recipe.flip_test or recipe.progressive_sizes
    return recipe.freeze == "backbone" and not varied and not sized and processes == 1


def _without(module: nn.Module, classifier: str) -> tuple[nn.Module, nn.Module]:
    """Put an identity in the classifier's place; returns (its parent, the classifier)."""
    parent_name, _, name = classifier.rpartition(".")
    parent, head = module.get_submodule(parent_name), module.get_submodule(classifier)
    setattr(parent, name, nn.Identity())
    return parent, head


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
        parent, head = _without(module, classifier)
        try:
            features = module(sample)
            parts = head(features)
        finally:
            setattr(parent, name, head)
    if features[0].numel() * features.element_size() * most_images > MOST_BYTES:
        return False
    return whole.shape == parts.shape and bool(torch.allclose(whole, parts, rtol=1e-4, atol=1e-5))


def compute_features(
    module: nn.Module,
    classifier: str,
    loaders: Mapping[str, DataLoader[Any]],
    device: torch.device,
    normalization: Normalization,
    notify: Notify,
) -> dict[str, Features]:
    """Run every image through all of the model but its classifier.

    In fp32 and evaluation mode: the very features that evaluation will see.

    Args:
        module: the model; unchanged afterwards.
        classifier: name of its classifier.
        loaders: of each split, its images in the order that numbers them.
        device: where the model is.
        normalization: of the inputs.
        notify: told of the progress.

    Returns:
        Features by split; empty where the model cannot be taken apart.
    """
    sized: list[Any] = [loader.dataset for loader in loaders.values()]
    total = sum(len(dataset) for dataset in sized)
    sample, _, _ = next(batches(next(iter(loaders.values())), device, normalization))
    if not head_follows_backbone(module, classifier, sample, most_images=total):
        return {}
    parent, head = _without(module, classifier)
    found, done = {}, 0
    try:
        for split, loader in loaders.items():
            values, labels = [], []
            with torch.no_grad():  # not inference mode: the classifier trains on these
                for inputs, target, _ in batches(loader, device, normalization):
                    values.append(module(inputs).float().cpu())
                    labels.append(target.cpu())
                    done += len(target)
                    notify(Event("evaluate", "features", step=done, total=total))
            found[split] = Features(torch.cat(values), torch.cat(labels))
    finally:
        setattr(parent, classifier.rpartition(".")[2], head)
    notify(Event("message", f"keeps the frozen backbone's features of {total:,} images"))
    return found
