"""One run from its recipe to its closing record: trained, then scored once."""

from __future__ import annotations

import torch

from podium.__about__ import __version__
from podium.config.registry import AUGMENTATIONS
from podium.config.settings import Machine, RunSpec
from podium.data.cache import cache_pixels
from podium.data.index import DataIndex
from podium.data.pixels import CachedPixels
from podium.data.transforms import source_size
from podium.evaluation.trained import load_run, predict_split
from podium.features.frozen import features_are_fixed
from podium.models import about_model, build_model
from podium.runs.folder import RunFolder
from podium.runs.ledger import record
from podium.runs.predictions import Predictions, SplitName
from podium.runtime.device import choose_device, choose_precision, choose_workers
from podium.runtime.events import Message, Notify, StopRequest, of_run
from podium.runtime.files import read_json, utc_now, write_json
from podium.statistics.calibration import fit_temperature
from podium.statistics.metrics import scores
from podium.statistics.scoring import find_metric
from podium.training.checkpoint import read_checkpoint
from podium.training.faults import despite_lost_workers
from podium.training.fit import fit
from podium.training.job import Job
from podium.training.schedule import best_epoch


def train_and_score(
    run: RunFolder,
    index: DataIndex,
    recipe: RunSpec,
    wanted_model: str,
    machine: Machine,
    notify: Notify,
    stop: StopRequest,
    metric: str = "accuracy",
) -> dict[str, float]:
    """Train a run to its end, predict validation and test images, write `done.json` last.

    The temperature that calibrates the model is fitted on the validation images, and added to
    `model.json`; the predictions files keep the logits as the model gives them.

    Args:
        run: its folder; what is there already is taken up.
        index: the images.
        recipe: what to train, with the model that was settled on.
        wanted_model: what the study asks for; another one than the recipe's where that stands in.
        machine: what to train on.
        notify: told of every batch and epoch.
        stop: asked after every step.
        metric: of the study; chooses the best epoch.

    Returns:
        `valid_accuracy` and `test_accuracy` of the best epoch, 0 to 1; where the metric is another
        one, its values under `valid_` and `test_` too.

    Raises:
        KeyboardInterrupt: `stop` was set; the state is saved.
        TrainingError, DataError: see `podium.training.fit.fit`.
    """
    notify = of_run(notify, run.contender, run.seed)
    device = choose_device(machine)
    built = build_model(recipe.model, len(index.classes), pooling=recipe.pooling, seed=run.seed)
    size = recipe.image_size or built.image_size
    precision, reason = choose_precision(machine, device, built.module, size)
    notify(Message(f"{device.describe()}, {precision} ({reason})"))
    cached: dict[str, CachedPixels] = {}
    if not features_are_fixed(recipe, device.count):  # such a run decodes every image once anyway
        sizes = {"train": source_size(recipe.augmentation, size), "valid": size}
        cached = cache_pixels(index, sizes, limit=machine.cache_limit, notify=notify, stop=stop)
    workers = choose_workers(machine, device, decoding=not cached)
    job = Job(recipe, index, run, machine, device, precision, workers, cached, metric=metric)
    fit(job, notify, stop)

    model = load_run(run, device.torch)

    def look(split: SplitName) -> Predictions:
        return despite_lost_workers(
            lambda workers: predict_split(
                model,
                index,
                split,
                device=device.torch,
                batch_size=recipe.batch_size,
                workers=workers,
                notify=notify,
                stop=stop,
            ),
            choose_workers(machine, device),
            recipe,
            notify,
        )

    valid = look("valid")
    valid.write(run.predictions("valid"))
    # fitted before a test image is looked at, and shipped with the model
    temperature = fit_temperature(valid)
    write_json(run.model, {**read_json(run.model), "temperature": temperature})

    # The test images are looked at here and nowhere else: once, with the best epoch. The look is
    # written down before its outcome is, so that no kill between the two hides it.
    test, scored_at = look("test"), utc_now()
    closing = {f"{split}_accuracy": scores(found).accuracy
               for split, found in (("valid", valid), ("test", test))}  # fmt: skip
    record(
        run,
        images=index.split_fingerprint("test"),
        n=len(test),
        accuracy=closing["test_accuracy"],
        at=scored_at,
        recipe=recipe.model_dump(mode="json"),
        by="run",
    )
    test.write(run.predictions("test"))
    judge = find_metric(metric)
    values = {split: judge.score(found.logits, found.labels)
              for split, found in (("valid", valid), ("test", test))}  # fmt: skip
    rows, about = run.read_history(), about_model(recipe.model)
    state = read_checkpoint(run.last)
    write_json(
        run.done,
        {
            "podium_version": __version__,
            "torch_version": torch.__version__,
            "finished_at": utc_now(),
            "test_scored_at": scored_at,
            "model": recipe.model,
            **({"about_model": about} if about else {}),
            "augmentation": AUGMENTATIONS[recipe.augmentation].title,
            "stood_in_for": wanted_model if wanted_model != recipe.model else None,
            "pretrained_source": read_json(run.model).get("pretrained_source"),
            "image_size": model.image_size,
            "parameters": sum(p.numel() for p in model.module.parameters()),
            "trainable_parameters": state["trainable_parameters"],
            "epochs": len(rows),
            "best_epoch": best_epoch(rows, judge),
            "metric": {**judge.described(), **values},
            "seconds": round(state["total_seconds"], 3),
            "images_per_second": round(
                sum(row["images_per_second"] for row in rows) / len(rows), 2
            ),
            "precision": precision,
            "precision_reason": reason,
            "device": device.describe(),
            "devices": device.count,
            "temperature": temperature,
            **closing,
        },
    )
    return {**closing, **{f"{split}_{metric}": value for split, value in values.items()}}
