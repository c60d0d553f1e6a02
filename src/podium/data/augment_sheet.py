"""A sheet of examples: what each augmentation policy makes of one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from podium.data.images import load_rgb
from podium.data.transforms import POLICIES, eval_transform, train_transform
from podium.errors import ConfigError
from podium.runtime.files import atomic_write
from podium.runtime.random import sample_seed, seeded


def augmentation_sheet(
    image: Path,
    out: Path,
    *,
    policies: Sequence[str] | None = None,
    examples: int = 6,
    image_size: int = 128,
    seed: int = 0,
) -> None:
    """Draw the original, then a row of examples of every policy.

    Args:
        image: any picture.
        out: the file to write; its ending, .png or .pdf, decides the format.
        policies: keys of `POLICIES`; empty: all of them.
        examples: columns.
        image_size: side of what the model would see, pixels.
        seed: draws other examples.

    Raises:
        ConfigError: a policy or the ending is unknown.
        UnreadableImageError: the picture cannot be read.
    """
    names = list(policies or POLICIES)
    unknown = [name for name in names if name not in POLICIES]
    if unknown:
        raise ConfigError(f"--policy {unknown[0]!r}: expected one of {', '.join(POLICIES)}.")
    kind = out.suffix.lower().lstrip(".")
    if kind not in ("png", "pdf"):
        raise ConfigError(f"--to {str(out)!r}: expected a name that ends in .png or .pdf.")
    picture = load_rgb(image)

    from matplotlib.figure import Figure

    columns, inch = 1 + examples, 1.25
    figure = Figure(figsize=(inch * columns + 1.3, inch * len(names) + 0.4))
    grid = figure.subplots(len(names), columns, squeeze=False)
    for row, name in zip(grid, names, strict=True):
        transform = train_transform(name, image_size)
        tensors = [eval_transform(image_size)(picture)]
        for number in range(examples):
            with seeded(sample_seed(seed, 1, number)):
                tensors.append(transform(picture))
        for axes, tensor in zip(row, tensors, strict=True):
            axes.imshow(tensor.permute(1, 2, 0).numpy(), interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9, labelpad=6)
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
