"""Features of frozen networks, computed on other machines before the cells that need them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch

from podium.config.machine import Machine
from podium.config.settings import RunSpec
from podium.config.shortcuts import FILE_MODEL
from podium.data.dataset import ImageDataset
from podium.data.index import DataIndex
from podium.data.transforms import eval_transform, prepare
from podium.errors import DataError, PodiumError
from podium.evaluation.inference import input_normalization
from podium.features.extract import Backbone
from podium.features.frozen import features_are_fixed, head_follows_backbone, views_of
from podium.features.network import PrecisionOf
from podium.models import build_model
from podium.runtime.events import Message, Notify, StopRequest, WarningMessage
from podium.runtime.parts import Parts, once
from podium.study.cells import Cell


def features_ahead(
    recipes: Mapping[str, RunSpec],
    cells: Sequence[Cell],
    index: DataIndex,
    machine: Machine,
    parts: Parts,
    notify: Notify,
    stop: StopRequest | None = None,
) -> None:
    """Have the features that several cells read computed once, by all machines, into the cache.

    A cell computes what it does not find there, so nothing but time depends on this.

    Args:
        recipes: of each contender, as it is trained.
        cells: that are going to be trained.
        index: the study's images.
        machine: settings of the machine.
        parts: what computes.
        notify: called with a message for each contender, and with the progress.
        stop: checked after every part.

    Raises:
        KeyboardInterrupt: `stop` was set; finished parts are kept.
        DataError: a machine does not see the images.
    """
    for contender in dict.fromkeys(cell.contender for cell in cells):
        seed = next(cell.seed for cell in cells if cell.contender == contender)
        recipe = recipes.get(contender)
        if recipe is None or recipe.mean_of or recipe.model == FILE_MODEL:
            continue
        if features_are_fixed(recipe, machine.devices):  # and pre-trained: the same for each seed
            try:
                _compute(contender, recipe, seed, index, machine, parts, notify, stop)
            except DataError:
                raise
            except PodiumError as error:
                text = f"{contender}: its features are left to each training. {error}"
                notify(WarningMessage(text))


def _compute(
    contender: str,
    recipe: RunSpec,
    seed: int,
    index: DataIndex,
    machine: Machine,
    parts: Parts,
    notify: Notify,
    stop: StopRequest | None,
) -> None:
    build = partial(
        build_model,
        recipe.model,
        len(index.classes),
        pooling=recipe.pooling,
        channels=index.windows.inputs,
        seed=seed,
    )
    built = build(pretrained=recipe.pretrained, weights=recipe.weights)
    size, normalization = recipe.image_size or built.image_size, input_normalization(recipe, built)
    splits = ("train", "valid") if index.folds is None else ("test",)  # which has all images
    first = ImageDataset(index, splits[0], eval_transform(size), None)
    sample = torch.stack([first[number][0] for number in range(min(4, len(first)))])
    total = sum(len(index.splits[split]) for split in splits)
    sample = prepare(sample, *(normalization or (None, None)))
    if not head_follows_backbone(built.module, built.classifier, sample, most_images=total):
        return
    notify(Message(f"{contender}: all nodes compute the features of {total:,} images"))
    device = torch.device(parts.device)
    backbone = Backbone(built, size=size, normalization=normalization, device=device, parts=parts)
    precision = "fp32"
    if index.folds is None:
        there = machine.model_copy(update={"device": parts.device})
        # of the untrained model, as a cell checks it: its node keeps what was found
        wanted = once(parts, PrecisionOf(there, size, built.channels), build().module)
        precision, _ = backbone.precision_for(index, "train", wanted)
    for split in splits:
        for view in views_of(recipe):
            used = precision if split == "train" else "fp32"
            backbone.features(index, split, precision=used, view=view, notify=notify, stop=stop)
