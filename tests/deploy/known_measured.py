"""How well scores tell pictures of none of the classes, on a finished run and folders of others.

`python -m tests.deploy.known_measured RUN FOLDER...` prints a row of docs/single-pictures.md per
score: the area under the ROC curve against the run's test pictures, and how many pictures of each
folder pass where 95 % of the validation pictures are kept, both in percent.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import logsumexp, softmax
from sklearn.metrics import roc_auc_score

from podium.data.images import decode_picture, load_picture
from podium.data.recorded import study_source
from podium.data.source import Reader
from podium.data.transforms import eval_transform, prepare
from podium.deploy.known import OF_A_CLASS, featured
from podium.evaluation.trained import TrainedModel, load_run
from podium.runs.find import run_folder
from podium.statistics.conformal import KnownRule

Values = npt.NDArray[np.float64]
Score = Callable[[Values, Values], Values]

MOST = 400  # pictures of a folder


def scores(features: Values, labels: npt.NDArray[np.int64]) -> dict[str, Score]:
    """Functions of logits and features, higher for known classes; features have a length of 1.

    Args:
        features: of training pictures, shape (n, d).
        labels: index of the class of each.
    """
    classes = [features[labels == one] for one in np.unique(labels)]
    means = np.stack([one.mean(axis=0) for one in classes])
    within = np.concatenate([one - mean for one, mean in zip(classes, means, strict=True)])
    covariance = within.T @ within / len(within)
    covariance += 0.01 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    inverse = np.linalg.inv(covariance)

    def mahalanobis(_: Values, of: Values) -> Values:
        apart = np.stack([((of - mean) @ inverse * (of - mean)).sum(axis=1) for mean in means])
        return np.asarray(-apart.min(axis=0))

    def neighbour(k: int) -> Score:
        return lambda _, of: np.sort(of @ features.T, axis=1)[:, -k]

    units = means / np.linalg.norm(means, axis=1, keepdims=True)
    return {
        "largest probability": lambda logits, _: softmax(logits, axis=1).max(axis=1),
        "largest logit": lambda logits, _: logits.max(axis=1),
        "energy": lambda logits, _: np.asarray(logsumexp(logits, axis=1)),
        "nearest class": lambda _, of: (of @ units.T).max(axis=1),
        "nearest neighbour": neighbour(1),
        "fifth neighbour": neighbour(5),
        "Mahalanobis": mahalanobis,
    }


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    given = parser.parse_args()
    run = run_folder(given.run)
    model, images = load_run(run), Reader(study_source(run.study))
    parts = featured(run, model, torch.device("cpu"))

    def seen(pictures: Iterable[npt.NDArray[np.uint8]]) -> tuple[Values, Values]:
        logits, features = [], []
        for picture in pictures:
            pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
            with torch.inference_mode():
                one, other = parts(prepare(pixels, *(model.normalization or (None, None))))
            logits.append(one.numpy()[0].astype(np.float64))
            features.append(other.numpy()[0].astype(np.float64))
        return np.stack(logits), np.stack(features)

    def own(paths: Iterable[str]) -> tuple[Values, Values]:
        return seen(_pixels(model, images.read(path), path) for path in paths)

    of_class = run.study.read_training_images()
    train = [
        (paths[int(at)], number)
        for number, (_, paths) in enumerate(sorted(of_class.items()))
        for at in np.linspace(0, len(paths) - 1, min(OF_A_CLASS, len(paths)))
    ]
    ways = scores(own(path for path, _ in train)[1], np.array([number for _, number in train]))
    valid, test = (own(run.read_predictions(split).paths) for split in ("valid", "test"))
    others = {}
    for folder in given.folders:
        files = sorted(one for one in folder.rglob("*") if one.suffix.lower() in SUFFIXES)
        files = files[:: max(1, len(files) // MOST)][:MOST]
        size = eval_transform(model.image_size)
        others[folder.name] = seen(
            size.source(load_picture(file, str(file), model.windows)) for file in files
        )
    for name, score in ways.items():
        rule, known = KnownRule.of(score(*valid), 0.95), score(*test)
        cells = [f"kept {100 * (1 - rule.foreign(known).mean()):5.1f}"]
        for folder_name, found in others.items():
            foreign = score(*found)
            truth = np.r_[np.ones(len(known)), np.zeros(len(foreign))]
            area = roc_auc_score(truth, np.r_[known, foreign])
            passed = 1 - rule.foreign(foreign).mean()
            cells.append(f"{folder_name} {100 * area:5.1f} / {100 * passed:5.1f}")
        print(f"{name:20} {'   '.join(cells)}", flush=True)


SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".webp"}


def _pixels(model: TrainedModel, content: bytes, path: str) -> npt.NDArray[np.uint8]:
    picture = decode_picture(content, path, model.windows)
    return eval_transform(model.image_size).source(picture)


if __name__ == "__main__":
    _main()
