"""Remedies in error messages about missing images: for folders, and for other sources."""

from __future__ import annotations

from dataclasses import dataclass

from podium.data.layout import LAYOUT


@dataclass(frozen=True)
class Advice:
    """Remedies that complete error messages.

    Attributes:
        no_train: what is missing if there is nothing to train on, and what is expected.
        one_class: what a classifier needs.
        no_split: what to do if the requested split has no images.
        own_split: how to provide a split instead of holding images out.
        other_classes: what to do if a split has other classes than train.
    """

    no_train: str
    one_class: str
    no_split: str
    own_split: str
    other_classes: str


FOLDERS = Advice(
    no_train=f"no train folder. {LAYOUT}",
    one_class="A classifier needs a folder of images for each class: train/CLASS/*.jpg or "
    "CLASS/*.jpg.",
    no_split="Choose one of those splits, or give the folder that contains the class folders.",
    own_split="make the missing folders yourself",
    other_classes="Use the same names for the class folders in every split.",
)

ITEMS = Advice(
    no_train="none for train. Expected a source that lists items of split train, or items without "
    "a split.",
    one_class="A classifier needs images of at least two labels.",
    no_split="Choose one of those splits.",
    own_split="let the source assign each image to a split (a table: a column split)",
    other_classes="Give a class the same label in every split.",
)
