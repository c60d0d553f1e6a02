"""Models of what gives a label away although it is not the object.

Such shortcuts (Geirhos et al., 2020) may be all that a network has learned. Each model sees a few
numbers of an image, and combinations of them: a layer of random weights, which is never trained,
lets a linear classifier bend (Schmidt, Kraaijveld & Duin, 1992).
"""

from __future__ import annotations

import torch
from torch import nn

HIDDEN = 256  # random combinations
CELLS = 16  # per side of the picture whose border is seen
RING = 2  # of them, at each side: an eighth of the picture
THUMBNAIL = 8  # pixels per side
CARD = 19  # pixels per side of what stands for a file


class Shortcut(nn.Module):
    """A linear classifier of what is seen of an image, and of random combinations of that.

    Args:
        see: from images of shape (n, channels, s, s) to what is seen of them, shape (n, ...).
        seen: the number of values that it returns for an image.
        num_classes: number of logits.
    """

    def __init__(self, see: nn.Module, seen: int, num_classes: int) -> None:
        super().__init__()
        self.see = nn.Sequential(see, nn.Flatten())
        self.combine = Combined(seen)
        self.classifier = nn.Linear(seen + HIDDEN, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The logits of images.

        Args:
            images: in 0..1, shape (n, channels, s, s).
        """
        logits: torch.Tensor = self.classifier(self.combine(self.see(images)))
        return logits


class Combined(nn.Module):
    """Values, and random combinations of them.

    Args:
        seen: number of values.
    """

    def __init__(self, seen: int) -> None:
        super().__init__()
        self.random = nn.Linear(seen, HIDDEN)
        for parameter in self.random.parameters():
            parameter.requires_grad_(False)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Both, of values in 0..1 of shape (n, seen), as shape (n, seen + HIDDEN)."""
        return torch.cat([values, torch.relu(self.random(values - 0.5))], dim=1)


class Border(nn.Module):
    """The outer eighth of pictures, in cells of a sixteenth of their sides."""

    ring: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        ring = torch.ones(CELLS, CELLS, dtype=torch.bool)
        ring[RING:-RING, RING:-RING] = False
        self.register_buffer("ring", ring, persistent=False)
        self.cells = nn.AdaptiveAvgPool2d(CELLS)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Shape (n, channels, cells)."""
        cells: torch.Tensor = self.cells(images)
        return cells[:, :, self.ring]


class Card(nn.Module):
    """The pixels of a card, which has one channel: `podium.data.file_cards` draws it."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.AdaptiveAvgPool2d(CARD)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Shape (n, 1, CARD, CARD)."""
        cells: torch.Tensor = self.cells(images[:, :1])
        return cells


def shortcut_colour(num_classes: int, in_chans: int = 3) -> nn.Module:
    """See the mean of each channel."""
    return Shortcut(nn.AdaptiveAvgPool2d(1), in_chans, num_classes)


def shortcut_border(num_classes: int, in_chans: int = 3) -> nn.Module:
    """See the outer eighth of the picture."""
    return Shortcut(Border(), in_chans * (CELLS**2 - (CELLS - 2 * RING) ** 2), num_classes)


def shortcut_thumbnail(num_classes: int, in_chans: int = 3) -> nn.Module:
    """See 8 x 8 pixels."""
    return Shortcut(nn.AdaptiveAvgPool2d(THUMBNAIL), in_chans * THUMBNAIL**2, num_classes)


def shortcut_file(num_classes: int) -> nn.Module:
    """See no pixel of the picture, but its file's card."""
    return Shortcut(Card(), CARD**2, num_classes)
