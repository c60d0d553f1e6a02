"""Typed settings of a study, validated before anything runs, read from and written as YAML.

`StudySpec` is the whole study, `RunSpec` one contender's recipe. A recipe decides the result, so
it is stored with the run and compared when the run is resumed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from podium.config.data_settings import DataSpec, as_mapping
from podium.config.fields import (
    AugmentationName,
    ClassWeights,
    LossName,
    MetricName,
    ModelName,
    Strict,
)
from podium.config.means import MOST_MEMBERS, OF_A_MEAN, as_recipe, is_mean, member_mistakes
from podium.config.seeds import MOST_SEEDS, Seeds, auto_mistakes
from podium.config.shortcuts import FILE_MODEL, SHORTCUT_MODELS, with_shortcuts
from podium.config.tuning import Tune, tune_mistakes

Pooling = Literal["own", "stages"]
ProbeKind = Literal["logistic", "lda"]
OF_ANY_CHANNELS = ("none", "crop_flip")
"""The augmentations that images of any number of channels can have; the others are made for RGB."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def _check_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(
            f"expected letters, digits, '.', '_' and '-' (it becomes a folder), got {name!r}"
        )
    return name


class RunSpec(Strict):
    """One contender: a model and everything that decides what it learns, or a mean of others.

    Examples:
        >>> import podium
        >>> podium.RunSpec(model="simple_resnet", epochs=2).optimizer
        'adam'
    """

    model: ModelName
    """A name that `podium models` lists, any timm model, or your own function `module:name`."""
    pretrained: bool = False
    """Start from the model's ImageNet weights."""
    weights: Path | None = None
    """Start from this local file (a state dict, .pth or .safetensors) instead of a download."""
    if_unavailable: ModelName | None = None
    """The pre-trained model to use instead if `model`'s weights are not available."""
    freeze: Literal["none", "backbone"] = "none"
    """`backbone`: train only the last linear layer, on fixed features."""
    pooling: Pooling = "own"
    """Input of the classifier: `own`, the model's own features, or `stages`, those plus the
    average of every stage's map and the maximum of the last (after Head2Toe; Evci et al., 2022)."""
    linear_probe: bool | Literal["lda"] = False
    """Epoch 1 fits the classifier on frozen features: logistic regression, or `lda`, linear
    discriminant analysis with a shrunken covariance. Its penalty or shrinkage is chosen on
    validation images. Further epochs fine-tune with fixed batch-norm statistics (LP-FT), unless
    `freeze: backbone`."""
    augmentation: AugmentationName = "none"
    """Augmentation of training images only. Your own: `module:name`, or its registered name."""
    mixup: float = Field(default=0.0, ge=0, le=10)
    """Alpha of mixup's Beta distribution; 0 is off."""
    cutmix: float = Field(default=0.0, ge=0, le=10)
    """Alpha of CutMix's Beta distribution; 0 is off. With both, each batch uses one at random."""
    crop_scale: float = Field(default=0.35, gt=0, le=1)
    """`crop_flip`: the least share of the image's area that a crop keeps."""
    flip: Literal["random", "alternate"] = "random"
    """`crop_flip`: mirror images at random, or in every other epoch (Jordan, 2024)."""
    image_size: int | None = Field(default=None, ge=32, le=1024)
    """Side of the square that the model sees, in pixels; None: the model's own."""
    progressive_sizes: tuple[Annotated[int, Field(ge=32, le=1024)], ...] = ()
    """Sides of the training images instead, each for an equal share of the epochs; repeat one
    to give it more. Validation and test images keep `image_size`."""
    normalize: Literal["weights", "none"] = "weights"
    """`weights`: mean and std of the pre-trained weights (none when training from scratch)."""
    train_share: float = Field(default=1.0, gt=0, le=1)
    """Share of the training images to learn from, of each class or in whole groups. A smaller share
    is part of a larger one; each seed draws its own. See `podium curve`."""
    epochs: int = Field(ge=1, le=100_000)
    """Passes over the training images, at most."""
    batch_size: int = Field(default=32, ge=2, le=65_536)
    """Images per step, over all devices together."""
    optimizer: Literal["adam", "adamw", "sgd", "muon"] = "adam"
    """`sgd` uses momentum 0.9; adam and adamw PyTorch's default betas; `muon` orthogonalises the
    updates of convolutions (Jordan et al., 2024) and uses adamw for the rest."""
    lr: float = Field(default=1e-4, gt=0, le=100)
    """Learning rate: the initial one, or the peak of `one_cycle`."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Factor on the learning rate for each layer further from the classifier; 1 is off."""
    weight_decay: float = Field(default=0.0, ge=0, le=10)
    """L2 penalty (adam, sgd) or decoupled decay (adamw, muon)."""
    decay_norm_bias: bool = True
    """Whether weight decay also applies to biases and batch norms."""
    lr_schedule: Literal["steps", "one_cycle"] = "steps"
    """`steps`: constant except for `lr_drop`. `one_cycle`: changes at every step, up to `lr` and
    down to nearly nothing at the end of the last epoch (Smith and Topin, 2018)."""
    warmup: float = Field(default=0.2, gt=0, lt=1)
    """Share of the steps during which `one_cycle` rises."""
    lr_drop: int | Literal["plateau"] | None = None
    """When to multiply the rate by `lr_drop_factor`: after this epoch, or at a `plateau`."""
    lr_drop_factor: float = Field(default=0.1, gt=0, lt=1)
    """Factor on the learning rate at the drop."""
    plateau_patience: int = Field(default=4, ge=1, le=10_000)
    """Epochs without a better validation loss or study `metric` that count as a plateau."""
    early_stop: int | None = Field(default=None, ge=1, le=10_000)
    """Stop after this many epochs without a better study `metric` (validation); None: never."""
    loss: LossName = "cross_entropy"
    """Training loss. `focal` gives less weight to images already classified well (Lin et al.,
    2017), `logit_adjusted` demands a larger margin for rare classes (Menon et al., 2021); your
    own: `module:name`, or its registered name. `valid_loss` is always plain cross entropy."""
    class_weights: ClassWeights = "none"
    """Weight of an image by its class: `balanced` is inversely proportional to the class's
    number of training images, `effective` to their effective number (Cui et al., 2019); or your
    own, class: weight, and 1 for a class that you leave out. A batch's loss is the weighted mean,
    as in PyTorch; a linear probe is fitted with the same weights."""
    effective_beta: float = Field(default=0.999, gt=0, lt=1)
    """`class_weights: effective`: effective number of n images, (1 - beta^n) / (1 - beta)."""
    sampler: Literal["shuffle", "balanced"] = "shuffle"
    """`balanced`: an epoch has its usual number of images, but equally many of each class: those
    of a rare class are repeated, of a common one some are left for other epochs."""
    focal_gamma: float = Field(default=2.0, ge=0, le=10)
    """`loss: focal`: exponent of the factor (1 - p)^gamma; 0 is cross entropy."""
    logit_tau: float = Field(default=1.0, ge=0, le=10)
    """`loss: logit_adjusted`: factor on the logarithm of a class's share of the training images,
    added to its logit in training only; 0 is cross entropy."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Probability mass that the target spreads over all classes."""
    ema: float = Field(default=0.0, ge=0, lt=1)
    """Decay per step of an exponential moving average of the weights, which is then what is
    validated and kept; 0 is off. The decay is smaller in the first steps."""
    flip_test: bool = False
    """Score every image and its mirror image, and average the logits."""
    mean_of: tuple[str, ...] = Field(default=(), max_length=MOST_MEMBERS)
    """Instead of all of the above: the contenders, two or more, whose calibrated probabilities are
    averaged, each of the same seed. Nothing is trained; only `label` can be set beside it."""
    label: str | None = Field(default=None, max_length=60)
    """Name shown in figures and tables; None: the contender's key."""

    @model_validator(mode="before")
    @classmethod
    def _mean_has_no_recipe(cls, values: Any) -> Any:
        return as_recipe(values) if is_mean(values) else values

    @model_serializer(mode="wrap")
    def _only_what_counts(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = serialize(self)
        if self.mean_of:
            return {key: value for key, value in values.items() if key in OF_A_MEAN}
        values.pop("mean_of", None)
        return values

    @field_validator("mean_of")
    @classmethod
    def _members_differ(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value) or len(value) == 1:
            raise ValueError("expected the names of two or more contenders, all different")
        return value

    @field_validator("lr_drop")
    @classmethod
    def _drop_is_an_epoch(cls, value: int | str | None) -> int | str | None:
        if isinstance(value, int) and value < 1:
            raise ValueError("an epoch of 1 or more, 'plateau', or nothing")
        return value

    @field_serializer("weights")
    def _path_as_text(self, value: Path | None) -> str | None:
        return None if value is None else str(value)

    @model_validator(mode="after")
    def _refuse_conflicts(self) -> RunSpec:
        if found := list(self._conflicts()):
            raise ValueError("\n".join(found))  # one per line
        return self

    def _conflicts(self) -> Iterator[str]:
        starts_pretrained = self.pretrained or self.weights is not None
        starts_pretrained = starts_pretrained or self.model in SHORTCUT_MODELS
        if self.freeze == "backbone" and not starts_pretrained:
            yield ("freeze: backbone needs pretrained: true or weights: FILE (not random weights)")
        if self.if_unavailable and not self.pretrained:
            yield "if_unavailable needs pretrained: true (nothing else is downloaded)"
        if self.if_unavailable and self.weights is not None:
            yield "if_unavailable and weights exclude each other: a file is local"
        if self.freeze == "backbone" and self.ema:
            yield "ema and freeze: backbone exclude each other (linear heads need none)"
        if self.lr_schedule == "one_cycle" and self.lr_drop is not None:
            yield "lr_drop needs lr_schedule: steps (one_cycle decays on its own)"
        if self.augmentation != "crop_flip":
            changed = [("crop_scale", self.crop_scale != 0.35), ("flip", self.flip != "random")]
            for name in (name for name, is_set in changed if is_set):
                yield f"{name} needs augmentation: crop_flip (no other uses it)"
        yield from self._loss_conflicts()
        yield from self._probe_conflicts(starts_pretrained)

    def _loss_conflicts(self) -> Iterator[str]:
        for name, off, other, needed in (
            ("effective_beta", 0.999, "class_weights", "effective"),
            ("focal_gamma", 2.0, "loss", "focal"),
            ("logit_tau", 1.0, "loss", "logit_adjusted"),
        ):
            if getattr(self, name) != off and getattr(self, other) != needed:
                yield f"{name} needs {other}: {needed}"
        fixes = [
            setting
            for setting, is_set in (
                ("class_weights", self.class_weights != "none"),
                ("sampler: balanced", self.sampler == "balanced"),
                ("loss: logit_adjusted", self.loss == "logit_adjusted"),
            )
            if is_set
        ]
        if len(fixes) > 1:
            yield f"{' and '.join(fixes)} exclude each other: both fix imbalance"

    def _probe_conflicts(self, starts_pretrained: bool) -> Iterator[str]:
        if self.layer_decay < 1 and self.freeze == "backbone":
            yield "layer_decay needs freeze: none (only one layer is trained)"
        if self.layer_decay < 1 and self.optimizer == "muon":
            yield "layer_decay needs optimizer: adam, adamw or sgd"
        if not self.linear_probe:
            return
        if not starts_pretrained:
            yield ("linear_probe needs pretrained: true or weights: FILE (not random features)")
        if self.freeze == "none":
            return
        if self.sampler == "balanced":
            yield (
                "sampler: balanced has no effect if linear_probe is the whole run (freeze: "
                "backbone): it is fitted to all images at once. Set class_weights: balanced"
            )
        for name, off in (
            ("augmentation", "none"),
            ("mixup", 0),
            ("cutmix", 0),
            ("loss", "cross_entropy"),
            ("label_smoothing", 0),
            ("weight_decay", 0),
        ):
            if getattr(self, name) != off:
                yield (
                    f"{name} has no effect if linear_probe is the whole run (freeze: backbone): "
                    f"leave it at {off}, or drop freeze to fine-tune from the probe"
                )

    @property
    def is_probe_alone(self) -> bool:
        """Whether the linear probe is the whole run."""
        return bool(self.linear_probe) and self.freeze == "backbone"

    @property
    def probe_kind(self) -> ProbeKind:
        """The classifier of the linear probe."""
        return "lda" if self.linear_probe == "lda" else "logistic"

    @property
    def most_epochs(self) -> int:
        """The most epochs that the run can have: one if the linear probe is the whole run, none if
        it is a mean."""
        if self.mean_of:
            return 0
        return 1 if self.is_probe_alone else self.epochs

    def changes_from(self, stored: Mapping[str, Any]) -> list[str]:
        """List the differences from a stored recipe as 'key: old -> new', except for its label.

        Args:
            stored: result of `model_dump(mode="json")`, perhaps from an earlier version.
        """
        # validated, so that a setting added later with a default is not a difference
        old = RunSpec.model_validate(stored, context={"stored": True}).model_dump(mode="json")
        new = self.model_dump(mode="json")
        return [
            f"{key}: {old.get(key)} -> {new.get(key)}"
            for key in {**new, **old}
            if key != "label" and old.get(key) != new.get(key)
        ]

    def notices(self) -> list[str]:
        """Settings that have no effect because of others, one sentence each."""
        notices = []
        if self.is_probe_alone and self.epochs > 1:
            notices.append(
                "linear_probe with freeze: backbone is solved in 1 epoch; without freeze the "
                "remaining epochs would fine-tune all layers"
            )
        if self.linear_probe and self.freeze == "none" and self.epochs == 1:
            notices.append("linear_probe: the one epoch is the probe; nothing is fine-tuned")
        if isinstance(self.lr_drop, int) and self.lr_drop >= self.epochs:
            notices.append(
                f"lr_drop: {self.lr_drop} is never reached in {self.epochs} epochs; "
                f"the learning rate stays {self.lr:g}"
            )
        if self.early_stop is not None and self.early_stop >= self.epochs:
            notices.append(f"early_stop: {self.early_stop} cannot act within {self.epochs} epochs")
        if len(self.progressive_sizes) > self.epochs:
            notices.append(
                f"progressive_sizes: {len(self.progressive_sizes)} sizes do not all fit in "
                f"{self.epochs} epochs"
            )
        return notices


class StudySpec(Strict):
    """A study: contenders x seeds on one set of images.

    Examples:
        >>> import podium
        >>> podium.load_study("demo").label("simple_resnet")
        'SimpleResNet'
    """

    name: Annotated[str, AfterValidator(_check_name)]
    """Name of the study's folder under `runs/`."""
    title: str | None = None
    """Title of the report; None: the name."""
    data: DataSpec
    """The images: a folder, or a mapping that also sets how to split it."""
    seeds: Seeds = (0,)
    """Every contender is trained once per seed. `auto`: 2 to 10 seeds, one more at a time, until
    every pair is decided or further seeds would hardly decide it."""
    metric: MetricName = "accuracy"
    """What chooses the best epoch on the validation images and ranks the contenders on the test
    images: a built-in metric, a package's, or your own as `module:name`."""
    margin: float | None = Field(default=None, gt=0)
    """Two contenders that differ by less count as equivalent: in points for a metric that is a
    share (1.0: one point of accuracy), else in units of the metric. None: what the test images can
    show."""
    final_model: Literal["refit", "ensemble"] = "refit"
    """With `data.folds`, the model of a contender that is used afterwards. `refit`: trained anew
    on all images, for the epochs that the folds chose; `ensemble`: the mean of the folds' models'
    probabilities."""
    shortcuts: bool = False
    """Add four cheap contenders that see no object, only the file's metadata, the mean colour, the
    border or a thumbnail of 8 pixels: if one comes close, the images leak their labels."""
    tune: Tune | None = None
    """Search for better settings of each contender first; None: train them as they are written."""
    contenders: dict[Annotated[str, AfterValidator(_check_name)], RunSpec]
    """Name -> recipe. The name becomes a folder and appears in tables; see `label`."""

    @model_validator(mode="before")
    @classmethod
    def _add_shortcuts(cls, values: Any) -> Any:
        return with_shortcuts(values)

    @field_validator("data", mode="before")
    @classmethod
    def _data_may_be_a_path(cls, value: Any) -> Any:
        return as_mapping(value)

    @field_validator("contenders")
    @classmethod
    def _some_contender(cls, value: dict[str, RunSpec]) -> dict[str, RunSpec]:
        if not value:
            raise ValueError("expected at least one contender")
        return value

    @model_validator(mode="after")
    def _refuse_conflicts(self, info: ValidationInfo) -> StudySpec:
        if found := list(self._conflicts(info.context)):
            raise ValueError("\n".join(found))  # one per line
        return self

    def _conflicts(self, context: Any) -> Iterator[str]:
        if self.final_model == "ensemble" and self.data.folds is None:
            yield "final_model: ensemble is made of the models of folds; set data.folds"
        if self.data.channels is not None:
            for name, recipe in self.contenders.items():
                if recipe.augmentation not in OF_ANY_CHANNELS:
                    yield (
                        f"contenders.{name}.augmentation: {recipe.augmentation} is made for RGB; "
                        f"with data.channels, use {' or '.join(OF_ANY_CHANNELS)}"
                    )
        if self.seeds == "auto":
            yield from auto_mistakes(len(self.contenders), folds=self.data.folds is not None)
        means = {name: recipe.mean_of for name, recipe in self.contenders.items()}
        blind = [name for name, recipe in self.contenders.items() if recipe.model == FILE_MODEL]
        yield from member_mistakes(means, blind)
        yield from tune_mistakes(self, RunSpec, context)

    @property
    def every_seed(self) -> tuple[int, ...]:
        """The seeds; with `seeds: auto` all that the study may come to need."""
        return tuple(range(MOST_SEEDS)) if self.seeds == "auto" else self.seeds

    def label(self, contender: str) -> str:
        """The name that figures and tables show for `contender`."""
        return self.contenders[contender].label or contender

    def to_yaml(self) -> str:
        """The study as YAML that `load_study` reads back to an equal spec."""
        values = self.model_dump(mode="json", exclude_defaults=True)
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
