"""Linear probes: scikit-learn's optimum, the penalty chosen on valid, and fine-tuning from it."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.datasets import make_classification
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from podium.cli.app import main
from podium.config.settings import RunSpec
from podium.data.index import DataIndex
from podium.data.indexing import build_index
from podium.errors import ConfigError
from podium.evaluation.trained import load_run, predict_split
from podium.features.frozen import Features
from podium.models import BuiltModel, build_model
from podium.models.layers import layer_groups
from podium.runtime.events import Event, Message, silent
from podium.training import discriminant, logistic, probe
from podium.training.discriminant import Discriminant
from podium.training.fit import fit
from podium.training.logistic import Logistic, mean_loss_and_accuracy
from podium.training.losses import class_weights
from podium.training.probe import solve_probe, write_head
from tests.conftest import StopAfter, device
from tests.training.test_training import job, weights

HERE = torch.device(device())
PROBE: dict[str, Any] = {
    "model": "efficientnet_lite0",
    "pretrained": True,
    "linear_probe": True,
    "augmentation": "none",
    "image_size": 48,
    "lr": 1e-4,
}


@pytest.fixture(scope="module")
def index(pictures: Path) -> DataIndex:
    return build_index(pictures)


def points(images: int = 400, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = make_classification(
        images, 12, n_informative=8, n_classes=4, class_sep=0.8, flip_y=0.1, random_state=seed
    )
    x = x * np.geomspace(0.1, 30, 12) + 5  # scales and offsets as features have them
    return torch.from_numpy(x).float(), torch.from_numpy(y)


def sets(seed: int = 0) -> dict[str, Features]:
    x, y = points(600, seed)
    return {"train": Features(x[:400], y[:400]), "valid": Features(x[400:], y[400:])}


def head_of(module: nn.Module) -> BuiltModel:
    return BuiltModel("mine", nn.Sequential(nn.Identity(), module), 32, "1")


@pytest.mark.parametrize("penalty", [1.0, 1e-2, 1e-4])
def test_scikit_learn_finds_the_same_optimum(penalty: float) -> None:
    x, y = points()
    mine = Logistic(x, y, 4).solve(penalty, tolerance=1e-8)
    scaler = StandardScaler().fit(x.double().numpy())
    theirs = LogisticRegression(C=1 / (len(x) * penalty), tol=1e-9, max_iter=5000)
    theirs.fit(scaler.transform(x.double().numpy()), y.numpy())
    expected = theirs.decision_function(scaler.transform(x.double().numpy()))
    logits = (x.double() @ mine.weight.T + mine.bias).numpy()
    # equal shifts of all classes change nothing
    for scores in (logits, expected):
        scores -= scores.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(logits, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("penalty", [1.0, 1e-3])
def test_scikit_learn_finds_the_same_weighted_optimum(
    penalty: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logistic, "_CHUNK", 300)  # weights go with the images of each chunk
    x, y = points()
    kept = torch.cat([torch.nonzero(y == k)[: 90 >> k, 0] for k in range(4)])  # 90, 45, 22, 11
    x, y = x[kept], y[kept]
    weights = class_weights(np.bincount(y.numpy()), "balanced")
    mine = Logistic(x, y, 4, torch.from_numpy(weights)).solve(penalty, tolerance=1e-8)
    z = StandardScaler().fit_transform(x.double().numpy())
    theirs = LogisticRegression(
        C=1 / (len(x) * penalty), class_weight="balanced", tol=1e-9, max_iter=5000
    )
    expected = theirs.fit(z, y.numpy()).decision_function(z)
    logits = (x.double() @ mine.weight.T + mine.bias).numpy()
    for scores in (logits, expected):
        scores -= scores.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(logits, expected, atol=2e-5 * np.abs(expected).max())
    plain = Logistic(x, y, 4).solve(penalty, tolerance=1e-8)
    assert float((plain.bias - mine.bias).abs().max()) > 0.1


def test_single_precision_and_chunks_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = points()
    exact = Logistic(x, y, 4).solve(1e-3, tolerance=1e-8)
    monkeypatch.setattr(logistic, "_DOUBLE_BELOW", 0)
    monkeypatch.setattr(logistic, "_CHUNK", 300)
    low = Logistic(x, y, 4)
    assert low.z.dtype == torch.float32
    found = low.solve(1e-3)
    a, b = (x.double() @ s.weight.T + s.bias for s in (found, exact))
    assert float((a - b).abs().max()) < 2e-3 * float(b.abs().max())
    loss, accuracy = mean_loss_and_accuracy(x, y, exact.weight, exact.bias)
    assert loss == pytest.approx(float(nn.functional.cross_entropy(b, y)), abs=1e-9)
    assert accuracy == float((b.argmax(1) == y).double().mean())


def test_a_start_changes_the_way_not_the_solution() -> None:
    x, y = points()
    problem = Logistic(x, y, 4)
    cold = problem.solve(1e-3, tolerance=1e-8)
    warm = problem.solve(1e-3, problem.solve(3e-3), tolerance=1e-8)
    torch.testing.assert_close(warm.weight, cold.weight, rtol=1e-4, atol=1e-5)
    assert problem.solve(1e-3, cold, tolerance=1e-6).steps < 5 < cold.steps


def test_features_that_do_not_vary_are_harmless() -> None:
    x, y = points()
    x = torch.cat([x, torch.full((len(x), 1), 3.0)], 1)
    found = Logistic(x, y, 5).solve(1e-3)  # and no picture is of the fifth class
    assert bool(torch.isfinite(found.weight).all())
    assert float(found.weight[:, -1].abs().max()) < 1e-6
    assert int((x.double() @ found.weight.T + found.bias).argmax(1).max()) < 4
    Logistic(torch.ones(8, 3), torch.arange(8) % 2, 2).solve(1.0)


def test_the_penalty_with_the_lowest_calibrated_loss_is_chosen() -> None:
    told: list[Event] = []
    found = solve_probe(head_of(nn.Linear(12, 4)), sets(), HERE, told.append)
    penalties = [trial.penalty for trial in found.trials]
    assert penalties == sorted(penalties, reverse=True)
    assert len(penalties) >= 3
    lowest = min(trial.calibrated_loss for trial in found.trials)
    assert found.chosen.calibrated_loss <= lowest + 1e-3  # the others are not solved as far
    assert sum(trial.chosen for trial in found.trials) == 1
    assert any(
        f"penalty {found.chosen.penalty:.1e}" in one.text
        for one in told
        if isinstance(one, Message)
    )
    again = solve_probe(head_of(nn.Linear(12, 4)), sets(), HERE, silent)
    assert torch.equal(again.weight, found.weight)
    assert again.trials == found.trials


def test_labels_without_a_pattern_ask_for_a_strong_penalty() -> None:
    features = sets()
    random = torch.Generator().manual_seed(0)
    noise = {
        name: Features(part.values, torch.randint(4, part.labels.shape, generator=random))
        for name, part in features.items()
    }
    found = solve_probe(head_of(nn.Linear(12, 4)), noise, HERE, silent)
    assert found.chosen.penalty > probe.FIRST


def test_two_linear_layers_are_written_as_their_product() -> None:
    head = nn.Sequential(nn.Linear(12, 12), nn.Linear(12, 4))
    x = torch.randn(5, 12)
    weight, bias = torch.randn(4, 12), torch.randn(4)
    write_head(head, weight, bias)
    torch.testing.assert_close(head(x), x @ weight.T + bias)


@pytest.mark.parametrize(
    "head",
    [
        nn.Sequential(nn.Linear(12, 4), nn.ReLU()),
        nn.Sequential(nn.Linear(12, 6), nn.Linear(6, 4)),
        nn.Conv2d(12, 4, 1),
    ],
)
def test_other_classifiers_are_refused(head: nn.Module) -> None:
    with pytest.raises(ConfigError, match=r"mine.*Set linear_probe: false"):
        solve_probe(head_of(head), sets(), HERE, silent)


def test_a_model_that_cannot_be_taken_apart_is_refused() -> None:
    with pytest.raises(ConfigError, match="has layers after its classifier"):
        solve_probe(head_of(nn.Linear(12, 4)), {}, HERE, silent)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pretrained": False}, "linear_probe needs pretrained"),
        ({"freeze": "backbone", "augmentation": "crop_flip"}, "augmentation has no effect"),
        ({"freeze": "backbone", "label_smoothing": 0.1}, "label_smoothing has no effect"),
        ({"freeze": "backbone", "layer_decay": 0.7}, "layer_decay needs freeze: none"),
        ({"layer_decay": 0.0}, "greater than 0"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(
    settings: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        RunSpec.model_validate({**PROBE, "epochs": 1, **settings})


def test_a_probe_alone_is_told_of() -> None:
    spec = RunSpec.model_validate({**PROBE, "epochs": 1})
    assert "nothing is fine-tuned" in spec.notices()[0]
    alone = RunSpec.model_validate({**PROBE, "epochs": 3, "freeze": "backbone"})
    assert alone.most_epochs == 1
    assert "in 1 epoch" in alone.notices()[0]


@pytest.mark.parametrize("flip_test", [False, True])
def test_a_frozen_probe_is_the_run(index: DataIndex, tmp_path: Path, flip_test: bool) -> None:
    # of however many epochs, as `--epochs 3` gives to every contender
    alone = {**PROBE, "freeze": "backbone", "epochs": 3, "flip_test": flip_test}
    run = job(tmp_path / "run", index, **alone)
    fit(run, silent)
    (row,) = run.folder.read_history()
    assert row["lr"] == 0
    with open(run.folder.probe, encoding="utf-8") as file:
        trials = list(csv.DictReader(file))
    (won,) = [trial for trial in trials if trial["chosen"] == "True"]
    assert row["valid_loss"] == pytest.approx(float(won["valid_loss"]), rel=1e-6)
    # the oracle: the saved model, run on the pictures
    found = predict_split(load_run(run.folder), index, "valid")
    assert row["valid_accuracy"] == np.mean(found.predicted == found.labels)
    loss = nn.functional.cross_entropy(torch.tensor(found.logits), torch.tensor(found.labels))
    assert row["valid_loss"] == pytest.approx(float(loss), rel=1e-3)
    before = build_model("efficientnet_lite0", 3, pretrained=True).module.state_dict()
    after = load_run(run.folder).module.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"classifier.weight", "classifier.bias"}


def test_fine_tuning_goes_on_from_the_probe_bit_for_bit(index: DataIndex, tmp_path: Path) -> None:
    settings = {**PROBE, "epochs": 2, "layer_decay": 0.8, "augmentation": "crop_flip"}
    whole = job(tmp_path / "whole", index, **settings)
    fit(whole, silent)
    rows = whole.folder.read_history()
    assert [row["lr"] for row in rows] == [0.0, 1e-4]

    stopped = job(tmp_path / "stopped", index, **settings)
    for steps in (3, 4):  # while the features are computed or the probe is solved; in epoch 2
        with pytest.raises(KeyboardInterrupt):
            fit(stopped, silent, StopAfter(steps))
    fit(stopped, silent)
    assert weights(stopped) == weights(whole)


def test_fine_tuning_begins_at_the_probe(index: DataIndex, tmp_path: Path) -> None:
    alone = job(tmp_path / "alone", index, **PROBE, freeze="backbone", epochs=1)
    tuned = job(tmp_path / "tuned", index, **{**PROBE, "lr": 1e-12}, epochs=2)
    fit(alone, silent)
    fit(tuned, silent)
    heads = [
        load_run(run.folder).module.get_submodule("classifier").state_dict()
        for run in (alone, tuned)
    ]
    last = torch.load(tuned.folder.last, weights_only=True)["model"]
    before = build_model("efficientnet_lite0", 3, pretrained=True).module.state_dict()
    for name in before:
        if "running" in name:  # the statistics that the probe was solved with
            assert torch.equal(last[name], before[name]), name
    for name, value in heads[0].items():
        torch.testing.assert_close(heads[1][name], value)
        torch.testing.assert_close(last[f"classifier.{name}"], value)


def test_two_processes_get_one_probe(index: DataIndex, tmp_path: Path) -> None:
    one = job(tmp_path / "one", index, **PROBE, freeze="backbone", epochs=1)
    two = job(tmp_path / "two", index, devices=2, **PROBE, freeze="backbone", epochs=1)
    fit(one, silent)
    fit(two, silent)
    assert weights(one) == weights(two)


def test_resnet18_with_weights_of_its_own(index: DataIndex, tmp_path: Path) -> None:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    torch.save(resnet18(weights=None).state_dict(), tmp_path / "own.pth")
    settings = {**PROBE, "model": "resnet18", "pretrained": False, "freeze": "backbone"}
    run = job(tmp_path / "run", index, **settings, weights=tmp_path / "own.pth", epochs=1)
    fit(run, silent)
    module: Any = load_run(run.folder).module
    assert torch.equal(module.fc[0].weight, torch.eye(512))
    found = predict_split(load_run(run.folder), index, "valid")
    row = run.folder.read_history()[0]
    assert row["valid_accuracy"] == np.mean(found.predicted == found.labels)


@pytest.mark.parametrize(
    ("name", "least"), [("simple_resnet", 5), ("resnet18", 8), ("efficientnet_lite0", 10)]
)
def test_rates_fall_from_the_classifier_to_the_stem(name: str, least: int) -> None:
    built = build_model(name, 7)
    groups = layer_groups(built.module, 0.5, weight_decay=0.1)
    scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    order = [scale[id(p)] for p in built.module.parameters()]
    assert len(order) == len(list(built.module.parameters()))
    assert {scale[id(p)] for p in built.module.get_submodule(built.classifier).parameters()} == {1}
    assert min(order) == order[0]
    assert len(set(order)) >= least
    assert all(b == a * 2 for a, b in zip(sorted(set(order)), sorted(set(order))[1:], strict=False))
    assert {group["weight_decay"] for group in groups} == {0.1}
    spared = layer_groups(built.module, 0.5, weight_decay=0.1, decay_norm_bias=False)
    assert {group["weight_decay"] for group in spared} == {0.0, 0.1}


STUDY = """
name: transfer
data: {data}
seeds: [0, 1]
defaults: {{model: efficientnet_lite0, pretrained: true, image_size: 64, linear_probe: true}}
contenders:
  linear: {{freeze: backbone, epochs: 1}}
"""


@pytest.mark.usefixtures("undrawn")
def test_seeds_share_the_features(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("PODIUM_CACHE", str(tmp_path / "cache"))
    study = tmp_path / "study.yaml"
    study.write_text(STUDY.format(data=pictures))
    command = ["run", str(study), "--runs", str(tmp_path / "runs"), "--workers", "0"]
    assert main([*command, "--no-audit"]) == 0
    said = "".join(capsys.readouterr())
    assert said.count("features of 99 images") == 2
    assert said.count("from the cache") == 1
    done = [
        json.loads((tmp_path / f"runs/transfer/linear/seed-{seed}/done.json").read_text())
        for seed in (0, 1)
    ]
    assert done[0]["valid_accuracy"] > 0.7
    assert done[0]["valid_accuracy"] == done[1]["valid_accuracy"]


@pytest.mark.parametrize("shrinkage", [0.01, 0.3, 0.95])
@pytest.mark.parametrize("balanced", [False, True])
def test_scikit_learn_finds_the_same_discriminant(
    shrinkage: float, balanced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discriminant, "_CHUNK", 70)
    x, y = points()
    kept = torch.cat([torch.nonzero(y == k)[: 90 >> k, 0] for k in range(4)])  # 90, 45, 22, 11
    x, y = x[kept], y[kept]
    weights = torch.from_numpy(class_weights(np.bincount(y.numpy()), "balanced"))
    mine = Discriminant(x, y, 4, weights if balanced else None)
    found = mine.solve(shrinkage / (1 - shrinkage))
    z = StandardScaler().fit_transform(x.double().numpy())
    theirs = LinearDiscriminantAnalysis(
        solver="lsqr", shrinkage=shrinkage, priors=[0.25] * 4 if balanced else None
    )
    expected = theirs.fit(z, y.numpy()).decision_function(z)
    logits = (x.double() @ found.weight.T + found.bias).numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())


def test_a_discriminant_needs_neither_every_class_nor_features_that_vary() -> None:
    x, y = points(60)
    x = torch.cat([x, torch.full((len(x), 1), 3.0)], 1)
    found = Discriminant(x, y, 5).solve(1e-2)
    assert bool(torch.isfinite(found.weight).all() and torch.isfinite(found.bias).all())
    assert int((x.double() @ found.weight.T + found.bias).argmax(1).max()) < 4
    flat = Discriminant(torch.ones(8, 3), torch.arange(8) % 2, 2).solve(1.0)
    assert bool(torch.isfinite(flat.weight).all())
