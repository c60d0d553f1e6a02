"""Types of settings that several groups share: names in registries, and the strict base class."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)

from podium.config.registry import (
    AUGMENTATIONS,
    EXECUTORS,
    LOSSES,
    METRICS,
    MODELS,
    SOURCES,
    TRACKERS,
    Registry,
)


def _unless_stored(name: Any, check: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    """Accept a stored study's names even if they are not installed, so that it can be reported."""
    stored = (info.context or {}).get("stored") and isinstance(name, str)
    return name if stored else check(name)


def _names(registry: Registry[Any]) -> tuple[Any, ...]:
    """The annotations of a setting that takes names of a registry."""
    check, schema = AfterValidator(registry.check), WithJsonSchema(registry.schema())
    return check, WrapValidator(_unless_stored), schema


AugmentationName = Annotated[str, *_names(AUGMENTATIONS)]
ExecutorName = Annotated[str, *_names(EXECUTORS)]
LossName = Annotated[str, *_names(LOSSES)]
MetricName = Annotated[str, *_names(METRICS)]
ModelName = Annotated[str, *_names(MODELS)]
SourceName = Annotated[str, *_names(SOURCES)]
TrackerName = Annotated[str, *_names(TRACKERS)]


def _classes_as_text(value: Any) -> Any:
    """YAML reads a class named 3 as a number."""
    if not isinstance(value, dict):
        return value
    return {str(name) if type(name) is int else name: weight for name, weight in value.items()}


Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]
ClassWeights = Annotated[
    Literal["none", "balanced", "effective"] | Annotated[dict[str, Weight], Field(min_length=1)],
    BeforeValidator(_classes_as_text),
]


class Strict(BaseModel):
    """Settings that cannot be changed, and refuse keys that they do not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
