"""The paper's way to train, as a user would write it down: the base that Podium is compared to.

Plain PyTorch with nothing of Podium's training: torchvision's ImageFolder and transforms, two
DataLoader workers that decode every image anew in every epoch, fp32 in the default memory layout,
batch 32, Adam at 1e-4, the loss and the hits read back after every batch for the history.
Only the definitions of the two small networks are shared, since they are what is trained.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms

__all__ = ["main"]


def _loader(data: Path, size: int | None, batch_size: int) -> DataLoader[Any]:
    steps: list[Any] = [] if size is None else [transforms.Resize((size, size))]
    steps += [
        transforms.AutoAugment(transforms.AutoAugmentPolicy.IMAGENET),
        transforms.ToTensor(),
    ]
    images = torchvision.datasets.ImageFolder(str(data / "train"), transforms.Compose(steps))
    return DataLoader(images, batch_size=batch_size, shuffle=True, num_workers=2)


def _model(name: str, classes: int) -> nn.Module:
    if name == "resnet18":
        resnet: nn.Module = torchvision.models.resnet18(weights=None)
        resnet.fc = nn.Sequential(nn.Linear(512, 512), nn.Linear(512, classes))
        return resnet
    from podium.models import build_model

    return build_model(name, classes).module.to(memory_format=torch.contiguous_format)


def main(arguments: Sequence[str]) -> None:
    """Train one epoch; whoever started this stops it when enough was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--batch-size", type=int, default=32)
    given = parser.parse_args(arguments)
    # ResNet-18 sees the pictures at their own 224 pixels
    size = None if given.model == "resnet18" else 128
    loader = _loader(given.data, size, given.batch_size)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = _model(given.model, len(loader.dataset.classes)).to(device)  # type: ignore[attr-defined]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    criterion = nn.CrossEntropyLoss()
    total, hits = 0.0, 0
    model.train()
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        logits = model(images)
        loss = criterion(logits, labels)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels)
        hits += int((logits.argmax(1) == labels).sum().item())
    print(f"loss {total:.4f}, {hits} right")


if __name__ == "__main__":
    main(sys.argv[1:])
