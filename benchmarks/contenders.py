"""Who is timed in `training.py`: the command of each, as its documentation gives it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["CONTENDERS", "GROUP_MODELS", "Contender", "Place"]

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Place:
    """Where a contender runs.

    `root` is the folder of images, `data` one with links to its `train` and `valid`; `scratch` is
    the contender's own empty folder.
    """

    root: Path
    data: Path
    scratch: Path
    batch_size: int
    classes: int
    peers_python: Path | None = None
    timm_script: Path | None = None
    hf_script: Path | None = None


@dataclass(frozen=True)
class Contender:
    """One way to train.

    `command` gives what follows the stopwatch's own options; `missing` says why it cannot run.
    """

    label: str
    group: str
    command: Callable[[Place], list[str]]
    note: str = ""
    peer: bool = False
    base: bool = False
    missing: Callable[[Place], str] = lambda place: ""
    prepare: Callable[[Place], list[str]] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


def _paper(model: str) -> Callable[[Place], list[str]]:
    def command(at: Place) -> list[str]:
        return [
            *("--script", str(HERE / "paper_way.py"), "--", "--model", model),
            *("--data", str(at.data), "--batch-size", str(at.batch_size)),
        ]

    return command


def _podium(model: str, augmentation: str) -> Callable[[Place], list[str]]:
    """The real command on a study of one contender, as a user would write it."""

    def command(at: Place) -> list[str]:
        recipe = {
            "model": model,
            "augmentation": augmentation,
            "epochs": 1,
            "batch_size": at.batch_size,
            "lr": 1e-4,
        }
        study = at.scratch / "study.yaml"  # JSON is YAML
        study.write_text(
            json.dumps({"name": "bench", "data": str(at.root), "contenders": {model: recipe}}),
            encoding="utf-8",
        )
        runs = str(at.scratch / "runs")
        return ["--module", "podium", "--", "run", str(study), "--runs", runs, "--no-audit"]

    return command


def _timm(*more: str) -> Callable[[Place], list[str]]:
    def command(at: Place) -> list[str]:
        return [
            *("--script", str(at.timm_script), "--", str(at.data)),
            *("--train-split", "train", "--val-split", "valid", "--model", "resnet18"),
            *("--num-classes", str(at.classes), "--img-size", "224", "-b", str(at.batch_size)),
            *("--opt", "adam", "--lr", "1e-4", "--epochs", "1", "--warmup-epochs", "0"),
            *("--scale", "0.35", "1.0", "--color-jitter", "0", "--device", "cpu"),
            *("--output", str(at.scratch), *more),
        ]

    return command


def _fastai(*more: str) -> Callable[[Place], list[str]]:
    def command(at: Place) -> list[str]:
        script = str(HERE / "peers" / "fastai_train.py")
        return [
            *("--script", script, "--", "--data", str(at.data)),
            *("--batch-size", str(at.batch_size), *more),
        ]

    return command


def _hf_model(at: Place) -> list[str]:
    """A ResNet-18 of random weights in a local folder, so that nothing is downloaded."""
    return [str(HERE / "peers" / "hf_model.py"), str(at.scratch / "model"), str(at.classes)]


def _hf(*more: str) -> Callable[[Place], list[str]]:
    def command(at: Place) -> list[str]:
        return [
            *("--script", str(at.hf_script), "--"),
            *("--model_name_or_path", str(at.scratch / "model")),
            *("--train_dir", str(at.data / "train"), "--validation_dir", str(at.data / "valid")),
            *("--do_train", "--remove_unused_columns", "False", "--num_train_epochs", "1"),
            *("--learning_rate", "1e-4", "--per_device_train_batch_size", str(at.batch_size)),
            *("--output_dir", str(at.scratch / "out"), "--report_to", "none", "--use_cpu"),
            *more,
        ]

    return command


ULTRALYTICS_MODEL = """\
nc: {classes}
backbone:
  - [-1, 1, TorchVision, [512, resnet18, None, True, 2]]
head:
  - [-1, 1, Classify, [nc]]
"""


def _ultralytics(at: Place) -> list[str]:
    model = at.scratch / "resnet18-cls.yaml"
    model.write_text(ULTRALYTICS_MODEL.format(classes=at.classes), encoding="utf-8")
    return [
        *("--entry", "yolo", "--", "classify", "train", f"model={model}", f"data={at.data}"),
        *("pretrained=False", "imgsz=224", f"batch={at.batch_size}", f"nbs={at.batch_size}"),
        *("epochs=1", "optimizer=Adam", "lr0=1e-4", "device=cpu", "plots=False"),
        *("scale=0.65", "erasing=0", "hsv_h=0", "hsv_s=0", "hsv_v=0", "auto_augment=None"),
        *(f"project={at.scratch}", "exist_ok=True"),
    ]


def _no_peers(at: Place) -> str:
    if at.peers_python is None or not at.peers_python.is_file():
        return "no environment for it: run `make bench-peers`"
    return ""


def _no_timm(at: Place) -> str:
    if at.timm_script is None:
        return "give --timm-script (train.py of a checkout of pytorch-image-models)"
    return _no_peers(at)


def _no_hf(at: Place) -> str:
    if at.hf_script is None:
        return "give --hf-script (run_image_classification.py of transformers' examples)"
    return _no_peers(at)


OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "YOLO_OFFLINE": "true"}

CONTENDERS: dict[str, Contender] = {}

GROUP_MODELS: dict[str, tuple[str, int]] = {}
"""What each group trains: model and side of its images, pixels."""

for _name, _title, _size in (
    ("simple_resnet", "SimpleResNet", 128),
    ("inception_resnet", "InceptionResNet", 128),
    ("resnet18", "ResNet-18", 224),
):
    _group = f"{_title}, {_size} px, AutoAugment"
    GROUP_MODELS[_group] = (_name, _size)
    CONTENDERS[f"paper:{_name}"] = Contender(
        "the paper's way", _group, _paper(_name), "fp32, 2 workers", base=True
    )
    CONTENDERS[f"podium:{_name}"] = Contender(
        "Podium", _group, _podium(_name, "autoaugment"), "`podium run`"
    )

_PEERS = "ResNet-18, 224 px, crop and flip"
GROUP_MODELS[_PEERS] = ("resnet18", 224)

CONTENDERS |= {
    "podium": Contender(
        "Podium", _PEERS, _podium("resnet18", "crop_flip"), "`podium run`", base=True
    ),
    "timm": Contender(
        "timm train.py", _PEERS, _timm(), "fp32, 4 workers", peer=True, missing=_no_timm
    ),
    "timm-bf16": Contender(
        "timm train.py, tuned",
        _PEERS,
        _timm("--amp", "--amp-dtype", "bfloat16", "--channels-last", "-j", "1"),
        "bf16, channels last, 1 worker",
        peer=True,
        missing=_no_timm,
    ),
    "fastai": Contender(
        "fastai", _PEERS, _fastai(), "fp32, 2 workers", peer=True, missing=_no_peers
    ),
    "fastai-channels-last": Contender(
        "fastai, tuned",
        _PEERS,
        _fastai("--channels-last"),
        "fp32 (its mixed precision is for CUDA), channels last, 2 workers",
        peer=True,
        missing=_no_peers,
    ),
    "hf": Contender(
        "Hugging Face example",
        _PEERS,
        _hf(),
        "fp32, 0 workers",
        peer=True,
        missing=_no_hf,
        prepare=_hf_model,
    ),
    "hf-bf16": Contender(
        "Hugging Face example, tuned",
        _PEERS,
        _hf("--bf16", "--dataloader_num_workers", "1"),
        "bf16, 1 worker",
        peer=True,
        missing=_no_hf,
        prepare=_hf_model,
    ),
    "ultralytics": Contender(
        "Ultralytics classify",
        _PEERS,
        _ultralytics,
        "fp32 (its bf16 is for CUDA), as many threads as cores but one",
        peer=True,
        missing=_no_peers,
    ),
}


def interpreter(contender: Contender, at: Place) -> str:
    """The Python that runs a contender: this one, or the peers'."""
    return str(at.peers_python) if contender.peer else sys.executable
