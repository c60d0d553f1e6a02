"""How similar an image is to those that a model was trained on, for the answer "none of these".

Features are what the model's classifier gets, with a length of 1. An image's similarity is the
cosine to the nearest class: to the mean of the features of some of its training images. That is a
matrix product and a maximum, which every runtime has, and one row of numbers per class.
`docs/single-pictures.md` compares it with nearest neighbours, Mahalanobis distances and others.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from podium.errors import ConfigError, RunFolderError
from podium.features.extract import without_classifier
from podium.features.frozen import head_follows_backbone
from podium.runtime.files import atomic_write

_FORMAT = "1"


@dataclass(frozen=True, eq=False)
class KnownImages:
    """What the classes look like, and how similar validation images are to them."""

    means: torch.Tensor
    """float32 of shape (classes with training images, features), each of length 1."""
    valid: npt.NDArray[np.float64]
    """Similarity of each validation image to the nearest, shape (n,), at most 1."""

    def write(self, path: Path, weights: Path) -> None:
        """Write a safetensors file.

        Args:
            path: the file to write.
            weights: the model's weights, to which the features belong.
        """
        tensors = {"means": self.means, "valid": torch.from_numpy(self.valid)}
        content = save(tensors, {"format": _FORMAT, "weights": _digest(weights)})
        atomic_write(path, lambda file: file.write(content))

    @classmethod
    def read(cls, path: Path, weights: Path) -> KnownImages | None:
        """Read a file written by `write`; None: there is none of these weights.

        Args:
            path: the file.
            weights: the model's weights.

        Raises:
            RunFolderError: the file is damaged.
        """
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                told = file.metadata() or {}
                means, valid = file.get_tensor("means"), file.get_tensor("valid")
            if means.dtype != torch.float32 or means.ndim != 2 or valid.ndim != 1 or not len(means):
                raise ValueError("expected features of classes and similarities")
        except (OSError, SafetensorError, ValueError) as error:
            raise RunFolderError(
                f"{path} is damaged ({error}). Remove it: it is made again from the images."
            ) from None
        if told.get("format") != _FORMAT or told.get("weights") != _digest(weights):
            return None
        return cls(means, np.asarray(valid.numpy(), np.float64))


def _digest(weights: Path) -> str:
    with open(weights, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Featured(nn.Module):
    """A model that returns logits, shape (n, classes), and features of length 1, (n, features).

    Args:
        module: the model, in evaluation mode; not changed.
        classifier: dotted name of the part that computes the logits.
        sample: prepared images, shape (n, channels, s, s), that this is checked on.

    Raises:
        ConfigError: the logits are not the classifier's output.
    """

    def __init__(self, module: nn.Module, classifier: str, sample: torch.Tensor) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(module).eval()
        if not head_follows_backbone(self.backbone, classifier, sample, most_images=0):
            raise ConfigError(
                f"The logits of this model are not what its part {classifier} returns, so it has "
                "no features that images could be compared by. Omit --keep."
            )
        _, self.head = without_classifier(self.backbone, classifier)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.backbone(images)
        logits = self.head(found)
        features = found.float()
        if features.ndim == 4:  # a classifier that pools: the mean over positions
            features = features.mean((2, 3))
        elif features.ndim == 3:  # of tokens
            features = features.mean(1)
        return logits, features / features.norm(dim=1, keepdim=True).clamp_min(1e-12)


class WithSimilarity(nn.Module):
    """A model that returns its logits and, as one more column, the similarity to known classes.

    Args:
        featured: the model.
        means: features of the classes, shape (classes, features).
    """

    columns: torch.Tensor

    def __init__(self, featured: Featured, means: torch.Tensor) -> None:
        super().__init__()
        self.featured = featured
        self.register_buffer("columns", means.T.contiguous())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits, features = self.featured(images)
        similarity = (features @ self.columns).amax(1, keepdim=True)
        return torch.cat([logits.float(), similarity.clamp(-1, 1)], 1)
