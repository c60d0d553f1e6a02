"""The metric of a study, built-in or user-defined: it chooses epochs and ranks contenders.

A metric is a function of logits and labels. Its other properties (title, whether higher is better,
range) are stored in `done.json`, so a report can be rebuilt where a user's function is not
available.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, overload

import numpy as np

from podium.config.registry import METRICS
from podium.errors import ConfigError, PodiumError
from podium.statistics.scorers import (
    Labels,
    Logits,
    Scorer,
    among_top,
    auroc,
    auroc_values,
    is_right,
    log_losses,
    macro_f1_of,
    matthews,
    mean_recall,
)
from podium.statistics.selective import accuracy_at_90, values_at_90

Function = TypeVar("Function", bound=Callable[..., Any])

MOST_TRIED = 50_000_000  # logits on which a metric is tried before a study
RESERVED = ("loss",)  # its column would clash with that of the validation loss


@dataclass(frozen=True)
class Metric:
    """A metric of a model's predictions on a split.

    Examples:
        >>> import numpy as np
        >>> from podium.statistics.scoring import find_metric
        >>> metric = find_metric("balanced_accuracy")
        >>> logits = np.array([[2, 1], [3, 0], [1, 0], [0, 5]], np.float32)
        >>> metric.score(logits, np.array([0, 0, 1, 1]))
        0.75
        >>> metric.text(0.75)
        '75.0 %'
    """

    name: str
    """Its name in a study's `metric:`."""
    title: str
    """Its name in sentences and headings, such as `macro F1`."""
    function: Scorer = field(repr=False, compare=False)
    """Takes logits, float32 of shape (images, classes), and labels, int64 class indices of shape
    (images,); returns a finite number."""
    greater_is_better: bool = True
    """False: lower is better, as for a loss."""
    bounds: tuple[float, float] = (-math.inf, math.inf)
    """The range of its values."""
    percent: bool = False
    """Whether it is a share in 0..1 that is shown in %."""
    per_image: Scorer | None = field(default=None, repr=False, compare=False)
    """For a mean over images: returns the value of each image, shape (images,)."""
    per_image_of_class: Scorer | None = field(default=None, repr=False, compare=False)
    """For a mean over classes of the mean within each: the same."""
    contributions: Scorer | None = field(default=None, repr=False, compare=False)
    """For another metric whose variance is known: returns values, shape (images,), whose mean is
    the metric and whose variance is that of an image's contribution to it."""

    needs_every_logit: bool = field(default=True, repr=False, compare=False)
    """False: the largest logits, that of the label and the log-sum-exp determine it."""

    @property
    def is_accuracy(self) -> bool:
        """Whether it is plain accuracy, which has exact tests."""
        return self.name == "accuracy"

    @property
    def column(self) -> str:
        """Its column in `history.csv`."""
        return f"valid_{self.name}"

    def merit(self, value: float) -> float:
        """The value with its sign flipped where lower is better, so that higher always wins.

        Args:
            value: of the metric.
        """
        return value if self.greater_is_better else -value

    def text(self, value: float) -> str:
        """The value as shown in a terminal.

        Args:
            value: of the metric.
        """
        return f"{100 * value:.1f} %" if self.percent else f"{value:.4g}"

    def in_units(self, margin: float | None) -> float | None:
        """A margin as users give it, in units of the metric: points become shares.

        Args:
            margin: in points for a metric that is shown in %; None: none is given.

        Raises:
            ConfigError: it is not above 0, or is 100 points or more.
        """
        if margin is None:
            return None
        if not 0 < margin < (100.0 if self.percent else math.inf):
            wanted = "points above 0 and below 100" if self.percent else "a number above 0"
            raise ConfigError(f"margin: expected {wanted} of {self.title}, got {margin:g}.")
        return margin / 100 if self.percent else margin

    def score(self, logits: Logits, labels: Labels) -> float:
        """Compute the metric of a split.

        Args:
            logits: float32, shape (images, classes).
            labels: class index of each image, int64, shape (images,).

        Raises:
            ConfigError: the function fails, or does not return a finite number in its range.
        """
        try:
            value = float(self.function(logits, labels))
        except PodiumError:
            raise
        except Exception as error:
            raise ConfigError(
                f"metric {self.name} failed on {_shape(labels)} ({type(error).__name__}: {error})."
            ) from error
        low, high = self.bounds
        if not (math.isfinite(value) and low - 1e-6 <= value <= high + 1e-6):
            expected = (
                "a finite number"
                if math.isinf(low) and math.isinf(high)
                else f"a number from {low:g} to {high:g}"
            )
            raise ConfigError(
                f"metric {self.name}: expected {expected}, got {value:g} on {_shape(labels)}."
            )
        return value

    def described(self) -> dict[str, Any]:
        """Its properties for `done.json`: everything except the function."""
        low, high = (bound if math.isfinite(bound) else None for bound in self.bounds)
        return {
            "name": self.name,
            "title": self.title,
            "greater_is_better": self.greater_is_better,
            "low": low,
            "high": high,
            "percent": self.percent,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle it without the function, which another process may be unable to import."""
        return _told, (self.described(),)


def _shape(labels: Labels) -> str:
    return f"{len(labels):,} images of {len(np.unique(labels)):,} classes"


@overload
def register_metric(function: Function, /) -> Function: ...
@overload
def register_metric(
    *,
    name: str | None = None,
    title: str | None = None,
    greater_is_better: bool = True,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    percent: bool = False,
    per_image: Scorer | None = None,
) -> Callable[[Function], Function]: ...
def register_metric(
    function: Function | None = None,
    /,
    *,
    name: str | None = None,
    title: str | None = None,
    greater_is_better: bool = True,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    percent: bool = False,
    per_image: Scorer | None = None,
) -> Function | Callable[[Function], Function]:
    """Register a function as a metric that studies can name; a decorator with or without settings.

    Args:
        function: takes logits, float32 of shape (images, classes), and labels, int64 class indices
            of shape (images,). It returns a finite number, even where a class has no images. The
            softmax of the logits gives the probabilities.
        name: its name in a study's `metric:`; None: the function's name.
        title: its name in sentences; None: the name.
        greater_is_better: False for a loss.
        bounds: the range of its values; a value outside is an error.
        percent: whether it is a share in 0..1 to be shown in %.
        per_image: for a metric that is a mean over images, a function of the same arguments that
            returns the value of each image, shape (images,); it makes intervals and tests exact
            and fast.

    Raises:
        ConfigError: the name is taken by a built-in metric, or is not a valid name.

    Examples:
        >>> import numpy as np
        >>> import podium
        >>> @podium.register_metric(title="accuracy of class 0", bounds=(0, 1), percent=True)
        ... def first_recall(logits, labels):
        ...     found = logits.argmax(axis=1) == 0
        ...     return float(found[labels == 0].mean()) if (labels == 0).any() else 0.0
        >>> first_recall(np.eye(2, dtype=np.float32), np.array([0, 1]))
        1.0
    """

    def register(offered: Function) -> Function:
        key = name or str(getattr(offered, "__name__", ""))
        made = replace(
            _metric(key, offered),
            title=title or key,
            greater_is_better=greater_is_better,
            bounds=(float(bounds[0]), float(bounds[1])),
            percent=percent,
            per_image=per_image,
        )
        METRICS.register(key, made, offered)
        return offered

    return register if function is None else register(function)


def _metric(name: str, offered: Any) -> Metric:
    """Turn an object from a file or package into a metric."""
    expected = (
        f"metric {name}: expected a function of logits (images, classes) and labels (images,) that "
        "returns a number"
    )
    if not callable(offered) or inspect.isclass(offered):
        raise ConfigError(f"{expected}, got {type(offered).__name__}.")
    if name in RESERVED:
        raise ConfigError(
            f"metric {name!r}: the name is taken by the validation loss. Choose another name."
        )
    try:
        inspect.signature(offered).bind(None, None)
    except TypeError as error:
        raise ConfigError(f"{expected}, got one with other parameters ({error}).") from None
    except ValueError:  # a C function without a signature
        pass
    return Metric(name, name.rpartition(":")[2], offered)


METRICS.convert = _metric


def find_metric(name: str) -> Metric:
    """Find a metric by name.

    Args:
        name: of a built-in or registered metric, or `module:name`.

    Raises:
        ConfigError: there is no such metric, or its code has not been allowed to run.
    """
    found: Metric = METRICS[name]
    return found if found.name == name else replace(found, name=name)


def refuse_metric(metric: Metric, labels: Labels, classes: int, split: str) -> None:
    """Try a metric on perfect, worst and tied predictions before hours of training are spent.

    Args:
        metric: to try; accuracy is skipped.
        labels: class index of each image of the split.
        classes: number of classes.
        split: its name, for messages.

    Raises:
        ConfigError: the metric fails, is not finite, or does not rank perfect above the worst
            predictions.
    """
    if metric.is_accuracy:
        return
    labels = labels[:: max(1, len(labels) * classes // MOST_TRIED)]
    best = np.zeros((len(labels), classes), np.float32)
    metric.score(best.copy(), labels)  # all logits tied
    best[np.arange(len(labels)), labels] = 10
    good, bad = (metric.score(logits, labels) for logits in (best, -best))
    where = f"on the {_shape(labels).replace('images', f'{split} images')}"
    if metric.merit(good) < metric.merit(bad):
        said, other = ("higher", False) if metric.greater_is_better else ("lower", True)
        raise ConfigError(
            f"metric {metric.name}: {said} is declared better, but {where} perfect predictions "
            f"give {good:g} and their reverse {bad:g}. Register it with greater_is_better={other}."
        )
    if good == bad:
        raise ConfigError(
            f"metric {metric.name} cannot rank anything {where}: perfect predictions and their "
            f"reverse both give {good:g}. Choose another metric, or add {split} images of all "
            "classes."
        )


@dataclass(frozen=True)
class Noted:
    """The metric of a finished run's study, and its values in the best epoch."""

    metric: Metric
    valid: float | None
    test: float | None

    @property
    def valid_merit(self) -> float | None:
        """The validation score by which contenders and seeds are chosen: higher is better."""
        return None if self.valid is None else self.metric.merit(self.valid)


def noted(done: Mapping[str, Any]) -> Noted:
    """Read the metric from a closing record; records of earlier versions have accuracy.

    It imports no user code: a user's function is looked up when it is called.

    Args:
        done: the closing record, as returned by `RunFolder.read_done`.

    Raises:
        TypeError, ValueError: the record is damaged.
    """
    told = done.get("metric", {"name": ACCURACY.name})
    if not isinstance(told, Mapping) or not isinstance(told.get("name"), str):
        raise TypeError("metric: expected a mapping with a name")
    if told["name"] == ACCURACY.name:
        valid, test = (_number(done.get(f"{split}_accuracy")) for split in ("valid", "test"))
        return Noted(ACCURACY, valid, test)
    return Noted(_told(told), _number(told.get("valid")), _number(told.get("test")))


def _told(told: Mapping[str, Any]) -> Metric:
    """The metric with the given properties; its function is looked up by name when called."""
    name = told["name"]
    if name in METRICS.built_in:
        return find_metric(name)
    low, high = _number(told.get("low")), _number(told.get("high"))
    return Metric(
        name=name,
        title=str(told.get("title") or name),
        function=lambda logits, labels: find_metric(name).function(logits, labels),
        greater_is_better=bool(told.get("greater_is_better", True)),
        bounds=(-math.inf if low is None else low, math.inf if high is None else high),
        percent=bool(told.get("percent", False)),
    )


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _mean_of(per_image: Scorer) -> Scorer:
    return lambda logits, labels: float(per_image(logits, labels).mean())


def _share(name: str, title: str, function: Scorer, per_image: Scorer | None = None) -> Metric:
    return Metric(
        name,
        title,
        function,
        bounds=(0.0, 1.0),
        percent=True,
        per_image=per_image,
        needs_every_logit=False,
    )


ACCURACY = _share("accuracy", "accuracy", _mean_of(is_right), is_right)
ANSWERED_90 = _share("accuracy_at_90", "accuracy at 90 % answered", accuracy_at_90, values_at_90)

for _one in (
    ACCURACY,
    replace(
        _share("balanced_accuracy", "balanced accuracy", mean_recall), per_image_of_class=is_right
    ),
    _share("macro_f1", "macro F1", macro_f1_of),
    Metric("mcc", "Matthews correlation", matthews, bounds=(-1.0, 1.0), needs_every_logit=False),
    Metric("auroc", "AUROC", auroc, bounds=(0.0, 1.0), contributions=auroc_values),
    Metric(
        "log_loss",
        "log loss",
        _mean_of(log_losses),
        False,
        (0.0, math.inf),
        per_image=log_losses,
        needs_every_logit=False,
    ),
    ANSWERED_90,
    *(
        _share(f"top{k}_accuracy", f"top-{k} accuracy", _mean_of(among_top(k)), among_top(k))
        for k in (3, 5)
    ),
):
    METRICS.register(_one.name, _one)
