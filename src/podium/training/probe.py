"""Linear probe: a linear classifier solved on frozen features, its penalty chosen on valid.

Fine-tuning from it instead of a random classifier keeps the gradients of a bad classifier from
distorting good features (LP-FT; Kumar et al., 2022).
"""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, fields, replace

import torch
from lightning_fabric import Fabric
from torch import nn

from podium.config.settings import ProbeKind
from podium.errors import ConfigError
from podium.features.frozen import MOST_BYTES, Features
from podium.models import BuiltModel
from podium.runs.folder import RunFolder
from podium.runs.predictions import Predictions
from podium.runtime.events import Message, Notify, StopRequest
from podium.runtime.files import write_text
from podium.statistics.calibration import fit_temperature
from podium.statistics.losses import nll
from podium.statistics.scoring import ACCURACY, Metric
from podium.training.discriminant import Discriminant
from podium.training.logistic import Logistic, Solution, mean_loss_and_accuracy

TITLES = {"logistic": "linear probe", "lda": "linear probe (LDA)"}
FIRST, STEP = 1e-2, 10**0.5  # the first penalty, and the factor between penalties
WEAKEST, STRONGEST = 1e-6, 1e2
PATIENCE = 2  # consecutive penalties without improvement that end a direction of the search
CLOSE = 1e-2  # times the penalty: the largest partial derivative at a solution
SMALL = 1e-6  # nats; during the search, a step that improves by less ends a solution
BETTER = 5e-4  # nats; a smaller gain on valid is below the precision of the search


@dataclass(frozen=True)
class Trial:
    """A penalty that was tried: losses in nats without the penalty term, accuracies 0 to 1.

    `calibrated_loss` is the validation loss at its best temperature; trials are compared by it.
    """

    penalty: float
    steps: int
    train_loss: float
    train_accuracy: float
    valid_loss: float
    valid_accuracy: float
    temperature: float
    calibrated_loss: float
    chosen: bool = False


@dataclass(frozen=True)
class Probe:
    """The classifier and all trials.

    `weight` is float32 of shape (classes, features), `bias` of shape (classes,).
    """

    weight: torch.Tensor
    bias: torch.Tensor
    trials: tuple[Trial, ...]

    @property
    def chosen(self) -> Trial:
        return next(trial for trial in self.trials if trial.chosen)


def probe_epoch(
    fabric: Fabric,
    built: BuiltModel,
    folder: RunFolder,
    compute: Callable[[], Mapping[str, Features]],
    notify: Notify,
    stop: StopRequest | None,
    metric: Metric = ACCURACY,
    class_weights: torch.Tensor | None = None,
    penalty: float | None = None,
    kind: ProbeKind = "logistic",
) -> dict[str, float]:
    """Run the probe's epoch, which has no steps: solve, write and score the classifier.

    Args:
        fabric: of the training; its first process does the work, the others get its result.
        built: the model; its classifier is changed.
        folder: of the run; the first process writes `probe.csv` there.
        compute: returns the features of `train` and `valid`.
        notify: receives the progress, and the chosen penalty.
        stop: checked after every penalty.
        metric: of the study; recorded only: the penalty is chosen by the calibrated loss.
        class_weights: of the training images, shape (classes,); None: all classes weigh 1.
        penalty: to use where there are no images to choose it on; None: choose it.
        kind: of classifier.

    Returns:
        A row of the history; its learning rate is 0.

    Raises:
        ConfigError: the classifier is not linear, or the features cannot be computed separately.
        KeyboardInterrupt: `stop` was set.
    """
    began, found, images = time.perf_counter(), None, 0
    further: dict[str, float] = {}
    if fabric.is_global_zero:
        features = compute()
        if penalty is None:
            found = solve_probe(built, features, fabric.device, notify, stop, class_weights, kind)
        else:
            found = refit_probe(built, features, fabric.device, penalty, class_weights, kind)
        images = len(features["train"].labels)
        write_trials(folder, found)
        if not metric.is_accuracy and penalty is None:
            held_out = features["valid"]
            logits = held_out.values.flatten(1).float() @ found.weight.cpu().T + found.bias.cpu()
            further[metric.column] = metric.score(logits.numpy(), held_out.labels.numpy())
        elif not metric.is_accuracy:
            further[metric.column] = math.nan
    found, images, further = fabric.broadcast((found, images, further))
    assert found is not None
    write_head(built.module.get_submodule(built.classifier), found.weight, found.bias)
    won, seconds = found.chosen, time.perf_counter() - began
    return {
        "epoch": 1,
        "lr": 0.0,
        "train_loss": won.train_loss,
        "train_accuracy": won.train_accuracy,
        "valid_loss": won.valid_loss,
        "valid_accuracy": won.valid_accuracy,
        **further,
        "seconds": round(seconds, 3),
        "images_per_second": round(images / seconds, 2),
    }


def solve_probe(
    built: BuiltModel,
    features: Mapping[str, Features],
    device: torch.device,
    notify: Notify,
    stop: StopRequest | None = None,
    class_weights: torch.Tensor | None = None,
    kind: ProbeKind = "logistic",
) -> Probe:
    """Solve for one penalty after another; keep the best on valid.

    The best has the lowest loss at its own best temperature, since Podium fits a temperature on
    valid anyway: otherwise a strong penalty would lose only for being underconfident. The loss is
    used, not the accuracy: it reflects the confidence in every image, while the accuracy of a few
    hundred images is coarse and often ties. The search goes from `FIRST` to weaker penalties until
    `PATIENCE` in a row do not improve; if `FIRST` is still the best, it also goes to stronger
    ones. Every solution starts from its neighbour's; the best is then solved to its optimum.

    Args:
        built: the model, whose classifier will be written; not changed here.
        features: of `train` and `valid`, from `podium.features.frozen.compute_features`.
        device: where to compute.
        notify: receives the progress, and the chosen penalty.
        stop: checked after every penalty.
        class_weights: of the training images, shape (classes,); None: all classes weigh 1. The
            loss on valid is never weighted.
        kind: of classifier.

    Raises:
        ConfigError: the classifier is not linear, or there are no features.
        KeyboardInterrupt: `stop` was set.
    """
    problem, x, y = _problem(built, features, device, class_weights, kind)
    valid = features["valid"]
    v, u = valid.values.flatten(1).to(device), valid.labels.to(device)
    trials: dict[float, tuple[Trial, Solution]] = {}
    best, first = FIRST, None
    for factor in (1 / STEP, STEP):
        if factor > 1 and best != FIRST:
            break
        near, worse = first, 0
        penalty = FIRST if near is None else FIRST * factor
        while worse < PATIENCE and WEAKEST * 0.99 < penalty < STRONGEST * 1.01:
            near = problem.solve(penalty, near, tolerance=CLOSE * penalty, improvement=SMALL)
            first = first or near
            trials[penalty] = _score(near, x, y, v, u), near
            here, record = (trials[p][0].calibrated_loss for p in (penalty, best))
            worse = 0 if penalty == FIRST or here < record - BETTER else worse + 1
            best = best if worse else penalty
            penalty *= factor
            if stop is not None and stop.is_set():
                raise KeyboardInterrupt
    solution = problem.solve(best, trials[best][1], tolerance=CLOSE * best)
    won = _score(solution, x, y, v, u)
    won = replace(won, steps=won.steps + trials[best][0].steps)
    trials[best] = won, solution
    notify(
        Message(
            f"{TITLES[kind]}: penalty {won.penalty:.1e} of {len(trials)} tried, valid loss "
            f"{won.calibrated_loss:.4f} at its temperature, {100 * won.valid_accuracy:.1f} % "
            "(all penalties in probe.csv)",
        )
    )
    tried = [
        replace(trial, chosen=trial is won)
        for _, (trial, _) in sorted(trials.items(), reverse=True)
    ]
    return Probe(solution.weight.float(), solution.bias.float(), tuple(tried))


def refit_probe(
    built: BuiltModel,
    features: Mapping[str, Features],
    device: torch.device,
    penalty: float,
    class_weights: torch.Tensor | None = None,
    kind: ProbeKind = "logistic",
) -> Probe:
    """Solve for a penalty that was chosen elsewhere, with no images to validate on.

    Args:
        built: the model, whose classifier will be written; not changed here.
        features: of `train`.
        device: where to compute.
        penalty: to solve for.
        class_weights: of the training images, shape (classes,); None: all classes weigh 1.
        kind: of classifier.

    Raises:
        ConfigError: the classifier is not linear, or there are no features.
    """
    problem, x, y = _problem(built, features, device, class_weights, kind)
    solution = problem.solve(penalty, None, tolerance=CLOSE * penalty)
    weight, bias = solution.weight.float(), solution.bias.float()
    fit = mean_loss_and_accuracy(x, y, weight.to(x.device), bias.to(x.device))
    unknown = (math.nan,) * 4  # what only validation images would tell
    return Probe(weight, bias, (Trial(penalty, solution.steps, *fit, *unknown, chosen=True),))


def _problem(
    built: BuiltModel,
    features: Mapping[str, Features],
    device: torch.device,
    class_weights: torch.Tensor | None,
    kind: ProbeKind,
) -> tuple[Logistic | Discriminant, torch.Tensor, torch.Tensor]:
    """What is to be solved on the training features, those features, and their labels."""
    head = built.module.get_submodule(built.classifier)
    _refuse_head(built.name, head, features)
    train = features["train"]
    x, y = train.values.flatten(1).to(device), train.labels.to(device)
    classifier = Discriminant if kind == "lda" else Logistic
    return classifier(x, y, _layers(head)[-1].out_features, class_weights), x, y


def _score(
    solution: Solution, x: torch.Tensor, y: torch.Tensor, v: torch.Tensor, u: torch.Tensor
) -> Trial:
    # round to float32 first, to score exactly what is saved
    weight, bias = (t.float().to(x.device) for t in (solution.weight, solution.bias))
    numbers = tuple(str(number) for number in range(max(len(u), len(bias))))
    logits = (v.to(weight) @ weight.T + bias).cpu().numpy()
    valid = Predictions(numbers[: len(bias)], numbers[: len(u)], u.cpu().numpy(), logits)
    temperature = fit_temperature(valid)
    return Trial(
        solution.penalty,
        solution.steps,
        *mean_loss_and_accuracy(x, y, weight, bias),
        *mean_loss_and_accuracy(v, u, weight, bias),
        temperature,
        nll(valid, temperature).value,
    )


def _refuse_head(model: str, head: nn.Module, features: Mapping[str, Features]) -> None:
    remedy = "Set linear_probe: false for this model."
    if not features:
        raise ConfigError(
            f"linear_probe: {model} has layers after its classifier, or its features take more "
            f"than {MOST_BYTES / 2**30:.0f} GiB. {remedy}"
        )
    layers = _layers(head)
    linear = all(isinstance(layer, nn.Linear) for layer in layers)
    square = linear and all(layer.in_features == layer.out_features for layer in layers[:-1])
    one_vector = features["train"].values.ndim == 2
    if not (square and one_vector):
        raise ConfigError(
            f"linear_probe: the classifier of {model} ({type(head).__name__}) is not a linear "
            f"layer on one vector per image, so a solution cannot be written into it. {remedy}"
        )


def write_head(head: nn.Module, weight: torch.Tensor, bias: torch.Tensor) -> None:
    """Make a classifier compute `x @ weight.T + bias`, in place.

    If it has several linear layers, all but the last become the identity: without an activation
    between them only their product matters.

    Args:
        head: the classifier; changed in place.
        weight: float32 of shape (classes, features).
        bias: float32 of shape (classes,).
    """
    *before, last = _layers(head)
    with torch.no_grad():
        for layer in before:
            nn.init.eye_(layer.weight)
            if layer.bias is not None:
                layer.bias.zero_()
        last.weight.copy_(weight)
        if last.bias is not None:
            last.bias.copy_(bias)


def _layers(head: nn.Module) -> list[nn.Linear]:
    found: list[nn.Linear] = list(head) if isinstance(head, nn.Sequential) else [head]  # type: ignore[arg-type, list-item]
    return found


def write_trials(folder: RunFolder, probe: Probe) -> None:
    """Write `probe.csv`: one row per penalty, strongest first.

    Args:
        folder: of the run.
        probe: its trials are written.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(field.name for field in fields(Trial))
    writer.writerows(astuple(trial) for trial in probe.trials)
    write_text(folder.probe, out.getvalue())
