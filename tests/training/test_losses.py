"""Losses against PyTorch, scikit-learn and their formulas; weights in one process and in two."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, strategies as st
from lightning_fabric import Fabric
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from torch.nn.functional import cross_entropy as torchs, one_hot

import podium
from podium.config import registry
from podium.config.machine import Machine
from podium.config.registry import LOSSES, allow
from podium.config.settings import RunSpec
from podium.data.index import DataIndex
from podium.data.indexing import build_index
from podium.errors import ConfigError
from podium.models import build_model
from podium.reporting.words.labels import labels
from podium.reporting.words.recipes import _fitting
from podium.runs.folder import RunFolder
from podium.runtime.device import choose_device
from podium.runtime.events import silent
from podium.training import losses
from podium.training.checkpoint import read_checkpoint
from podium.training.fit import fit
from podium.training.job import Job
from podium.training.losses import bind_loss, class_weights, focal, register_loss
from tests.conftest import StopAfter, write_pictures

CPU = torch.device("cpu")
COUNTS = (40, 12, 3, 25)
LABELS = np.repeat(np.arange(4), COUNTS)
NAMES = ("bike", "bus", "car", "tram")


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Names, modules and permissions of a test are gone after it."""
    path, allowed = list(sys.path), dict(registry._ALLOWED)
    found, origin = dict(LOSSES._found), dict(LOSSES._origin)
    yield
    sys.path[:] = path
    for name in ("own_losses", "shop"):
        sys.modules.pop(name, None)
    for table, before in (
        (registry._ALLOWED, allowed),
        (LOSSES._found, found),
        (LOSSES._origin, origin),
    ):
        table.clear()
        table.update(before)


def recipe(**settings: Any) -> RunSpec:
    return RunSpec.model_validate({"model": "simple_resnet", "epochs": 1, **settings})


def batch(seed: int = 0, *, soft: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(9, 4, generator=random)
    targets = torch.randint(0, 4, (9,), generator=random)
    if not soft:
        return logits, targets
    hard = one_hot(targets, 4).float()
    return logits, 0.8 * hard + 0.2 * hard.roll(1, 0)


def bound(**settings: Any) -> losses.BoundLoss:
    return bind_loss(recipe(**settings), LABELS, NAMES, CPU)


def test_ours_are_those_of_the_settings() -> None:
    assert {LOSSES[name].__name__ for name in LOSSES.built_in} == set(LOSSES.built_in)


def test_balanced_weights_are_scikit_learns() -> None:
    found = class_weights(np.array(COUNTS), "balanced")
    np.testing.assert_allclose(
        found, compute_class_weight("balanced", classes=np.arange(4), y=LABELS), rtol=1e-12
    )
    assert bound().weights is None


@given(
    st.lists(st.integers(1, 10**6), min_size=2, max_size=9),
    st.floats(1e-6, 1 - 1e-9),
)
def test_effective_weights_are_the_papers_and_have_a_mean_of_one(
    counts: list[int], beta: float
) -> None:
    n = np.array(counts)
    found = class_weights(n, "effective", beta)
    paper = (1 - beta) / (1 - beta**n)  # Cui et al., 2019, equation 2, before it is normalised
    np.testing.assert_allclose(found / found[0], paper / paper[0], rtol=1e-5)
    assert (found * n).sum() / n.sum() == pytest.approx(1)


def test_effective_weights_end_at_none_and_at_balanced() -> None:
    n = np.array(COUNTS)
    np.testing.assert_allclose(class_weights(n, "effective", 1e-12), 1)
    np.testing.assert_allclose(
        class_weights(n, "effective", 1 - 1e-12), class_weights(n, "balanced"), rtol=1e-4
    )


def test_your_own_weights_keep_their_ratios_and_have_a_mean_of_one() -> None:
    given = {"car": 6.0, "tram": 0.5}
    found = bound(class_weights=given).weights
    assert found is not None
    np.testing.assert_allclose(found / found[0], [1, 1, 6, 0.5], rtol=1e-6)
    assert float(found[LABELS].mean()) == pytest.approx(1)
    by_number = recipe(class_weights={7: 2})  # as YAML reads a class named 7
    assert by_number.class_weights == {"7": 2.0}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("trma", "no class 'trma'. Did you mean tram"),
        ("zeppelin", "There are bike, bus, car, tram."),
    ],
)
def test_a_weight_of_no_class_is_refused(name: str, told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        bound(class_weights={name: 2})


def test_a_class_without_an_image_makes_no_weight_infinite() -> None:
    for kind in ("balanced", "effective"):
        found = class_weights(np.array([8, 0, 2]), kind)
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found[[0, 2]], class_weights(np.array([8, 2]), kind))


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["none", "balanced"])
def test_cross_entropy_divided_is_pytorchs_mean(soft: bool, smoothing: float, kind: str) -> None:
    logits, targets = batch(soft=soft)
    loss = bound(label_smoothing=smoothing, class_weights=kind)
    share = loss.share(Fabric(accelerator="cpu"), targets, len(logits))
    oracle = torchs(logits, targets, loss.weights, label_smoothing=smoothing)
    torch.testing.assert_close(loss(logits, targets) / share, oracle)


def test_plain_cross_entropy_is_what_it_was_to_the_last_bit() -> None:
    logits, targets = batch()
    loss = bound(label_smoothing=0.1)
    old = torchs(logits, targets, reduction="sum", label_smoothing=0.1)
    assert torch.equal(loss(logits, targets), old)
    share = loss.share(Fabric(accelerator="cpu"), targets, 9)
    assert (share, type(share)) == (9.0, float)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("kind", ["none", "effective"])
def test_focal_is_the_formula_and_cross_entropy_at_gamma_0(
    soft: bool, smoothing: float, kind: str
) -> None:
    logits, targets = batch(soft=soft)
    settings: dict[str, Any] = {"label_smoothing": smoothing, "class_weights": kind}
    plain = bound(**settings)
    at_zero = bound(loss="focal", focal_gamma=0.0, **settings)
    torch.testing.assert_close(at_zero(logits, targets), plain(logits, targets))
    found = float(bound(loss="focal", focal_gamma=1.5, **settings)(logits, targets))
    expected = 0.0
    shares = targets if soft else one_hot(targets, 4)
    for row, share in zip(logits.double().tolist(), shares.tolist(), strict=True):
        p = np.exp(row) / np.exp(row).sum()
        for c in range(4):
            t = share[c] * (1 - smoothing) + smoothing / 4
            w = 1.0 if plain.weights is None else float(plain.weights[c])
            expected -= w * t * (1 - p[c]) ** 1.5 * math.log(p[c])
    assert found == pytest.approx(expected, rel=1e-4)


def test_focal_of_two_classes_is_torchvisions() -> None:
    """Theirs is of a sigmoid: of two classes, that of the logits' difference."""
    from torchvision.ops import sigmoid_focal_loss

    random = torch.Generator().manual_seed(1)
    logits = torch.randn(20, 2, generator=random)
    targets = torch.randint(0, 2, (20,), generator=random)
    oracle = sigmoid_focal_loss(
        logits[:, 1] - logits[:, 0], targets.float(), alpha=-1, gamma=2, reduction="sum"
    )
    torch.testing.assert_close(focal(logits, targets, focal_gamma=2.0), oracle)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("far", [20.0, 200.0])
def test_focal_has_a_gradient_where_the_model_is_sure(gamma: float, far: float) -> None:
    logits = torch.tensor([[far, 0.0], [0.0, far]], requires_grad=True)
    focal(logits, torch.tensor([0, 0]), focal_gamma=gamma).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[1, 0] == pytest.approx(-1, abs=1e-4)


def test_logit_adjustment_by_hand() -> None:
    settings = recipe(loss="logit_adjusted", logit_tau=2.0)
    loss = bind_loss(settings, np.array([0, 0, 0, 1]), NAMES[:2], CPU)
    found = float(loss(torch.tensor([[1.0, 0.5]]), torch.tensor([1])))
    common, rare = math.exp(1.0) * 0.75**2, math.exp(0.5) * 0.25**2
    assert found == pytest.approx(-math.log(rare / (common + rare)), rel=1e-6)


@given(st.integers(0, 10**6), st.floats(0, 5), st.booleans())
def test_with_equal_priors_logit_adjustment_is_cross_entropy(
    seed: int, tau: float, soft: bool
) -> None:
    logits, targets = batch(seed, soft=soft)
    settings = recipe(loss="logit_adjusted", logit_tau=tau, label_smoothing=0.1)
    loss = bind_loss(settings, np.repeat(np.arange(4), 7), NAMES, CPU)
    oracle = torchs(logits, targets, reduction="sum", label_smoothing=0.1)
    torch.testing.assert_close(loss(logits, targets), oracle, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"focal_gamma": 1.0}, "focal_gamma needs loss: focal"),
        ({"logit_tau": 0.5, "loss": "focal"}, "logit_tau needs loss: logit_adjusted"),
        ({"effective_beta": 0.9}, "effective_beta needs class_weights: effective"),
        ({"loss": "logit_adjusted", "class_weights": "balanced"}, "exclude each other"),
        ({"loss": "logit_adjusted", "sampler": "balanced"}, "both fix imbalance"),
        ({"sampler": "balanced", "class_weights": {"car": 3}}, "class_weights and sampler: bal"),
        ({"class_weights": {"car": 0}}, "greater than 0"),
        ({"class_weights": {"car": float("inf")}}, "finite"),
        ({"class_weights": {}}, "at least 1 item"),
        ({"loss": "focl"}, "there is no loss 'focl'. Did you mean focal?"),
        ({"class_weights": "balance"}, "'none', 'balanced' or 'effective'"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told.replace("?", r"\?").replace(".", r"\.")):
        recipe(**settings)
    probe = {"model": "efficientnet_lite0", "pretrained": True, "linear_probe": True}
    assert recipe(**probe, loss="focal").loss == "focal"  # of the epochs after the probe
    for name, value in (("loss", "focal"), ("label_smoothing", 0.1)):
        with pytest.raises(ValueError, match=f"{name} has no effect if linear_probe"):
            recipe(**probe, freeze="backbone", **{name: value})
    with pytest.raises(ValueError, match=r"all images at once\. Set class_weights: balanced"):
        recipe(**probe, freeze="backbone", sampler="balanced")
    assert recipe(**probe, freeze="backbone", class_weights="balanced").is_probe_alone


# ---------------------------------------------------------------- in a training


@pytest.fixture(scope="module")
def unequal(tmp_path_factory: pytest.TempPathFactory) -> DataIndex:
    """Three classes of 16, 6 and 2 training images."""
    root = tmp_path_factory.mktemp("unequal")
    write_pictures(root, {"train": 16, "valid": 3, "test": 3})
    for name, kept in (("noise", 6), ("stripes", 2)):
        for number in range(kept, 16):
            (root / "train" / name / f"{number}.png").unlink()
    return build_index(root)


def job(folder: Path, index: DataIndex, **settings: Any) -> Job:
    machine = Machine(device="cpu")
    folder.mkdir()
    values = recipe(image_size=32, batch_size=12, lr=1e-2, optimizer="sgd", **settings)
    run = RunFolder(folder, "contender", 0)
    return Job(values, index, run, machine, choose_device(machine), "fp32", 0)


class _Linear(nn.Module):
    """No batch norm and no dropout: the oracle's steps are easily written."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * 32 * 32, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.fc(x.flatten(1))
        return found


@pytest.mark.parametrize("kind", ["balanced", "effective"])
def test_a_training_takes_pytorchs_weighted_steps(
    unequal: DataIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The oracle: the same steps with nn.CrossEntropyLoss(weight=...), whose mean is weighted."""
    from dataclasses import replace

    from podium.data.dataset import EpochSampler, ImageDataset
    from podium.data.transforms import eval_transform, prepare

    def build(*given: Any, **options: Any) -> Any:
        torch.manual_seed(5)
        found = build_model(*given, **options)
        return replace(found, module=_Linear(3), classifier="fc")

    monkeypatch.setattr("podium.training.state.build_model", build)
    done = job(tmp_path / "run", unequal, class_weights=kind)
    fit(done, silent)

    torch.manual_seed(5)
    model = build("simple_resnet", 3, seed=0).module
    split = unequal.splits["train"]
    weight = torch.tensor(class_weights(np.bincount(split.labels), kind), dtype=torch.float32)
    mean = nn.CrossEntropyLoss(weight=weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)
    dataset = ImageDataset(unequal, "train", eval_transform(32), None)
    sampler = EpochSampler(len(split), seed=0, batch_size=12)
    sampler.set_epoch(1)
    for keys in sampler:
        images = torch.stack([dataset[key[0]][0] for key in keys])
        targets = torch.tensor([int(split.labels[key[0]]) for key in keys])
        optimizer.zero_grad()
        mean(model(prepare(images)), targets).backward()
        optimizer.step()
    found = read_checkpoint(done.folder.last)["model"]
    for name, value in model.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)


def weighted_gradient(fabric: Fabric, folder: Path) -> None:
    """Each process's part of a batch of 9, of unequal size and weight; rank 0 saves the mean."""
    logits, targets = batch()
    own = slice(fabric.global_rank, None, fabric.world_size)
    model = fabric.setup_module(nn.Linear(4, 4, bias=False))
    with torch.no_grad():
        model.weight.copy_(torch.eye(4))
    loss = bound(class_weights="balanced")
    share = loss.share(fabric, targets[own], len(logits))
    fabric.backward(loss(model(logits[own]), targets[own]) / share)
    if fabric.is_global_zero:
        torch.save(model.weight.grad, folder / f"{fabric.world_size}.pt")
    if fabric.world_size > 1:
        fabric.barrier()
        torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_take_the_weighted_mean_of_the_whole_batch(tmp_path: Path) -> None:
    import functools

    for devices in (1, 2):
        strategy = "auto" if devices == 1 else "ddp_spawn"
        fabric = Fabric(accelerator="cpu", devices=devices, strategy=strategy)
        work = functools.partial(weighted_gradient, folder=tmp_path)
        if devices == 1:
            work(fabric)
        else:
            fabric.launch(work)
    logits, targets = batch()
    weight = torch.eye(4, requires_grad=True)
    oracle = torchs(logits @ weight.T, targets, bound(class_weights="balanced").weights)
    oracle.backward()
    for devices in (1, 2):
        torch.testing.assert_close(torch.load(tmp_path / f"{devices}.pt"), weight.grad)


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "focal", "class_weights": "effective", "mixup": 0.2},
        {"loss": "logit_adjusted", "cutmix": 1.0, "label_smoothing": 0.1},
    ],
)
def test_ours_train_with_mixed_targets(
    unequal: DataIndex, tmp_path: Path, settings: dict[str, Any]
) -> None:
    done = job(tmp_path / "run", unequal, **settings)
    fit(done, silent)
    (row,) = done.folder.read_history()
    assert math.isfinite(row["train_loss"])
    assert row["valid_loss"] > 0


def test_a_balanced_sampler_goes_on_in_mid_epoch_as_if_nothing_had_been(
    unequal: DataIndex, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"sampler": "balanced", "augmentation": "crop_flip"}
    whole = job(tmp_path / "whole", unequal, **settings)
    fit(whole, silent)
    cut = job(tmp_path / "cut", unequal, **settings)
    with pytest.raises(KeyboardInterrupt):
        fit(cut, silent, StopAfter(1))
    assert read_checkpoint(cut.folder.last)["epoch_under_way"][0] == 1
    fit(cut, silent)
    a, b = (read_checkpoint(one.folder.last)["model"] for one in (whole, cut))
    assert all(torch.equal(a[name], b[name]) for name in a)


# ---------------------------------------------------------------- a user's

CODE = """
import torch
import podium

@podium.register_loss("gentle")
def gentle(logits, targets, class_weights=None):
    return torch.nn.functional.cross_entropy(logits, targets, class_weights, reduction="sum") / 2

def by_priors(logits, targets, *, priors):
    return torch.nn.functional.cross_entropy(logits + priors.log(), targets, reduction="sum")

instance = torch.nn.CrossEntropyLoss(reduction="sum")
"""


def test_all_three_ways_into_a_study(
    unequal: DataIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    (site / "shop-1.0.dist-info").mkdir(parents=True)
    (site / "shop.py").write_text(CODE.replace('"gentle"', '"gentle_too"'))
    (site / "shop-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: shop\nVersion: 1.0\n"
    )
    (site / "shop-1.0.dist-info" / "entry_points.txt").write_text(
        "[podium.losses]\nprior = shop:by_priors\n"
    )
    monkeypatch.syspath_prepend(site)
    (tmp_path / "own_losses.py").write_text(CODE)
    allow("own_losses", tmp_path)
    same = {"model": "simple_resnet", "epochs": 1, "image_size": 32, "batch_size": 8}
    values = {
        "name": "s",
        "data": str(unequal.root),
        "contenders": {
            "decorated": {**same, "loss": "gentle", "class_weights": "balanced"},
            "offered": {**same, "loss": "prior"},
            "named": {**same, "loss": "own_losses:by_priors"},
            "adjusted": {**same, "loss": "logit_adjusted"},
            "instance": {**same, "loss": "own_losses:instance"},
            "plain": same,
        },
    }
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(values))
    study = podium.Study.load(file, runs=tmp_path / "runs", audit=False, device="cpu", workers=0)
    assert not study.run().failed
    best = {key: (study.folder.run(key, 0).best).read_bytes() for key in values["contenders"]}
    assert best["offered"] == best["named"] == best["adjusted"]
    assert best["instance"] == best["plain"]
    assert len(set(best.values())) == 3


@pytest.mark.parametrize(
    ("offered", "settings", "told"),
    [
        (lambda logits: logits, {}, r"expected a function \(logits, targets\).*got \(logits\)"),
        (lambda logits, targets, alpha: 0, {}, r"got \(logits, targets, alpha\)"),
        (nn.CrossEntropyLoss, {}, "got the class CrossEntropyLoss. Register an instance"),
        ("cross_entropy", {}, "got str"),
        (nn.Bilinear(2, 2, 2), {}, "only the model's are trained"),
        (lambda a, b: torchs(a, b), {}, "expected the sum over the images, got their mean"),
        (lambda a, b: torchs(a, b, reduction="none"), {}, r"got Tensor, shape \(6,\)"),
        (lambda a, b: 3.0, {}, "got float, not a tensor"),
        (lambda a, b: torch.tensor(3.0), {}, "does not depend on the logits"),
        (lambda a, b: a.sum() * math.inf, {}, "expected a finite sum"),
        (lambda a, b: a[b].sum(), {"mixup": 0.2}, "fails on mixed targets"),
        (lambda a, b: a.sum(), {"class_weights": "balanced"}, "does not accept class_weights"),
        (lambda a, b: a.sum(), {"label_smoothing": 0.1}, "does not accept label_smoothing"),
    ],
)
def test_what_is_no_loss_is_refused(offered: Any, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):  # noqa: PT012 - told at either of the two
        register_loss("mine")(offered)
        bound(loss="mine", **settings)


def test_a_users_gets_what_it_names() -> None:
    got: dict[str, Any] = {}

    @register_loss("mine")
    def mine(
        logits: torch.Tensor,
        targets: torch.Tensor,
        priors: torch.Tensor,
        class_weights: torch.Tensor | None = None,
        label_smoothing: float = 0.5,
        scale: float = 2.0,
    ) -> torch.Tensor:
        got.update(priors=priors, weights=class_weights, smoothing=label_smoothing, scale=scale)
        return torchs(logits, targets, reduction="sum")

    bound(loss="mine", class_weights="balanced")
    np.testing.assert_allclose(got["priors"], np.array(COUNTS) / sum(COUNTS), rtol=1e-6)
    np.testing.assert_allclose(got["weights"], class_weights(np.array(COUNTS), "balanced"))
    assert (got["smoothing"], got["scale"]) == (0.0, 2.0)


def test_the_report_says_the_loss() -> None:
    def said(lang: str = "en", **settings: Any) -> dict[str, str]:
        return dict(_fitting(recipe(**settings), labels(lang)))

    assert said(loss="focal", class_weights="balanced").items() >= {
        ("Loss", "focal (γ = 2)"),
        ("Class weights", "balanced"),
    }
    assert said(loss="logit_adjusted")["Loss"] == "logit-adjusted (τ = 1)"
    assert said(loss="own:mine")["Loss"] == "own:mine"
    assert said(class_weights={"b": 0.5, "a": 3})["Class weights"] == "a: 3, b: 0.5"
    many = said(class_weights={f"class {number}": number for number in range(1, 12)})
    assert many["Class weights"].startswith("class 11: 11, class 10: 10, ")
    assert many["Class weights"].endswith("class 4: 4, 3 others")
    assert said(sampler="balanced")["Images per epoch"] == "equally many of each class"
    found = said("pt", class_weights="effective", effective_beta=0.99)
    assert found["Pesos das classes"] == "número efetivo (β = 0,99)"
    assert not {"Loss", "Class weights"} & said().keys()
