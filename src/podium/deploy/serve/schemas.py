"""The JSON of the answers, as /openapi.json and /api describe it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Part(BaseModel):
    model_config = ConfigDict(protected_namespaces=(), populate_by_name=True)


class Prediction(_Part):
    """One class."""

    name: str = Field(alias="class", description="Name of the class.")
    probability: float = Field(ge=0, le=1, description="softmax(logits / temperature).")


class ImageSize(_Part):
    """Size of the picture that was sent."""

    width: int = Field(description="Pixels, once it is turned as its EXIF says.")
    height: int


class Answer(_Part):
    """What one model says of the picture."""

    model: str
    predictions: list[Prediction] = Field(description="The likeliest first, `top` of them.")
    image: ImageSize
    milliseconds: float = Field(description="From the whole upload to this answer, on the server.")
    gradcam: str | None = Field(
        None,
        description="Data URL of a JPEG: the picture with Grad-CAM laid over it, its longer side "
        "at most 640 pixels. Null where it was not asked for, or the model is an export.",
    )
    explained: str | None = Field(None, description="The class that `gradcam` is for.")


class Answers(_Part):
    """What several models say of the same picture."""

    answers: list[Answer] = Field(description="In the order of /v1/models, or as asked for.")


class ModelInfo(_Part):
    """A model of this server."""

    name: str
    label: str
    classes: list[str] = Field(description="In the order of the model's logits.")
    image_size: int = Field(description="Side of the square that pictures are squeezed to.")
    gradcam: bool = Field(description="Whether it can say where it looked.")
    valid_accuracy: float | None = Field(description="0 to 1, where it is known.")
    test_accuracy: float | None = Field(description="0 to 1, where it is known.")
    test_interval: tuple[float, float] | None = Field(description="Wilson's 95 % interval.")
    test_images: int | None


class ServerLimits(_Part):
    """What is refused."""

    max_bytes: int
    max_pixels: int


class Models(_Part):
    """The models of this server."""

    title: str
    default: str = Field(description="The best on validation images; answers unless asked.")
    models: list[ModelInfo]
    limits: ServerLimits


class ExampleInfo(_Part):
    """A picture to try."""

    url: str
    label: str | None = Field(description="Its true class, where it is known.")


class Examples(_Part):
    """Pictures to try."""

    source: Literal["test images", "folder", "none"]
    examples: list[ExampleInfo]


class Health(_Part):
    """That the server is well."""

    status: Literal["ok"]
    version: str
    models: int
    under_way: int = Field(description="Pictures that are read, wait or are answered now.")


class ErrorText(_Part):
    """What went wrong."""

    code: str = Field(description="For programs; never changes.")
    message: str = Field(description="For people.")


class ErrorAnswer(_Part):
    """Every error."""

    error: ErrorText
