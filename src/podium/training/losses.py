"""Losses by name, Podium's and the user's, and class weights.

A loss takes a batch's logits and targets and returns the sum over its images; the loop divides it.
It gets, as keyword arguments, those of `podium.training.losses.SETTINGS` in its signature.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import nn

from podium.config.registry import LOSSES
from podium.config.settings import RunSpec
from podium.config.text import did_you_mean
from podium.errors import ConfigError, one_line
from podium.runtime.random import seeded_everywhere

SETTINGS = ("class_weights", "priors", "label_smoothing", "focal_gamma", "logit_tau")
"""Keyword arguments that a loss may have."""


class Loss(Protocol):
    """Your own loss: a function of logits and targets that returns the sum over the images.

    Besides the two it may take keyword arguments of these names, and gets their values:

    - `class_weights`: float32 of shape (classes,), or None without them; their mean over the
      training images is 1.
    - `priors`: float32 of shape (classes,), each class's share of the training images.
    - `label_smoothing`, `focal_gamma`, `logit_tau`: the settings of the same name.

    Examples:
        >>> import torch
        >>> from torch.nn.functional import cross_entropy
        >>> def halved(logits, targets, class_weights=None):
        ...     return cross_entropy(logits, targets, class_weights, reduction="sum") / 2
        >>> round(halved(torch.zeros(3, 2), torch.tensor([0, 1, 1])).item(), 3)
        1.04
    """

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor, /) -> torch.Tensor:
        """The loss of a batch.

        Args:
            logits: float32 of shape (n, classes).
            targets: int64 of shape (n,); with `mixup` or `cutmix` float32 of shape (n, classes),
                each row summing to 1.

        Returns:
            The sum over the n images, a scalar that can be differentiated; the training divides it.
        """
        ...


def cross_entropy(
    logits: torch.Tensor,
    targets: torch.Tensor,
    *,
    class_weights: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Cross-entropy, summed over the images.

    Args:
        logits: float32 of shape (n, classes).
        targets: int64 of shape (n,), or float32 of shape (n, classes) with rows summing to 1.
        class_weights: float32 of shape (classes,); None: all classes weigh the same.
        label_smoothing: share of each target spread over all classes, 0 to 1.
    """
    return nn.functional.cross_entropy(
        logits, targets, class_weights, reduction="sum", label_smoothing=label_smoothing
    )


def focal(
    logits: torch.Tensor,
    targets: torch.Tensor,
    *,
    focal_gamma: float,
    class_weights: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Focal loss, summed (Lin et al., 2017): cross-entropy times (1 - p)^gamma, per class.

    For soft targets, such as mixup's, it is the mean over the classes, weighted by the target.

    Args:
        logits: float32 of shape (n, classes).
        targets: int64 of shape (n,), or float32 of shape (n, classes) with rows summing to 1.
        focal_gamma: exponent gamma; 0 is cross-entropy.
        class_weights: float32 of shape (classes,); None: all classes weigh the same.
        label_smoothing: share of each target spread over all classes, 0 to 1.
    """
    classes = logits.shape[1]
    shares = nn.functional.one_hot(targets, classes) if targets.ndim == 1 else targets
    shares = shares * (1 - label_smoothing) + label_smoothing / classes
    if class_weights is not None:
        shares = shares * class_weights
    log_p = logits.log_softmax(1)
    # at p = 1 the gradient of the power is infinite for gamma < 1, and infinity times 0 is NaN
    unsure = (-log_p.expm1()).clamp_min(torch.finfo(log_p.dtype).tiny)
    return -(shares * unsure**focal_gamma * log_p).sum()


def logit_adjusted(
    logits: torch.Tensor,
    targets: torch.Tensor,
    *,
    priors: torch.Tensor,
    logit_tau: float,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Cross-entropy of logits + tau log(prior), summed (Menon et al., 2021, equation 10).

    Evaluation uses the model's unadjusted logits, which have learned to compensate for the term.

    Args:
        logits: float32 of shape (n, classes).
        targets: int64 of shape (n,), or float32 of shape (n, classes) with rows summing to 1.
        priors: float32 of shape (classes,), each class's share of the training images.
        logit_tau: strength of the adjustment; 0 is cross-entropy.
        label_smoothing: share of each target spread over all classes, 0 to 1.
    """
    adjusted = logits + logit_tau * priors.log()
    return cross_entropy(adjusted, targets, label_smoothing=label_smoothing)


for _loss in (cross_entropy, focal, logit_adjusted):
    LOSSES.register(_loss.__name__, _loss)


def class_weights(
    counts: npt.NDArray[np.int64],
    kind: str | Mapping[str, float],
    beta: float = 0.999,
    names: Sequence[str] = (),
) -> npt.NDArray[np.float64]:
    """Compute class weights whose mean over the training images is 1.

    Args:
        counts: training images per class; shape (classes,).
        kind: `balanced`: n / (classes * count) for n images, as in scikit-learn; `effective`:
            inversely proportional to (1 - beta^count) / (1 - beta) (Cui et al., 2019); or the
            weights themselves, class: weight, which keep their ratios; other classes weigh 1.
        beta: for `effective`, above 0 and below 1: near 0 all classes weigh the same, near 1 it is
            `balanced`.
        names: of the classes, in order, for weights by name.

    Returns:
        Shape (classes,).

    Raises:
        ConfigError: a weight is for a class that does not exist; the message names the nearest.
    """
    if isinstance(kind, Mapping):
        _refuse_unknown_classes(kind, names)
        worth = np.array([1 / kind.get(name, 1.0) for name in names])
    else:
        worth = np.maximum(counts, 1).astype(np.float64)  # a fold may hold no image of a class
        if kind == "effective":
            worth = -np.expm1(worth * np.log(beta)) / (1 - beta)
    weights: npt.NDArray[np.float64] = counts.sum() / (worth * (counts / worth).sum())
    return weights


def _refuse_unknown_classes(weights: Mapping[str, float], names: Sequence[str]) -> None:
    for name in weights:
        if name not in names:
            told = did_you_mean(name, names) or f" There are {_few(names)}."
            raise ConfigError(f"class_weights: the images have no class {name!r}.{told}")


def _few(names: Sequence[str], most: int = 10) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class BoundLoss:
    """A loss with its keyword arguments bound; call it with logits and targets."""

    def __init__(
        self, loss: Any, settings: Mapping[str, Any], weights: torch.Tensor | None
    ) -> None:
        self.loss, self.settings, self.weights = loss, dict(settings), weights

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        summed: torch.Tensor = self.loss(logits, targets, **self.settings)
        return summed

    def share(self, fabric: Fabric, targets: torch.Tensor, images: int) -> float | torch.Tensor:
        """Compute the divisor of this process's sum.

        Data-parallel gradients are averaged over processes. With this divisor the average is the
        mean over the global batch, even if its parts differ in size. With class weights it is the
        weighted mean, as in PyTorch: for hard labels, not for soft targets.

        Args:
            fabric: every one of its processes must take part.
            targets: of this process's part of the batch.
            images: number of images in the global batch.
        """
        total: float | torch.Tensor = images
        if self.weights is not None and targets.ndim == 1:
            total = self.weights[targets].sum()
            if fabric.world_size > 1:
                summed = fabric.all_reduce(total, reduce_op="sum")
                assert isinstance(summed, torch.Tensor)
                total = summed
        return total / fabric.world_size


def bind_loss(
    recipe: RunSpec, labels: npt.NDArray[np.int64], names: Sequence[str], device: torch.device
) -> BoundLoss:
    """Make the loss of a recipe.

    Args:
        recipe: names the loss, and has its settings.
        labels: of the training images, int64 of shape (n,).
        names: of the classes, in order.
        device: where logits will be.

    Raises:
        ConfigError: there is no such loss; class weights name a class that does not exist; or a
            user's loss does not accept a setting of the recipe, fails, or does not return a sum.
    """
    loss = LOSSES[recipe.loss]
    counts = np.bincount(labels, minlength=len(names))
    weights = None
    if recipe.class_weights != "none":
        found = class_weights(counts, recipe.class_weights, recipe.effective_beta, names)
        weights = torch.tensor(found, dtype=torch.float32, device=device)
    values = {
        "class_weights": weights,
        "priors": torch.tensor(counts / counts.sum(), dtype=torch.float32, device=device),
        "label_smoothing": recipe.label_smoothing,
        "focal_gamma": recipe.focal_gamma,
        "logit_tau": recipe.logit_tau,
    }
    takes = _parameters(loss)
    for name, is_set in (
        ("class_weights", weights is not None),
        ("label_smoothing", recipe.label_smoothing > 0),
    ):
        if is_set and name not in takes:
            raise ConfigError(
                f"loss {recipe.loss} does not accept {name}, which the recipe sets: add a keyword "
                f"argument {name} to the function, or leave the setting out."
            )
    if isinstance(loss, nn.Module):
        loss.to(device)
    bound = BoundLoss(loss, {key: values[key] for key in SETTINGS if key in takes}, weights)
    if recipe.loss not in LOSSES.built_in:
        mixed = bool(recipe.mixup or recipe.cutmix)
        _try(bound, f"loss {recipe.loss}", len(names), device, mixed=mixed)
    return bound


def register_loss(name: str) -> Callable[[Any], Any]:
    """Register your own loss under a name that studies can use: a decorator.

    The function takes logits, float32 of shape (n, classes), and targets, int64 of shape (n,), or
    float32 of shape (n, classes) with `mixup` or `cutmix`. It returns the sum over the images.
    See `Loss` for its optional keyword arguments.

    Args:
        name: the name in a study's `loss`.

    Returns:
        The decorator, which returns the function unchanged.

    Raises:
        ConfigError: the name is Podium's or not valid, or the object is not a function of logits
            and targets.

    Examples:
        >>> import torch
        >>> @register_loss("squared")
        ... def squared(logits, targets):
        ...     truth = torch.nn.functional.one_hot(targets, logits.shape[1])
        ...     return ((logits.softmax(1) - truth) ** 2).sum()
    """

    def decorate(offered: Any) -> Any:
        LOSSES.register(name, _of_user(name, offered), offered)
        return offered

    return decorate


def _parameters(loss: Any) -> Mapping[str, inspect.Parameter]:
    called = loss.forward if isinstance(loss, nn.Module) else loss
    return inspect.signature(called).parameters


def _of_user(name: str, offered: Any) -> Loss:
    """Check what a package, a file or a decorator registers as a loss."""
    if not callable(offered) or isinstance(offered, type):
        kind = (
            f"the class {offered.__name__}" if isinstance(offered, type) else type(offered).__name__
        )
        raise ConfigError(
            f"loss {name}: expected a function (logits, targets), got {kind}."
            + (" Register an instance of it." if isinstance(offered, type) else "")
        )
    if isinstance(offered, nn.Module) and next(offered.parameters(), None) is not None:
        raise ConfigError(f"loss {name} has parameters, but only the model's are trained.")
    unknown = [
        one.name
        for one in list(_parameters(offered).values())[2:]
        if one.name not in SETTINGS
        and one.default is one.empty
        and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
    if len(_parameters(offered)) < 2 or unknown:
        raise ConfigError(
            f"loss {name}: expected a function (logits, targets), optionally with keyword "
            f"arguments among {', '.join(SETTINGS)}; got ({', '.join(_parameters(offered))})."
        )
    loss: Loss = offered
    return loss


LOSSES.convert = _of_user


def _try(loss: BoundLoss, name: str, classes: int, device: torch.device, *, mixed: bool) -> None:
    """Refuse a user's loss that does not return a sum over the images, on random logits."""
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(6, classes, generator=random).to(device)
    targets = (torch.arange(6) % classes).to(device)
    if mixed:
        targets = nn.functional.one_hot(targets, classes).float()
        targets = 0.7 * targets + 0.3 * targets.roll(1, 0)
    asked = "mixed targets, float32 of shape (n, classes)" if mixed else "labels of shape (n,)"
    logits.requires_grad_()
    try:
        with seeded_everywhere(0):
            once = loss(logits, targets)
            twice = loss(torch.cat([logits, logits]), torch.cat([targets, targets]))
    except Exception as error:
        raise ConfigError(
            f"{name} fails on {asked} ({type(error).__name__}: {one_line(error)})."
            + (" Leave mixup and cutmix out, or make it accept such targets." if mixed else "")
        ) from error
    if not isinstance(once, torch.Tensor) or once.ndim or not once.requires_grad:
        shape = f"shape {tuple(once.shape)}" if isinstance(once, torch.Tensor) else "not a tensor"
        slope = " that does not depend on the logits" if shape == "shape ()" else ""
        raise ConfigError(
            f"{name}: expected a tensor of shape (), the sum over the images, got "
            f"{type(once).__name__}, {shape}{slope}."
        )
    once, twice = once.detach(), twice.detach()
    if not torch.isfinite(once):
        raise ConfigError(f"{name}: expected a finite sum on {asked}, got {float(once)}.")
    if float(once) and torch.allclose(once, twice, rtol=1e-3):
        raise ConfigError(
            f"{name}: expected the sum over the images, got their mean (twice as many images give "
            "the same value). Use reduction='sum': Podium divides it later."
        )
