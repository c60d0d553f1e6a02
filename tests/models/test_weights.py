"""Where weights come from, what is refused early, and what frozen means inside a head."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from podium.data.images import load_rgb
from podium.data.transforms import eval_transform, prepare
from podium.errors import ConfigError, WeightsUnavailableError
from podium.models import (
    build_model,
    check_weights,
    freeze_backbone,
    list_models,
    ours,
    set_train_mode,
)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ResNet-18 file behind a file:// address, so that torch's own loader runs unpatched."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    plain = tmp_path / "plain.pth"
    torch.save(resnet18(weights=None).state_dict(), plain)
    digest = hashlib.sha256(plain.read_bytes()).hexdigest()
    path = plain.rename(tmp_path / f"resnet18-{digest[:8]}.pth")
    monkeypatch.setattr(ours, "resnet18_url", path.as_uri)
    return path


def availability() -> str:
    return {info.name: info.weights for info in list_models(3)}["resnet18"]


def test_a_download_is_checked_kept_and_used_again(
    published: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    expected = torch.load(published, weights_only=True)
    assert availability() == "download"
    first = build_model("resnet18", 4, pretrained=True).module.state_dict()
    assert availability() == "on this machine"
    published.unlink()  # from here on nothing can be downloaded
    again = build_model("resnet18", 4, pretrained=True).module.state_dict()
    for name, value in expected.items():
        if not name.startswith("fc."):
            assert torch.equal(first[name], value)
            assert torch.equal(again[name], value)
    assert first["fc.1.weight"].shape == (4, 512)
    assert capfd.readouterr() == ("", "")


def test_a_download_of_another_content_is_refused(published: Path) -> None:
    published.write_bytes(published.read_bytes()[:-1] + b"?")
    with pytest.raises(WeightsUnavailableError, match="hash"):
        build_model("resnet18", 4, pretrained=True)
    assert availability() == "download"  # nothing of it was kept


def test_a_failed_download_prints_nothing(
    published: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    published.unlink()
    with pytest.raises(WeightsUnavailableError, match=published.name):
        build_model("resnet18", 4, pretrained=True)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "pretrained", "expected"),
    [
        ("resnet50.zzz", True, "a1_in1k"),
        ("resnet50.zzz", False, "a1_in1k"),
        ("beit3_giant_patch14_224", True, "no weights are published"),
    ],
)
def test_timm_weights_that_do_not_exist_are_told_before_building(
    name: str, pretrained: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the model was built")

    monkeypatch.setattr("timm.create_model", refuse)
    with pytest.raises(ConfigError, match=expected):
        check_weights(name, pretrained=pretrained)


def test_every_tag_of_timm_is_taken() -> None:
    assert build_model("test_vit.r160_in1k", 3).image_size == 160
    assert build_model("coatnet_pico_rw_224.untrained", 3).pretrained_source is None


def test_the_list_says_what_the_hub_has_left_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert [info.weights for info in list_models(timm="resnet10t")] == ["download"]
    folder = tmp_path / "models--timm--resnet10t.c3_in1k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "snapshots" / "abc" / "model.safetensors").write_bytes(b"")
    assert [info.weights for info in list_models(timm="resnet10t")] == ["on this machine"]
    assert [info.weights for info in list_models(timm="coatnet_0_224")] == ["none"]


def test_a_size_that_the_model_does_not_take_is_told() -> None:
    with pytest.raises(ConfigError, match=r"image_size: vit_tiny.* does not accept 128.*224"):
        check_weights("vit_tiny_patch16_224", image_size=128)
    check_weights("vit_tiny_patch16_224", image_size=224)
    check_weights("simple_resnet", image_size=32)


@pytest.mark.parametrize("name", ["shvit_s1", "efficientvit_b0", "efficientvit_m0"])
def test_batch_norm_inside_a_frozen_head_stays_fixed(name: str) -> None:
    """In these the classifier is nested, with a batch norm beside it."""
    built = build_model(name, 3)
    assert "." in built.classifier
    frozen = freeze_backbone(built)
    before = {key: value.clone() for key, value in built.module.state_dict().items()}
    set_train_mode(built.module, frozen)
    optimizer = torch.optim.SGD([p for p in built.module.parameters() if p.requires_grad], lr=1)
    built.module(torch.rand(2, 3, built.image_size, built.image_size)).square().sum().backward()
    optimizer.step()
    changed = {key for key, value in built.module.state_dict().items()
               if not torch.equal(before[key], value)}  # fmt: skip
    assert changed == {f"{built.classifier}.weight", f"{built.classifier}.bias"}


def test_the_head_of_our_own_networks_keeps_its_dropout() -> None:
    built = build_model("simple_resnet", 3)
    set_train_mode(built.module, freeze_backbone(built))
    training = {type(m) for m in built.module.modules() if m.training and m is not built.module}
    assert nn.Dropout in training
    assert nn.BatchNorm2d not in training


IMAGENET_CLASS = {"archery": 456, "basketball": 430, "football": 560, "hockey": 746, "tennis": 752}


@pytest.mark.parametrize("number", [0, 1, 2])
def test_efficientnet_lite_sees_what_imagenet_calls_these(sports10: Path, number: int) -> None:
    """Bow, basketball, football helmet, puck, racket: the weights' padding and scale are right.

    The same tensors with symmetric padding still run, and are visibly less sure.
    """
    import timm

    built = build_model(f"efficientnet_lite{number}", 1000, pretrained=True)
    module: Any = built.module.eval()
    symmetric: Any = timm.create_model(f"efficientnet_lite{number}").eval()
    symmetric.load_state_dict(module.state_dict())
    right, sure, less_sure = [], [], []
    for name, number in IMAGENET_CLASS.items():
        paths = sorted((sports10 / "train" / name).iterdir())[:10]
        images = torch.stack([eval_transform(built.image_size)(load_rgb(path)) for path in paths])
        with torch.inference_mode():
            inputs = prepare(images, built.mean, built.std)
            ours = module(inputs).softmax(1)
            right.append((ours.argmax(1) == number).float().mean().item())
            sure.append(ours[:, number].mean().item())
            less_sure.append(symmetric(inputs).softmax(1)[:, number].mean().item())
    assert min(right) > 0.55, dict(zip(IMAGENET_CLASS, right, strict=True))
    assert sum(right) > 3.7
    assert sum(sure) > sum(less_sure) + 0.3
