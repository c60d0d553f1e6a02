"""Display titles of what is built in: kept here, since a report imports no PyTorch."""

from __future__ import annotations

MODEL_TITLES = {
    "simple_resnet": "SimpleResNet",
    "inception_resnet": "InceptionResNet",
    "resnet18": "ResNet-18",
    "efficientnet_lite0": "EfficientNet-Lite0",
    "efficientnet_lite1": "EfficientNet-Lite1",
    "efficientnet_lite2": "EfficientNet-Lite2",
    "shortcut_file": "File metadata only",
    "shortcut_colour": "Mean colour only",
    "shortcut_border": "Border only",
    "shortcut_thumbnail": "8-pixel thumbnail",
}
AUGMENTATION_TITLES = {
    "none": "none",
    "autoaugment": "AutoAugment",
    "randaugment": "RandAugment",
    "trivialaugment": "TrivialAugment",
    "augmix": "AugMix",
    "crop_flip": "crop and flip",
}


def model_title(model: str) -> str:
    """The display title of a built-in model; any other name is returned unchanged.

    The title of a user's model is in its run's `done.json`, since reports do not run user code.

    Args:
        model: its name.
    """
    return MODEL_TITLES.get(model, model)


def stand_in_label(label: str, wanted: str, used: str) -> str:
    """A contender's label where another model took the place of its own.

    Args:
        label: of the contender.
        wanted: title of the model that the label is about.
        used: title of the model that was trained.

    Examples:
        >>> stand_in_label("ResNet-18, fine-tuned", "ResNet-18", "EfficientNet-Lite0")
        'EfficientNet-Lite0, fine-tuned (in place of ResNet-18)'
        >>> stand_in_label("tuned", "ResNet-18", "EfficientNet-Lite0")
        'tuned (EfficientNet-Lite0 in place of ResNet-18)'
    """
    if wanted in label:
        return f"{label.replace(wanted, used, 1)} (in place of {wanted})"
    return f"{label} ({used} in place of {wanted})"
