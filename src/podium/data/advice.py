"""What helps where pictures are missing: in a folder, folders; in another source, its items."""

from __future__ import annotations

from dataclasses import dataclass

from podium.data.layout import LAYOUT


@dataclass(frozen=True)
class Advice:
    """Ends of sentences, of which the beginning says what is wrong.

    Attributes:
        no_train: what is missing where nothing can be trained on, and what is expected.
        one_class: what a classifier needs.
        no_split: what to do where the split that is wanted has nothing.
        own_split: how to do without images that are held out.
        other_classes: what to do where a split has other classes than train.
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
    no_split="Choose one of those splits, or give the folder that holds the class folders itself.",
    own_split="make the missing folders yourself",
    other_classes="Name the class folders alike in every split.",
)

ITEMS = Advice(
    no_train="none for train. Expected a source that gives items of split train, or items without "
    "a split.",
    one_class="A classifier needs images of two labels at least.",
    no_split="Choose one of those splits.",
    own_split="let the source say which split each is in",
    other_classes="Give a class the same label in every split.",
)
