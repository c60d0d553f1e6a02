"""A sheet of examples: one image under each augmentation policy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from podium.config.registry import AUGMENTATIONS
from podium.data.images import load_rgb
from podium.data.transforms import Draw, eval_transform, train_transform
from podium.errors import ConfigError
from podium.runtime.files import atomic_write


def augmentation_sheet(
    image: Path,
    out: Path,
    *,
    policies: Sequence[str] | None = None,
    examples: int = 6,
    image_size: int = 128,
    seed: int = 0,
) -> None:
    """Draw one row per policy: the original, then examples.

    Args:
        image: any image file.
        out: the file to write; its extension, .png or .pdf, sets the format.
        policies: names of augmentations; None: all, including those of installed packages.
        examples: examples per row.
        image_size: side of the model's input, pixels.
        seed: of the random choices.

    Raises:
        ConfigError: an augmentation or the extension is unknown.
        UnreadableImageError: the image cannot be read.
    """
    names = list(policies or AUGMENTATIONS.names())
    transforms = [train_transform(name, image_size) for name in names]
    kind = out.suffix.lower().lstrip(".")
    if kind not in ("png", "pdf"):
        raise ConfigError(f"--to {str(out)!r}: expected a file name ending in .png or .pdf.")
    picture = load_rgb(image)

    from matplotlib.figure import Figure

    columns, inch = 1 + examples, 1.25
    figure = Figure(figsize=(inch * columns + 1.3, inch * len(names) + 0.4))
    grid = figure.subplots(len(names), columns, squeeze=False)
    for row, name, transform in zip(grid, names, transforms, strict=True):
        tensors = [eval_transform(image_size)(picture)]
        for number in range(examples):
            tensors.append(transform(picture, Draw(seed, 1, number)))
        for axes, tensor in zip(row, tensors, strict=True):
            axes.imshow(tensor.permute(1, 2, 0).numpy(), interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        row[0].set_ylabel(
            name.replace(":", ":\n"), rotation=0, ha="right", va="center", fontsize=9, labelpad=6
        )
    grid[0][0].set_title("original", fontsize=9)
    grid[0][1].set_title(f"as in training, {image_size} px", fontsize=9, loc="left")
    figure.subplots_adjust(
        left=1.2 / figure.get_figwidth(),
        right=1 - 0.05 / figure.get_figwidth(),
        top=1 - 0.3 / figure.get_figheight(),
        bottom=0.05 / figure.get_figheight(),
        wspace=0.04,
        hspace=0.04,
    )
    atomic_write(out, lambda file: figure.savefig(file, format=kind, dpi=200))
