"""Grad-CAM (Selvaraju et al., 2017) for any model that Podium builds.

The map is that of the model's last layer with spatial positions: its channels, weighted by their
mean gradient of a class's logit, summed, and clipped at 0. For a network that ends in average
pooling and one linear layer, that is CAM (Zhou et al., 2016).

It shows where the evidence for a class is, not why; the resolution is that of the layer (usually
7 x 7 for a ResNet), upsampled bilinearly.
"""

from __future__ import annotations

import copy
import itertools
import math
import threading
import weakref
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import interpolate

from podium.data.transforms import prepare
from podium.errors import UserError
from podium.evaluation.ensemble import Ensemble
from podium.evaluation.trained import TrainedModel

Floats = npt.NDArray[np.float32]

_MOST_PREFIX_TOKENS = 16  # class token, distillation token, registers
_HOTTEST = 0.88  # of the colour map: the last colours are too pale to be seen on a light image
_LEAST_SHARE, _MOST_SHARE = 0.25, 0.7  # opacity of the heat map's colour over the image
_POOLS = tuple(
    getattr(nn, f"{kind}{what}Pool{n}d")
    for n in (1, 2, 3)
    for kind, what in itertools.product(("", "Adaptive"), ("Max", "Avg"))
)


def grad_cam(
    model: TrainedModel,
    pixels: npt.NDArray[np.uint8],
    targets: npt.NDArray[np.int64] | None = None,
) -> tuple[Floats, Floats]:
    """Compute one heat map per image. Thread-safe; the model is not changed.

    If the model also scores mirror images, the map is the mean of an image's map and that of its
    mirror image.

    Args:
        model: any trained model, in evaluation mode.
        pixels: uint8 of shape (n, S, S, channels), n of 1 or more, as `Predictor.pixels` returns
            them.
        targets: class of each map, shape (n,); None: the predicted class.

    Returns:
        `(heat, logits)`: float32 of shape (n, S, S), the maximum of each map is 1, or all values
        are 0 if nothing supports the class; and float32 of shape (n, classes).

    Raises:
        UserError: the model has no spatial layer, or cannot be differentiated.
    """
    if isinstance(model.module, Ensemble):
        return _of_members(model, model.module, pixels, targets)
    watched = _watched(model)
    # callers may be in inference mode, in which autograd cannot save tensors
    with torch.inference_mode(False), torch.enable_grad():
        place = next(model.module.parameters()).device
        writable = np.require(pixels, np.uint8, "W")  # torch warns about read-only arrays
        images = torch.from_numpy(writable).permute(0, 3, 1, 2).to(place)
        inputs = prepare(images, *(model.normalization or (None, None)))
        if model.flip_test:
            inputs = torch.cat([inputs, inputs.flip(3)])
        logits, values = watched.look(inputs.contiguous(memory_format=torch.channels_last))
        if model.flip_test:
            logits = (logits[: len(images)] + logits[len(images) :]) / 2
        classes = logits.argmax(1) if targets is None else torch.from_numpy(targets).to(place)
        chosen = logits.gather(1, classes[:, None]).sum()  # each logit depends only on its image
        (gradient,) = torch.autograd.grad(chosen, values)
    with torch.no_grad():
        maps, slopes = watched.layout.places(values), watched.layout.places(gradient)
        heat = (maps * slopes.mean((2, 3), keepdim=True)).sum(1, keepdim=True).relu()
        if model.flip_test:
            heat = (heat[: len(images)] + heat[len(images) :].flip(3)) / 2
        side = (pixels.shape[1], pixels.shape[2])
        heat = interpolate(heat, side, mode="bilinear", align_corners=False)[:, 0]
        heat = heat.nan_to_num() / heat.amax((1, 2), keepdim=True).nan_to_num().clamp_min(1e-30)
    return np.asarray(heat.cpu().numpy()), np.asarray(logits.detach().cpu().numpy())


def _of_members(
    model: TrainedModel,
    ensemble: Ensemble,
    pixels: npt.NDArray[np.uint8],
    targets: npt.NDArray[np.int64] | None,
) -> tuple[Floats, Floats]:
    """The mean of the members' maps for one class, and the ensemble's logits."""
    place = ensemble.temperatures.device
    with torch.inference_mode():
        images = torch.from_numpy(np.require(pixels, np.uint8, "W")).permute(0, 3, 1, 2).to(place)
        logits = ensemble(prepare(images, *(model.normalization or (None, None))))
    found = np.asarray(logits.cpu().numpy())
    classes = found.argmax(axis=1) if targets is None else targets
    alone = [
        replace(model, module=member, flip_test=flip)
        for member, flip in zip(ensemble.members, ensemble.flips, strict=True)
    ]
    heat = sum(grad_cam(one, pixels, classes)[0] for one in alone) / np.float32(len(alone))
    return heat / heat.max(axis=(1, 2), keepdims=True).clip(1e-30), found


def watched_layer(model: TrainedModel) -> str:
    """The name of the layer whose map `grad_cam` uses, such as `layer4`.

    Args:
        model: any trained model, in evaluation mode.

    Raises:
        UserError: the model has no spatial layer, or cannot be differentiated.
    """
    module = model.module
    if isinstance(module, Ensemble):
        return watched_layer(replace(model, module=module.members[0], flip_test=module.flips[0]))
    return _watched(model).name


def overlay(picture: Image.Image, heat: Floats) -> Image.Image:
    """Draw a heat map over an image; the result has the image's size.

    The image becomes grey, so that all colour is heat: from black through red to orange, in a
    perceptually uniform colour map that colour-blind people can read (matplotlib's inferno). Hot
    areas are more opaque than cold ones, so that the rest of the image stays visible.

    Args:
        picture: an image of mode RGB.
        heat: 0 to 1, shape (h, w); resized to the image.
    """
    from matplotlib import colormaps

    stretched = Image.fromarray(np.asarray(heat, np.float32)).resize(
        picture.size, Image.Resampling.BILINEAR
    )
    warmth = np.clip(np.asarray(stretched), 0, 1)
    colours = colormaps["inferno"](_HOTTEST * warmth, bytes=True)[..., :3].astype(np.float32)
    share = (_LEAST_SHARE + (_MOST_SHARE - _LEAST_SHARE) * warmth)[..., None]
    grey = np.asarray(picture.convert("L"), np.float32)[..., None]
    return Image.fromarray(np.rint(grey + share * (colours - grey)).astype(np.uint8))


@dataclass(frozen=True)
class _Layout:
    """The layout of a layer's output: its channel axis, and leading tokens without a position."""

    channels: int  # the channel axis: 1 of (n, c, h, w); 3 of (n, h, w, c); 2 of (n, tokens, c)
    width: int  # number of channels
    prefix: int = 0  # number of tokens without a position, such as the class token

    def places(self, values: torch.Tensor) -> torch.Tensor:
        """The output as (n, channels, h, w)."""
        if self.channels == 2:
            values = values[:, self.prefix :]
            side = math.isqrt(values.shape[1])
            return values.transpose(1, 2).reshape(len(values), self.width, side, side)
        return values.permute(0, 3, 1, 2) if self.channels == 3 else values


def _layout_of(output: object, images: int) -> _Layout | None:
    """The layout of an output if it is a square feature map per image; None for anything else."""
    if not isinstance(output, torch.Tensor) or not output.is_floating_point():
        return None
    shape = output.shape
    if not shape or shape[0] != images:
        return None
    if len(shape) == 4 and shape[2] == shape[3] > 1:
        return _Layout(1, shape[1])
    if len(shape) == 4 and shape[1] == shape[2] > 1:
        return _Layout(3, shape[3])
    if len(shape) == 3 and shape[1] >= 4:
        prefix = shape[1] - math.isqrt(shape[1]) ** 2
        if prefix <= _MOST_PREFIX_TOKENS:
            return _Layout(2, shape[2], prefix)
    return None


class _Watched:
    """A copy of a model that shares its weights and records the output of one layer.

    Hooks on the model itself would affect every thread that uses it.
    """

    def __init__(self, module: nn.Module, image_size: int, channels: int) -> None:
        self.origin = _address(module)
        self.module = _double(module)
        self.name, self.call, self.layout = _find_layer(self.module, image_size, channels)
        self._seen = threading.local()
        self.module.get_submodule(self.name).register_forward_hook(self._keep)

    def look(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits, float32, and the layer's output, to differentiate them by."""
        self._seen.calls, self._seen.values = 0, None
        try:
            logits: torch.Tensor = self.module(inputs).float()
            return logits, self._seen.values
        finally:
            self._seen.values = None

    def _keep(self, layer: nn.Module, given: Any, output: torch.Tensor) -> torch.Tensor | None:
        self._seen.calls += 1
        if self._seen.calls != self.call:
            return None
        # detached from earlier layers: autograd stores and computes nothing for them
        self._seen.values = output.detach().clone().requires_grad_()
        copied: torch.Tensor = self._seen.values.clone()  # the next layer may modify it in place
        return copied


_known: weakref.WeakKeyDictionary[nn.Module, dict[int, _Watched]] = weakref.WeakKeyDictionary()
_known_lock = threading.Lock()


def _watched(model: TrainedModel) -> _Watched:
    with _known_lock:
        sizes = _known.setdefault(model.module, {})
        found = sizes.get(model.image_size)
        if found is None or found.origin != _address(model.module):
            with torch.inference_mode(False):
                found = sizes[model.image_size] = _Watched(
                    model.module, model.image_size, model.windows.inputs
                )
        return found


def _address(module: nn.Module) -> int:
    """An address that changes when the model moves to another device, not when it is trained."""
    return next(module.parameters()).data_ptr()


def _double(module: nn.Module) -> nn.Module:
    """Copy the layers, sharing the tensors, without requiring gradients."""
    memo: dict[int, Any] = {}
    for value in (*module.parameters(), *module.buffers()):
        alias = value.detach().clone() if value.is_inference() else value.detach()
        same = (
            nn.Parameter(alias, requires_grad=False) if isinstance(value, nn.Parameter) else alias
        )
        memo[id(value)] = same
    return copy.deepcopy(module, memo).eval()


def _hands_on(layer: nn.Module, given: Any, output: object) -> bool:
    return bool(given) and output is given[0] and not getattr(layer, "inplace", False)


def _find_layer(module: nn.Module, image_size: int, channels: int) -> tuple[str, int, _Layout]:
    """Find the last layer with a feature map whose positions the logits depend on.

    A pooling layer is skipped in favour of the finer map that it pools. In a vision transformer
    that reads only its class token, the last blocks' outputs are skipped as well: their other
    tokens are not used. That leaves the input of the last attention.

    Args:
        module: only hooks are added, and removed again.
        image_size: side of the images, pixels.
        channels: of the images.

    Returns:
        `(name, call, layout)`: the layer's name, which of its calls it is, from 1, and the layout
        of its output.
    """
    seen: list[tuple[str, int, _Layout, torch.Tensor]] = []
    calls: dict[str, int] = {}
    pooled: list[object] = [None]  # the latest output, if it is a pooling layer's

    def note(name: str) -> Any:
        def hook(layer: nn.Module, given: Any, output: object) -> None:
            calls[name] = calls.get(name, 0) + 1
            layout = _layout_of(output, len(images))
            if layout is None or not isinstance(output, torch.Tensor):
                return
            if isinstance(layer, _POOLS) or output is pooled[0]:
                pooled[0] = output
            # not queries and keys, which are steps within a layer; nor layers that return their
            # input: `StageClassifier` compares maps by identity
            elif not isinstance(layer, nn.Linear) and not _hands_on(layer, given, output):
                seen.append((name, calls[name], layout, output))

        return hook

    handles = [one.register_forward_hook(note(name)) for name, one in module.named_modules()]
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, channels, image_size, image_size, generator=generator)
    images = images.to(next(module.parameters()).device).requires_grad_()
    try:
        with torch.enable_grad():
            logits = module(images)
            if not seen:
                raise UserError(
                    f"Grad-CAM needs a layer with a spatial feature map, which "
                    f"{type(module).__name__} at {image_size} px does not have. Leave Grad-CAM out."
                )
            weights = torch.randn(logits.shape, generator=generator).to(logits.device)
            # only maps with the layout of the last one: the others are parts of a layer
            alike = [one for one in seen if one[2] == seen[-1][2]]
            slopes = torch.autograd.grad(
                (logits * weights).sum(), [one[3] for one in alike], allow_unused=True
            )
    except (RuntimeError, NotImplementedError) as error:
        raise UserError(
            f"Grad-CAM cannot differentiate {type(module).__name__} ({error}). Leave Grad-CAM out."
        ) from None
    finally:
        for handle in handles:
            handle.remove()
    for (name, call, layout, _), slope in reversed(list(zip(alike, slopes, strict=True))):
        if slope is not None:
            most = float(slope.abs().max())
            if float(layout.places(slope).abs().max()) > 1e-6 * most > 0:
                return name, call, layout
    name, call, layout, _ = alike[-1]  # the logits are constant: a classifier of zeros
    return name, call, layout
