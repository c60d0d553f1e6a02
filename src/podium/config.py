"""What a study is: typed settings, validated before anything runs, YAML in and out.

`StudySpec` is the whole study, `RunSpec` one contender's recipe, `Machine` what it runs on.
A recipe decides the result, so it is stored with the run and compared when a run is resumed;
the machine only decides how fast the result comes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)

from podium.errors import ConfigError

__all__ = [
    "DataSpec",
    "Machine",
    "RunSpec",
    "StudySpec",
    "built_in_studies",
    "load_study",
    "machine_settings",
    "study_text",
]

Policy = Literal["none", "autoaugment", "randaugment", "trivialaugment", "augmix", "crop_flip"]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class RunSpec(_Strict):
    """One contender: a model and everything that decides what it learns."""

    model: str
    """A name that `podium models` lists, or any timm model."""
    pretrained: bool = False
    """Start from the model's ImageNet weights."""
    weights: Path | None = None
    """Start from this local file (a state dict, .pth or .safetensors) instead of a download."""
    if_unavailable: str | None = None
    """The pre-trained model that stands in where `model`'s weights cannot be had."""
    freeze: Literal["none", "backbone"] = "none"
    """`backbone`: train the last linear layer alone, on fixed features."""
    augmentation: Policy = "none"
    """How training images are varied; validation and test images never are."""
    mixup: float = Field(default=0.0, ge=0, le=10)
    """Alpha of mixup's Beta distribution; 0 is off."""
    cutmix: float = Field(default=0.0, ge=0, le=10)
    """Alpha of CutMix's Beta distribution; 0 is off. With both, a batch takes either at random."""
    image_size: int | None = Field(default=None, ge=32, le=1024)
    """Side of the square that the model sees, in pixels; empty: the model's own."""
    normalize: Literal["weights", "none"] = "weights"
    """`weights`: mean and std that the pre-trained weights expect (none from scratch)."""
    epochs: int = Field(ge=1, le=100_000)
    """Passes over the training images, at most."""
    batch_size: int = Field(default=32, ge=2, le=65_536)
    """Images a step, over all devices together."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """`sgd` has momentum 0.9; the others PyTorch's default betas."""
    lr: float = Field(default=1e-4, gt=0, le=100)
    """Learning rate at the start."""
    weight_decay: float = Field(default=0.0, ge=0, le=10)
    """L2 penalty (adam, sgd) or decoupled decay (adamw)."""
    lr_drop: int | Literal["plateau"] | None = None
    """Multiply the rate by `lr_drop_factor` after this epoch, or once validation is flat."""
    lr_drop_factor: float = Field(default=0.1, gt=0, lt=1)
    """What the rate is multiplied by at the drop."""
    plateau_patience: int = Field(default=4, ge=1, le=10_000)
    """Epochs without a better validation loss or accuracy that count as flat."""
    early_stop: int | None = Field(default=None, ge=1, le=10_000)
    """Stop after this many epochs without a better validation accuracy; empty: never."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Probability mass that the target spreads over all classes."""
    label: str | None = Field(default=None, max_length=60)
    """Name shown in figures and tables; empty: the contender's key."""

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
        starts_pretrained = self.pretrained or self.weights is not None
        if self.freeze == "backbone" and not starts_pretrained:
            raise ValueError(
                "freeze: backbone needs pretrained: true or weights: FILE "
                "(a frozen backbone of random weights learns nothing)"
            )
        if self.if_unavailable and not self.pretrained:
            raise ValueError("if_unavailable needs pretrained: true (nothing else is downloaded)")
        if self.if_unavailable and self.weights is not None:
            raise ValueError("if_unavailable and weights exclude each other: a local file is there")
        return self

    def notices(self) -> list[str]:
        """Settings that the others keep from taking effect, one sentence each."""
        said = []
        if isinstance(self.lr_drop, int) and self.lr_drop >= self.epochs:
            said.append(
                f"lr_drop: {self.lr_drop} is never reached in {self.epochs} epochs; "
                f"the learning rate stays {self.lr:g}"
            )
        if self.early_stop is not None and self.early_stop >= self.epochs:
            said.append(f"early_stop: {self.early_stop} cannot act within {self.epochs} epochs")
        return said


class DataSpec(_Strict):
    """Where the images are, and how a folder without splits is split."""

    path: str
    """A folder, or a name of ours: `sports100`, `demo`."""
    split_seed: int = Field(default=0, ge=0)
    """Seed of the stratified split that is made where the folder has none."""
    valid_fraction: float = Field(default=0.1, gt=0, lt=0.5)
    """Share of each class held out for validation where there is no such folder."""
    test_fraction: float = Field(default=0.1, gt=0, lt=0.5)
    """Share of each class held out for the test where there is no such folder."""


class StudySpec(_Strict):
    """A study: contenders x seeds on one set of images."""

    name: str
    """Name of the study's folder under `runs/`."""
    title: str | None = None
    """Title of the report; empty: the name."""
    data: DataSpec
    seeds: tuple[int, ...] = (0,)
    """Every contender is trained once for each."""
    contenders: dict[str, RunSpec]

    @field_validator("data", mode="before")
    @classmethod
    def _data_may_be_a_path(cls, value: Any) -> Any:
        return {"path": str(value)} if isinstance(value, str | Path) else value

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or len(set(value)) != len(value) or not all(0 <= s < 2**31 for s in value):
            raise ValueError("one or more different whole numbers from 0 to 2147483647")
        return value

    @field_validator("contenders")
    @classmethod
    def _contenders_are_named(cls, value: dict[str, RunSpec]) -> dict[str, RunSpec]:
        if not value:
            raise ValueError("at least one contender")
        for name in value:
            _check_name(name)
        return value

    @field_validator("name")
    @classmethod
    def _name_is_a_folder(cls, value: str) -> str:
        return _check_name(value)

    def label(self, contender: str) -> str:
        """The name that figures and tables show for `contender`."""
        return self.contenders[contender].label or contender

    def to_yaml(self) -> str:
        """The study as YAML that `load_study` reads back to an equal spec."""
        values = self.model_dump(mode="json", exclude_defaults=True)
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], source: str = "study") -> StudySpec:
        """A spec from plain values; `defaults:` is merged under every contender.

        Raises:
            ConfigError: naming `source`, the key, what was expected and what came.
        """
        return _validate(dict(values), source, lines={})


class Machine(_Strict):
    """What a study runs on. Changes the speed of a run, not its recipe."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `mps` or one of them with an index, `cuda:1`."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of training. `auto`: bf16 where the processor has it and a check agrees."""
    devices: int = Field(default=1, ge=1, le=1024)
    """Data-parallel processes (gloo on CPUs, NCCL on GPUs)."""
    workers: int | None = Field(default=None, ge=0, le=1024)
    """Processes that decode images for each device; empty: chosen from the cores."""
    tensorboard: bool = False
    """Write TensorBoard event files beside the history."""


def _check_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(
            f"a name of letters, digits, '.', '_' and '-' (it becomes a folder), not {name!r}"
        )
    return name


def built_in_studies() -> dict[str, str]:
    """Names of the studies that Podium ships, with their first comment line."""
    folder = resources.files("podium") / "studies"
    found = {}
    for entry in folder.iterdir():
        if entry.name.endswith(".yaml"):
            first = entry.read_text(encoding="utf-8").splitlines()[0]
            found[entry.name.removesuffix(".yaml")] = first.lstrip("# ")
    return dict(sorted(found.items()))


def load_study(
    study: str | Path, *, data: str | Path | None = None, overrides: Iterable[str] = ()
) -> StudySpec:
    """Read a study from a YAML file or by the name of a built-in one.

    Args:
        study: path of a YAML file, or a name of `built_in_studies`.
        data: a folder, or a name of ours, in place of the study's own.
        overrides: `dotted.key=value` strings, applied in order. `*` stands for every
            contender; values are YAML.

    Raises:
        ConfigError: the file is missing or says something impossible. The message names the
            file and line, the key, what was expected and what came.
    """
    text, source = _read_study(study)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"{source}: not valid YAML. {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(
            f"{source}: expected a mapping with 'name', 'data' and 'contenders', "
            f"got {_kind(values)}."
        )
    lines = _line_numbers(node)
    for override in overrides:
        for key in _apply_override(values, override):
            lines[key] = 0  # what came did not come from a line
    if data is not None:
        base = values.get("data")
        values["data"] = {**(base if isinstance(base, dict) else {}), "path": str(data)}
    return _validate(values, source, lines)


def study_text(name: str) -> str:
    """The YAML of a built-in study, comments and all.

    Raises:
        ConfigError: there is no such study.
    """
    ours = built_in_studies()
    if name not in ours:
        raise ConfigError(f"There is no study {name!r} here; there are {', '.join(ours)}.")
    return (resources.files("podium") / "studies" / f"{name}.yaml").read_text(encoding="utf-8")


def machine_settings(**values: Any) -> Machine:
    """A `Machine` from a command's flags.

    Raises:
        ConfigError: naming the flag, what was expected and what came.
    """
    try:
        return Machine(**values)
    except ValidationError as error:
        told = [
            f"--{'.'.join(map(str, problem['loc']))}: {_expected(problem, [])}"
            for problem in error.errors()
        ]
        raise ConfigError("\n".join(told)) from None


def _read_study(study: str | Path) -> tuple[str, str]:
    ours = built_in_studies()
    if str(study) in ours:
        return study_text(str(study)), f"{study}.yaml"
    path = Path(study)
    try:
        return path.read_text(encoding="utf-8"), str(study)
    except FileNotFoundError:
        raise ConfigError(
            f"There is no study {str(study)!r}: expected the path of a YAML file, "
            f"or one of {', '.join(ours)}."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{study}: cannot be read as a YAML file ({error}).") from None


def _apply_override(values: dict[str, Any], override: str) -> list[str]:
    """Set one value in place; returns the dotted keys that were set."""
    key, sign, text = override.partition("=")
    parts = key.strip().split(".")
    if not sign or not all(parts):
        raise ConfigError(
            f"--set {override!r}: expected KEY=VALUE, such as contenders.*.epochs=2 or seeds=[0,1]."
        )
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override!r}: {text!r} is not valid YAML. {error}") from None

    done: list[str] = []

    def put(level: Any, at: int, above: tuple[str, ...] = ()) -> None:
        if not isinstance(level, dict):
            raise ConfigError(
                f"--set {override!r}: {'.'.join(parts[:at])} is {_kind(level)}, "
                "so nothing can be set below it."
            )
        if at == len(parts) - 1 and parts[at] != "*":
            level[parts[at]] = value
            done.append(".".join((*above, parts[at])))
        elif parts[at] == "*":
            if at == len(parts) - 1 or not level:
                raise ConfigError(f"--set {override!r}: '*' must stand for existing keys.")
            for name in level:
                put(level[name], at + 1, (*above, str(name)))
        elif at and parts[at - 1] == "contenders" and parts[at] not in level:
            known = ", ".join(map(str, level)) or "none"
            raise ConfigError(
                f"--set {override!r}: there is no contender {parts[at]!r}. There are: {known}."
            )
        else:
            put(level.setdefault(parts[at], {}), at + 1, (*above, parts[at]))

    put(values, 0)
    return done


def _validate(values: dict[str, Any], source: str, lines: Mapping[str, int]) -> StudySpec:
    defaults = values.pop("defaults", None) or {}
    contenders = values.get("contenders")
    if not isinstance(defaults, dict):
        raise ConfigError(f"{source}: defaults: expected a mapping, got {_kind(defaults)}.")
    if isinstance(contenders, dict):
        values["contenders"] = {
            str(name): {**defaults, **recipe} if isinstance(recipe, dict) else recipe
            for name, recipe in contenders.items()
        }
    try:
        return StudySpec.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(error, source, lines, set(defaults))) from None


def _explain(
    error: ValidationError, source: str, lines: Mapping[str, int], defaulted: set[str]
) -> str:
    told = []
    seen = set()
    for problem in error.errors():
        # pydantic adds the tried member of a union to the path; keys of ours are all that we show
        parts = [str(part) for part in problem["loc"] if not str(part).startswith("literal[")]
        if len(parts) > 3 and parts[0] == "contenders":
            parts = parts[:3]
        key = ".".join(parts)
        if key in seen:
            continue
        seen.add(key)
        line = lines.get(key)
        if line is None and parts and parts[-1] in defaulted:
            line = lines.get(f"defaults.{parts[-1]}")
        if line is None and problem["type"] == "missing":
            line = lines.get(".".join(parts[:-1]))
        where = f"line {line}: " if line else ""
        told.append(f"  {where}{key or 'study'}: {_expected(problem, parts)}")
    things = "1 setting is" if len(told) == 1 else f"{len(told)} settings are"
    return f"{source}: {things} wrong.\n" + "\n".join(told)


def _expected(problem: Any, parts: list[str]) -> str:
    came = problem.get("input")
    kind = problem["type"]
    if kind == "missing":
        return "is missing; it has no default."
    if kind == "extra_forbidden":
        known = RunSpec.model_fields if parts[:1] == ["contenders"] else StudySpec.model_fields
        if parts[:1] == ["data"]:
            known = DataSpec.model_fields
        return f"is not a setting. There are: {', '.join(known)}."
    wanted = {
        "int_parsing": "expected a whole number",
        "int_type": "expected a whole number",
        "int_from_float": "expected a whole number",
        "float_parsing": "expected a number",
        "float_type": "expected a number",
        "bool_parsing": "expected true or false",
        "bool_type": "expected true or false",
        "string_type": "expected text",
        "dict_type": "expected a mapping",
        "model_type": "expected a mapping",
        "tuple_type": "expected a list",
    }.get(kind)
    if parts[-1:] == ["lr_drop"]:
        wanted = "expected an epoch of 1 or more, 'plateau', or nothing"
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if wanted is None:
        wanted = f"expected {message}" if problem["msg"].startswith("Input") else message
    return f"{wanted}; got {came!r}." if not isinstance(came, dict) else f"{wanted}."


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return f"the text {value[:60]!r}" if isinstance(value, str) else repr(value)


def _line_numbers(node: yaml.Node | None, prefix: str = "") -> dict[str, int]:
    """Dotted key -> line (from 1) for every key of a YAML mapping."""
    found: dict[str, int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            dotted = f"{prefix}{key.value}" if isinstance(key, yaml.ScalarNode) else prefix
            found[dotted] = key.start_mark.line + 1
            found.update(_line_numbers(value, f"{dotted}."))
    return found
