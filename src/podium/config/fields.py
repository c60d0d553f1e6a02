"""Types of settings that several groups share: names in registries, and the strict base class."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
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


class Strict(BaseModel):
    """Settings that cannot be changed, and refuse keys that they do not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
