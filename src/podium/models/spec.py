"""What a model is to Podium, and how a user adds one. Imports no PyTorch: reports read titles."""

from __future__ import annotations

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
    """A model that studies may name: how it is built, and what is to be said of it.

    Attributes:
        name: what studies call it; a `module:name` is called that.
        build: takes the number of classes, gives a `torch.nn.Module` that maps images of shape
            (n, 3, s, s), float32, to logits of shape (n, classes). Podium seeds PyTorch's generator
            before. It is called with `torch.device("meta")` in force, too, where only shapes are
            asked for, and whenever a trained model is loaded: it should not download anything.
        image_size: s, pixels, where a study does not say.
        classifier: dotted name of the part that gives the logits, which `freeze: backbone` and
            `linear_probe` train; None: the last `nn.Linear`.
        title: how tables and figures call it; empty: its name.
        licence: of the code and the weights, such as `Apache-2.0`; model cards tell it.
        citation: what model cards ask to be cited, as BibTeX or a plain reference.
        description: a line for `podium models`.
        fetch: gives pre-trained weights, tensors by name, for `pretrained: true`; a classifier of
            another shape is left out. None: there are none. It raises
            `podium.WeightsUnavailableError` where they cannot be had.
        available: says in a word or two whether they are at hand.
        normalization: `(mean, std)` of the channels that those weights expect of values in [0, 1];
            None: they are taken as they are.
        source: what those weights are called in messages and on model cards.
        hub_id: their id on the Hugging Face Hub, for model cards; empty: none.

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
                f"model {self.name}: build is {self.build!r}; expected a function "
                "build(num_classes) -> torch.nn.Module."
            )
        if not isinstance(self.image_size, int) or not 1 <= self.image_size <= 4096:
            raise ConfigError(
                f"model {self.name}: image_size is {self.image_size!r}; expected a whole number of "
                "pixels, 1 to 4096."
            )


def register_model(name: str, **about: Any) -> Callable[[Builder], Builder]:
    """A decorator that gives a function which builds a model its name in studies.

    Args:
        name: letters, digits, `_`, `-` and `.`; not one of Podium's. It goes before a name of
            timm's.
        about: anything that `ModelSpec` has besides `name` and `build`, such as `image_size=64`.

    Returns:
        The decorator, which hands the function back as it is.

    Raises:
        ConfigError: the name is Podium's or cannot be one, or `about` holds something else.

    Examples:
        >>> import torch
        >>> import podium
        >>> @podium.register_model("pixels", image_size=32, title="Pixels alone")
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
    """What a user offers as a model: a `ModelSpec`, or a function or class that builds one.

    Args:
        name: what it is called from now on.
        offered: the object.

    Raises:
        ConfigError: it is something else.
    """
    if isinstance(offered, ModelSpec):
        return replace(offered, name=name, title=offered.title or offered.name)
    expected = "expected a function build(num_classes) -> torch.nn.Module, or a podium.ModelSpec"
    if hasattr(offered, "state_dict") and not inspect.isclass(offered):
        raise ConfigError(
            f"model {name} is a {type(offered).__name__} that is built already; {expected}, since "
            "the number of classes and the seed are the study's."
        )
    if not callable(offered):
        raise ConfigError(f"model {name} is {offered!r:.80}; {expected}.")
    try:
        signature = inspect.signature(offered)
        signature.bind(2)
    except TypeError:
        raise ConfigError(
            f"model {name} has the parameters {signature}; {expected}: it is called with the "
            "number of classes alone."
        ) from None
    except ValueError:  # one that is written in C tells no signature
        raise ConfigError(f"model {name} is {offered!r:.80}; {expected}.") from None
    told = "" if inspect.isclass(offered) else inspect.getdoc(offered) or ""
    return ModelSpec(name, offered, description=told.split("\n")[0])


MODELS.convert = as_model
