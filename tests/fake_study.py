"""A finished study's folder, made up: what `podium run` leaves, without a training.

The predictions are drawn so that contenders differ, some classes are weak and some pairs are
confused, as real ones do.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from podium.config.studyfile import load_study
from podium.runs.folder import RunFolder, StudyFolder
from podium.runs.pictures import write_pictures
from podium.runs.predictions import Predictions
from podium.runtime.files import write_json, write_text

__all__ = ["ODD_NAMES", "fake_run", "fake_study", "save_run"]

ODD_NAMES = (
    "table tennis",
    "atletismo às margens do açude",
    'the "quoted" one\'s',
    "<script>alert(1)</script>",
    "50 % & more_$x$ #1 {a} ~b ^c \\d",
    '=HYPERLINK("http://example.org")',
    "a class of sixty characters, whose name no figure shows whole",
    "-1+1",
    "日本の弓道",
    "figure & <b>skating</b> | pairs",
)

CONTENDERS: dict[str, dict[str, Any]] = {
    "simple_resnet": {"label": "SimpleResNet", "model": "simple_resnet", "epochs": 32},
    "simple_resnet-autoaugment": {
        "label": "SimpleResNet + AutoAugment",
        "model": "simple_resnet",
        "augmentation": "autoaugment",
        "epochs": 60,
    },
    "inception_resnet": {"label": "InceptionResNet", "model": "inception_resnet", "epochs": 35},
    "inception_resnet-autoaugment": {
        "label": "InceptionResNet + AutoAugment",
        "model": "inception_resnet",
        "augmentation": "autoaugment",
        "mixup": 0.2,
        "epochs": 50,
    },
    "resnet18-finetuned": {
        "label": "ResNet-18, fine-tuned",
        "model": "resnet18",
        "pretrained": True,
        "if_unavailable": "efficientnet_lite0",
        "augmentation": "autoaugment",
        "image_size": 224,
        "epochs": 10,
    },
}
SKILL = (0.80, 0.874, 0.766, 0.846, 0.972)
PARAMETERS = (3_191_460, 3_191_460, 4_486_772, 4_486_772, 11_490_468)


def fake_study(
    root: Path,
    class_names: Sequence[str],
    *,
    contenders: int = 5,
    per_class: int = 5,
    epochs: int | None = None,
    seeds: tuple[int, ...] = (0,),
    stand_in: bool = False,
    pictures: Mapping[str, Sequence[bytes]] | None = None,
    skill: Sequence[float] = SKILL,
    title: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    explanations: bool = False,
) -> StudyFolder:
    """Write a whole study into `root` and return its folder.

    Args:
        root: the study's folder.
        class_names: of the data set.
        contenders: how many of the paper's five.
        per_class: test images a class.
        epochs: of every contender; empty: the paper's.
        seeds: one run a contender for each.
        stand_in: the last contender's requested weights are not available.
        pictures: JPEGs of test images by class; empty: drawn here.
        skill: about the test accuracy of each contender.
        title: of the study.
        overrides: settings for all contenders.
        explanations: write a picture of where the model looked for some test images of each run.
    """
    names = list(CONTENDERS)[:contenders]
    recipes = {}
    for name in names:
        recipe = {**CONTENDERS[name], **(overrides or {})}
        recipe["epochs"] = epochs or recipe["epochs"]
        recipe["lr_drop"] = max(1, round(recipe["epochs"] * 0.83))
        recipes[name] = recipe
    spec = load_study(
        {
            "name": root.name,
            "title": title,
            "data": "sports-folder",
            "seeds": list(seeds),
            "contenders": recipes,
        }
    )
    folder = StudyFolder(root)
    write_text(folder.spec, spec.to_yaml())
    write_json(folder.data, _data(class_names, per_class))
    paths = [f"test/class-{c:03d}/{i + 1}.jpg" for c in range(len(class_names))
             for i in range(per_class)]  # fmt: skip
    folder.write_thumbnails(
        (path, _picture(number, class_names[number // per_class], number % per_class, pictures))
        for number, path in enumerate(paths)
    )
    for number, name in enumerate(names):
        for seed in seeds:
            run = folder.run(name, seed)
            used = "efficientnet_lite0" if stand_in and number == len(names) - 1 else None
            test = fake_run(
                run, recipes[name], class_names, paths, skill[number], number, used=used
            )
            if explanations:
                write_pictures(run.explanations, _explanations(test, folder.read_thumbnails()))
    return folder


def fake_run(
    run: RunFolder,
    recipe: Mapping[str, Any],
    class_names: Sequence[str],
    paths: Sequence[str],
    skill: float,
    number: int,
    *,
    used: str | None = None,
) -> Predictions:
    """Write a finished run without weights, and return its test predictions.

    Args:
        run: its folder.
        recipe: its settings.
        class_names: of the data set.
        paths: of the test images, equally many of each class, class by class.
        skill: about its test accuracy.
        number: of its contender, from 0.
        used: the model that stood in for the recipe's; empty: none did.
    """
    rng = np.random.default_rng([number, run.seed])
    test = _predictions(rng, class_names, paths, skill)
    valid = _predictions(
        rng, class_names, [path.replace("test/", "valid/") for path in paths], skill - 0.02
    )
    save_run(run, test, valid, _history(rng, recipe, skill))
    _close(run, recipe, PARAMETERS[number], used)
    return test


def save_run(
    run: RunFolder,
    test: Predictions,
    valid: Predictions,
    history: Sequence[Mapping[str, float]],
) -> None:
    """Write a run's predictions and history."""
    test.write(run.predictions("test"))
    valid.write(run.predictions("valid"))
    run.write_history(history)


def _close(run: RunFolder, recipe: Mapping[str, Any], parameters: int, used: str | None) -> None:
    history = run.read_history()
    best = max(history, key=lambda row: row["valid_accuracy"])
    write_json(
        run.done,
        {
            "best_epoch": int(best["epoch"]),
            "epochs": len(history),
            "seconds": sum(row["seconds"] for row in history),
            "parameters": parameters,
            "trainable_parameters": parameters,
            "precision": "bf16",
            "device": "cpu",
            "devices": 1,
            "model": used or recipe["model"],
            "pretrained_source": "ImageNet-1k" if recipe.get("pretrained") else None,
            "stood_in_for": recipe["model"] if used else None,
            "image_size": recipe.get("image_size", 128),
            "finished_at": "2026-01-02T03:04:05+00:00",
            "test_scored_at": "2026-01-02T03:04:01+00:00",
            "images_per_second": 412.5,
            "podium_version": "0.1.0",
            "torch_version": "2.14.1",
        },
    )


def _predictions(
    rng: np.random.Generator, names: Sequence[str], paths: Sequence[str], skill: float
) -> Predictions:
    classes = len(names)
    labels = np.repeat(np.arange(classes), len(paths) // classes)
    # every class has its own difficulty and a favourite to be taken for
    difficulty = np.clip(rng.beta(12 * skill, 12 * (1 - skill) + 0.2, classes), 0, 1)
    difficulty += skill - difficulty.mean()
    favourite = (np.arange(classes) + rng.integers(1, max(2, classes // 3), classes)) % classes
    right = rng.random(len(paths)) < difficulty[labels]
    astray = np.where(rng.random(len(paths)) < 0.6, favourite[labels],
                      rng.integers(0, classes, len(paths)))  # fmt: skip
    logits = rng.normal(0, 1, (len(paths), classes))
    logits[np.arange(len(paths)), np.where(right, labels, astray)] += rng.gamma(9, 0.6, len(paths))
    return Predictions(
        tuple(names), tuple(paths), labels.astype(np.int64), logits.astype(np.float32)
    )


def _explanations(
    test: Predictions, thumbnails: Mapping[str, bytes]
) -> Iterator[tuple[str, bytes]]:
    """Eight right answers and eight wrong ones, the map a patch of red that only looks like one."""
    right = test.predicted == test.labels
    for row in [*np.flatnonzero(right)[:8].tolist(), *np.flatnonzero(~right)[:8].tolist()]:
        path = test.paths[row]
        keys = [path] if right[row] else [path, f"{path}#label"]
        for number, key in enumerate(keys):
            with Image.open(io.BytesIO(thumbnails[path])) as image:
                cool = Image.new("RGB", image.size, (20, 40, 160))
                mask = Image.new("L", image.size, 90)
                warm = Image.new("RGB", image.size, (220, 40, 20))
                spot = Image.new("L", image.size, 0)
                left = 20 + 40 * number
                ImageDraw.Draw(spot).ellipse((left, 30, left + 60, 90), fill=150)
                picture = Image.composite(cool, image.convert("RGB"), mask)
                picture.paste(warm, (0, 0), spot)
                out = io.BytesIO()
                picture.save(out, "JPEG", quality=80)
            yield key, out.getvalue()


def _history(
    rng: np.random.Generator, recipe: Mapping[str, Any], skill: float
) -> list[dict[str, float]]:
    count, drop = int(recipe["epochs"]), int(recipe["lr_drop"])
    rows = []
    for epoch in range(1, count + 1):
        done = 1 - np.exp(-4 * epoch / max(count, 6))
        late = 0.02 if epoch > drop else 0.0
        wobble = 0.0 if late else float(rng.normal(0, 0.012))
        rows.append(
            {
                "epoch": epoch,
                "lr": 1e-4 if epoch <= drop else 1e-5,
                "train_loss": float(4.6 * np.exp(-5 * epoch / max(count, 6)) + 0.002),
                "train_accuracy": float(min(1.0, done * 1.02)),
                "valid_loss": float(4.6 - (4.6 - 4 * (1 - skill)) * done - 4 * late - 2 * wobble),
                "valid_accuracy": float(np.clip((skill - 0.02) * done + late + wobble, 0, 1)),
                "seconds": 41.7,
                "images_per_second": 412.5,
            }
        )
    return rows


def _data(names: Sequence[str], per_class: int) -> dict[str, Any]:
    train = {name: 60 + 7 * number % 90 for number, name in enumerate(names)}
    held = dict.fromkeys(names, per_class)
    return {
        "root": "/somewhere/sports",
        "classes": list(names),
        "splits": {"train": train, "valid": held, "test": held},
        "totals": {"train": sum(train.values())},
        "skipped": {"not an image (.lnk)": 1, "hidden": 2},
        "unreadable": [["train/<b>golf</b>/17.jpg", "image file is truncated"]],
        "notices": ["10 images were greyscale and became RGB."],
        "fingerprint": "3f" * 32,
    }


def _picture(
    number: int, name: str, place: int, pictures: Mapping[str, Sequence[bytes]] | None
) -> bytes:
    if pictures is not None:
        return pictures[name][place]
    rng = np.random.default_rng(number)
    image = Image.new("RGB", (160, 160), tuple(rng.integers(0, 256, 3).tolist()))
    ImageDraw.Draw(image).ellipse((30, 40, 120, 130), fill=tuple(rng.integers(0, 256, 3).tolist()))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=70)
    return out.getvalue()
