"""The specification of a model, and how a user adds one. Imports no PyTorch, for reports."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from podium.config.registry import MODELS
from podium.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import nn

    Builder = Callable[[int], nn.Module]
    State = dict[str, torch.Tensor]

Channels = tuple[float, ...] | None


def _no_weights() -> str:
    return "none"


@dataclass(frozen=True)
class ModelSpec:
    """A model that studies can name: how it is built, and how it is described.

    Attributes:
        name: the name in studies; for a `module:name`, that name.
        build: takes the number of classes and returns a `torch.nn.Module` that maps images of
            shape (n, 3, s, s), float32, to logits of shape (n, classes). Podium seeds PyTorch's
            generator first. It is also called under `torch.device("meta")` if only shapes are
            needed, and whenever a trained model is loaded: it should not download anything. With
            an argument `in_chans`, it can also be used for images of other channels than RGB: it
            is called with their number.
        image_size: s in pixels, unless a study sets it.
        classifier: dotted name of the part that computes the logits, which `freeze: backbone` and
            `linear_probe` train; None: the last `nn.Linear`.
        title: the name in tables and figures; empty string: `name`.
        licence: of the code and the weights, such as `Apache-2.0`, for model cards.
        citation: BibTeX or a plain reference, for model cards.
        description: one line for `podium models`.
        fetch: returns pre-trained weights, tensors by name, for `pretrained: true`; a classifier
            of another shape is left out. It raises `podium.WeightsUnavailableError` if they are
            not available. None: there are no pre-trained weights.
        available: returns in a word or two whether the weights are available.
        normalization: `(mean, std)` per channel that those weights expect, of values in [0, 1];
            None: not normalised.
        source: name of the weights in messages and on model cards.
        hub_id: id of the weights on the Hugging Face Hub, for model cards; empty string: none.

    Raises:
        ConfigError: `build` is not callable, or `image_size` is not 1 to 4096.

    Examples:
        >>> import torch
        >>> import podium
        >>> def tiny(num_classes):
        ...     pooled = [torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten()]
        ...     return torch.nn.Sequential(*pooled, torch.nn.Linear(48, num_classes))
        >>> spec = podium.ModelSpec("tiny", tiny, image_size=32, title="Tiny")
        >>> spec.build(10)(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    name: str
    build: Builder
    image_size: int = 224
    classifier: str | None = None
    title: str = ""
    licence: str = ""
    citation: str = ""
    description: str = ""
    fetch: Callable[[], State] | None = None
    available: Callable[[], str] = _no_weights
    normalization: tuple[Channels, Channels] = (None, None)
    source: str = ""
    hub_id: str = ""

    def __post_init__(self) -> None:
        if not callable(self.build):
            raise ConfigError(
                f"model {self.name}: build: expected a function build(num_classes) -> "
                f"torch.nn.Module, got {self.build!r}."
            )
        if not isinstance(self.image_size, int) or not 1 <= self.image_size <= 4096:
            raise ConfigError(
                f"model {self.name}: image_size: expected a whole number of pixels, 1 to 4096, got "
                f"{self.image_size!r}."
            )


def register_model(name: str, **about: Any) -> Callable[[Builder], Builder]:
    """Register a function that builds a model under a name that studies can use: a decorator.

    Args:
        name: letters, digits, `_`, `-` and `.`; not one of Podium's. It takes precedence over a
            timm model of that name.
        about: any field of `ModelSpec` except `name` and `build`, such as `image_size=64`.

    Returns:
        The decorator, which returns the function unchanged.

    Raises:
        ConfigError: the name is Podium's or not valid, or `about` has an unknown field.

    Examples:
        >>> import torch
        >>> import podium
        >>> @podium.register_model("pixels", image_size=32, title="Pixels only")
        ... def pixels(num_classes):
        ...     linear = torch.nn.Linear(3 * 32 * 32, num_classes)
        ...     return torch.nn.Sequential(torch.nn.Flatten(), linear)
        >>> podium.build_model("pixels", 10).image_size
        32
    """

    def decorate(build: Builder) -> Builder:
        try:
            spec = replace(as_model(name, build), **about)
        except TypeError as error:
            raise ConfigError(f"model {name}: {error}. See podium.ModelSpec.") from None
        MODELS.register(name, spec, build)
        return build

    return decorate


def as_model(name: str, offered: Any) -> ModelSpec:
    """Convert what a user registers as a model to a `ModelSpec`.

    Args:
        name: the name in studies.
        offered: a `ModelSpec`, or a function or class that builds a model.

    Raises:
        ConfigError: it is something else.
    """
    if isinstance(offered, ModelSpec):
        return replace(offered, name=name, title=offered.title or offered.name)
    expected = "expected a function build(num_classes) -> torch.nn.Module, or a podium.ModelSpec"
    if hasattr(offered, "state_dict") and not inspect.isclass(offered):
        raise ConfigError(
            f"model {name} is a {type(offered).__name__} that is already built; {expected}, since "
            "the study sets the number of classes and the seed."
        )
    if not callable(offered):
        raise ConfigError(f"model {name} is {offered!r:.80}; {expected}.")
    try:
        signature = inspect.signature(offered)
        signature.bind(2)
    except TypeError:
        raise ConfigError(
            f"model {name} has the parameters {signature}; {expected}: it is called with only the "
            "number of classes."
        ) from None
    except ValueError:  # functions written in C have no signature
        raise ConfigError(f"model {name} is {offered!r:.80}; {expected}.") from None
    doc = "" if inspect.isclass(offered) else inspect.getdoc(offered) or ""
    return ModelSpec(name, offered, description=doc.split("\n")[0])


def for_channels(spec: ModelSpec, channels: int) -> ModelSpec:
    """The model for images of some number of channels.

    Args:
        spec: of a model.
        channels: of its input.

    Raises:
        ConfigError: it takes 3.
    """
    if channels == 3:
        return spec
    try:
        takes_them = "in_chans" in inspect.signature(spec.build).parameters
    except ValueError:  # written in C
        takes_them = False
    if not takes_them:
        raise ConfigError(
            f"model {spec.name} takes 3 channels, and the images have {channels} (data.channels). "
            "Use simple_resnet, inception_resnet, efficientnet_lite0, one of timm's models, or one "
            "of your own whose function has an argument in_chans."
        )
    build: Any = spec.build
    return replace(spec, build=functools.partial(build, in_chans=channels))


MODELS.convert = as_model
