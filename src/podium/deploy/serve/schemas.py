"""The JSON of the responses, as described by /openapi.json and /api."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Part(BaseModel):
    model_config = ConfigDict(protected_namespaces=(), populate_by_name=True)


class Prediction(_Part):
    """One class with its probability."""

    name: str = Field(alias="class", description="Name of the class.")
    probability: float = Field(ge=0, le=1, description="softmax(logits / temperature).")


class ImageSize(_Part):
    """Size of the uploaded image."""

    width: int = Field(description="Pixels, after rotation by its EXIF orientation.")
    height: int


class Answer(_Part):
    """One model's answer for the image."""

    model: str
    predictions: list[Prediction] = Field(
        description="The `top` most likely, the most likely first."
    )
    candidates: list[Prediction] | None = Field(
        None,
        alias="set",
        description="The set of classes that contains the true one with the model's `coverage`, "
        "the most likely first. Null if the server was started without --coverage.",
    )
    none_of_these: bool | None = Field(
        None,
        description="Whether the image is less similar to training images than the model's `keep` "
        "of the validation images. Null if the server was started without --keep.",
    )
    image: ImageSize
    milliseconds: float = Field(
        description="Time on the server, from the complete upload to this answer."
    )
    gradcam: str | None = Field(
        None,
        description="Data URL of a JPEG: the image with a Grad-CAM overlay, its longer side "
        "at most 640 pixels. Null if not requested, or if the model is an export.",
    )
    explained: str | None = Field(None, description="The class that `gradcam` is for.")


class Answers(_Part):
    """Answers of several models for the same image."""

    answers: list[Answer] = Field(description="In the order of /v1/models, or as requested.")


class ModelInfo(_Part):
    """A model of this server."""

    name: str
    label: str
    classes: list[str] = Field(description="In the order of the model's logits.")
    image_size: int = Field(description="Side of the square that images are resized to.")
    gradcam: bool = Field(description="Whether Grad-CAM is available.")
    valid_accuracy: float | None = Field(description="0 to 1; null if not known.")
    test_accuracy: float | None = Field(description="0 to 1; null if not known.")
    test_interval: tuple[float, float] | None = Field(description="Wilson's 95 % interval.")
    test_images: int | None
    coverage: float | None = Field(
        description="Share of sets that contain the true class, or more, on images like the "
        "validation images, 0 to 1; null if it answers without sets."
    )
    keep: float | None = Field(
        description="Share of images like the validation images that are not called "
        "`none_of_these`, 0 to 1; null if no image is."
    )
    coverage_by_class: bool = Field(description="Whether that holds for the images of each class.")


class ServerLimits(_Part):
    """Limits on uploads."""

    max_bytes: int
    max_pixels: int


class Models(_Part):
    """The models of this server."""

    title: str
    default: str = Field(description="The best on validation images; used by default.")
    models: list[ModelInfo]
    limits: ServerLimits


class ExampleInfo(_Part):
    """An example image."""

    url: str
    label: str | None = Field(description="Its true class; null if not known.")


class Examples(_Part):
    """Example images."""

    source: Literal["test images", "folder", "none"]
    examples: list[ExampleInfo]


class Health(_Part):
    """The server's health."""

    status: Literal["ok"]
    version: str
    models: int
    under_way: int = Field(description="Images that are being read, waiting or answered now.")


class ErrorText(_Part):
    """What went wrong."""

    code: str = Field(description="For programs; never changes.")
    message: str = Field(description="For people.")


class ErrorAnswer(_Part):
    """The format of every error."""

    error: ErrorText
