"""Scores models that differ in their last part alone, such as probes of one frozen network.

What the network computes is the same for all of them: it is computed once for every batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import takewhile
from typing import Any

import torch
from torch import nn

from podium.evaluation.inference import score
from podium.evaluation.trained import TrainedModel


class Alike:
    """A model and others with the same inputs, all of whose values but those of one part are equal.

    Args:
        model: the first of them.
    """

    def __init__(self, model: TrainedModel) -> None:
        self.models = [model]
        self.part: str | None = None
        """Name of the part that differs, in the module; None: there are no others."""
        self._short: list[bool] | None = None

    def add(self, model: TrainedModel) -> bool:
        """Add a model, if it differs in the same part as those before it.

        Args:
            model: to add.

        Returns:
            Whether it was added.
        """
        first = self.models[0]
        if (first.image_size, first.normalization, first.flip_test) != (
            model.image_size, model.normalization, model.flip_test,
        ):  # fmt: skip
            return False
        part = _part_that_differs(first.module, model.module)
        if not part or self.part not in (None, part):
            return False
        self.part = part
        self.models.append(model)
        return True

    def scores(self, inputs: torch.Tensor) -> Iterator[torch.Tensor]:
        """The logits of a batch, of one model after the other: the same bits as of each alone.

        Args:
            inputs: from `podium.data.transforms.prepare`, shape (n, 3, h, w).

        Yields:
            float32 of shape (n, classes).
        """
        first, *others = self.models
        given: list[Any] = []
        if self.part is None:
            yield score(first.module, inputs, flip=first.flip_test)
            return
        hook = first.module.get_submodule(self.part).register_forward_pre_hook(
            lambda _, *args: given.append(args), with_kwargs=True
        )
        try:
            logits = score(first.module, inputs, flip=first.flip_test)
        finally:
            hook.remove()
        parts = [self._of_part(model, given) for model in others]
        wholes: list[torch.Tensor | None] = [None] * len(others)
        if self._short is None:  # does the part compute the logits? on the first batch, see
            wholes = [score(one.module, inputs, flip=one.flip_test) for one in others]
            self._short = [
                part is not None and whole is not None and torch.equal(part, whole)
                for part, whole in zip(parts, wholes, strict=True)
            ]
        yield logits
        for model, part, whole, short in zip(others, parts, wholes, self._short, strict=True):
            if short and part is not None:
                yield part
            elif whole is not None:
                yield whole
            else:
                yield score(model.module, inputs, flip=model.flip_test)

    def _of_part(self, model: TrainedModel, given: list[Any]) -> torch.Tensor | None:
        """The logits from what the part was given: once, or twice with mirror images."""
        assert self.part is not None
        if len(given) != 1 + model.flip_test:
            return None
        part = model.module.get_submodule(self.part)
        found: list[torch.Tensor] = [part(*args, **named).float() for args, named in given]
        return found[0] if len(found) == 1 else (found[0] + found[1]) / 2


def together(models: Iterable[TrainedModel]) -> list[Alike]:
    """Put models that can share their computation together; the others are alone.

    Args:
        models: in any order.
    """
    groups: list[Alike] = []
    for model in models:
        if not any(group.add(model) for group in groups):
            groups.append(Alike(model))
    return groups


def _part_that_differs(one: nn.Module, other: nn.Module) -> str:
    """Name of the smallest part with all values that differ; empty string: there is none."""
    ours, theirs = one.state_dict(), other.state_dict()
    if ours.keys() != theirs.keys():
        return ""
    differ = [
        name
        for name, value in ours.items()
        if value.shape != theirs[name].shape or not torch.equal(value, theirs[name])
    ]
    # two that are equal, such as seeds of a probe, differ in their last part as well as in any
    places = [name.split(".")[:-1] for name in differ or [*ours][-1:]]
    levels = takewhile(lambda names: len(set(names)) == 1, zip(*places, strict=False))
    return ".".join(names[0] for names in levels)
