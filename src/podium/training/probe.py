"""Linear probe: the classifier that is best on frozen features, its penalty chosen on valid.

Fine-tuning from it rather than from random weights keeps good features from being distorted by a
bad classifier's gradients (LP-FT; Kumar et al., 2022).
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, fields, replace

import torch
from lightning_fabric import Fabric
from torch import nn

from podium.errors import ConfigError
from podium.features.frozen import MOST_BYTES, Features
from podium.models import BuiltModel
from podium.runs.folder import RunFolder
from podium.runs.predictions import Predictions
from podium.runtime.events import Event, Notify, StopRequest
from podium.runtime.files import write_text
from podium.statistics.calibration import fit_temperature, nll
from podium.training.logistic import Logistic, Solution, mean_loss_and_accuracy

FIRST, STEP = 1e-2, 10**0.5  # the penalty that is tried first, and the factor between two
WEAKEST, STRONGEST = 1e-6, 1e2
PATIENCE = 2  # penalties in a row that are no better end a direction of the search
CLOSE = 1e-2  # of the penalty: the largest partial derivative at a solution
SMALL = 1e-6  # nats; during the search, steps that improve by less are not taken
BETTER = 5e-4  # nats; less on valid is no gain: solutions during the search are no closer


@dataclass(frozen=True)
class Trial:
    """A penalty that was tried: losses in nats without the penalty's share, accuracies 0 to 1.

    `calibrated_loss` is that of valid with the temperature that suits it best: what is compared.
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
    """The classifier: `weight` float32 of shape (classes, features), `bias`; and all trials."""

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
) -> dict[str, float]:
    """An epoch that takes no steps: the classifier is solved, written and scored.

    Args:
        fabric: of the training; its first process does the work, the others get its result.
        built: the model; its classifier is changed.
        folder: of the run; the first process writes `probe.csv` there.
        compute: gives the features of `train` and `valid`.
        notify: told of the progress, and of what was chosen.
        stop: asked after every penalty.

    Returns:
        A row of the history; its learning rate is 0.

    Raises:
        ConfigError, KeyboardInterrupt: see `solve_probe`.
    """
    began, found, images = time.perf_counter(), None, 0
    if fabric.is_global_zero:
        features = compute()
        found = solve_probe(built, features, fabric.device, notify, stop)
        images = len(features["train"].labels)
        write_trials(folder, found)
    found, images = fabric.broadcast((found, images))
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
        "seconds": round(seconds, 3),
        "images_per_second": round(images / seconds, 2),
    }


def solve_probe(
    built: BuiltModel,
    features: Mapping[str, Features],
    device: torch.device,
    notify: Notify,
    stop: StopRequest | None = None,
) -> Probe:
    """Solve for one penalty after the other; keep the best on valid.

    The best has the lowest loss at its own best temperature, since Podium fits a temperature on
    valid anyway: otherwise a strong penalty would lose for being timid alone. The loss, not the
    accuracy: it weighs how sure the classifier is of every image, where the accuracy of a few
    hundred images moves by whole images and often ties. The search goes from `FIRST` to weaker
    penalties until `PATIENCE` in a row are no better; where `FIRST` stays the best, to stronger
    ones as well. Every solution begins at its neighbour's; the best is solved on to its optimum.

    Args:
        built: the model, whose classifier will be written; not changed here.
        features: of `train` and `valid`, as `podium.features.frozen.compute_features` gives them.
        device: where to compute.
        notify: told of the progress, and of what was chosen.
        stop: asked after every penalty.

    Raises:
        ConfigError: the classifier is not one that a solution can be written into.
        KeyboardInterrupt: `stop` was set.
    """
    head = built.module.get_submodule(built.classifier)
    _refuse_head(built.name, head, features)
    classes = _layers(head)[-1].out_features
    train, valid = features["train"], features["valid"]
    x, y = train.values.flatten(1).to(device), train.labels.to(device)
    v, u = valid.values.flatten(1).to(device), valid.labels.to(device)
    problem = Logistic(x, y, classes)
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
        Event(
            "message",
            f"linear probe: penalty {won.penalty:.1e} of {len(trials)} tried, valid loss "
            f"{won.calibrated_loss:.4f} at its temperature, {100 * won.valid_accuracy:.1f} % "
            "(all of them in probe.csv)",
        )
    )
    told = [
        replace(trial, chosen=trial is won)
        for _, (trial, _) in sorted(trials.items(), reverse=True)
    ]
    return Probe(solution.weight.float(), solution.bias.float(), tuple(told))


def _score(
    solution: Solution, x: torch.Tensor, y: torch.Tensor, v: torch.Tensor, u: torch.Tensor
) -> Trial:
    # rounded first: scored is what is saved
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
            f"linear_probe: {model} computes more after its classifier, or its features take too "
            f"much memory ({MOST_BYTES / 2**30:.0f} GB at most). {remedy}"
        )
    layers = _layers(head)
    linear = all(isinstance(layer, nn.Linear) for layer in layers)
    square = linear and all(layer.in_features == layer.out_features for layer in layers[:-1])
    one_vector = features["train"].values.ndim == 2
    if not (square and one_vector):
        raise ConfigError(
            f"linear_probe: the classifier of {model} ({type(head).__name__}) is no linear layer "
            f"on one vector an image, so no solution can be written into it. {remedy}"
        )


def write_head(head: nn.Module, weight: torch.Tensor, bias: torch.Tensor) -> None:
    """Make a classifier compute `x @ weight.T + bias`, in place.

    Where it has several linear layers, all but the last pass their input on: with no activation
    between them only their product counts.
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
    """Write `probe.csv`: a row a penalty, strongest first."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(field.name for field in fields(Trial))
    writer.writerows(astuple(trial) for trial in probe.trials)
    write_text(folder.probe, out.getvalue())
