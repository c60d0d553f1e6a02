"""Shortcut models see what they are meant to see, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from podium.config.settings import RunSpec
from podium.config.shortcuts import SHORTCUT_MODELS, shortcut_contenders
from podium.config.studyfile import load_study
from podium.data.file_cards import SIDE
from podium.errors import ConfigError
from podium.models import build_model
from podium.models.shortcuts import CARD

IMAGES = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def logits(name: str, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = build_model(name, 5).module.eval()(images)
        return found


@pytest.mark.parametrize("name", SHORTCUT_MODELS)
@pytest.mark.parametrize("size", [32, 64])
def test_logits_of_any_size(name: str, size: int) -> None:
    assert logits(name, IMAGES[:, :, :size, :size]).shape == (4, 5)


def test_colour_sees_no_place() -> None:
    moved = IMAGES.flatten(2)[:, :, torch.randperm(64 * 64)].reshape(IMAGES.shape)
    assert torch.allclose(logits("shortcut_colour", moved), logits("shortcut_colour", IMAGES),
                          atol=1e-5)  # fmt: skip
    assert not torch.allclose(logits("shortcut_colour", IMAGES / 2),
                              logits("shortcut_colour", IMAGES))  # fmt: skip


def test_border_sees_an_eighth_at_each_side() -> None:
    inner = IMAGES.clone()
    inner[:, :, 8:-8, 8:-8] = 0
    assert torch.allclose(logits("shortcut_border", inner), logits("shortcut_border", IMAGES))
    outer = IMAGES.clone()
    outer[:, :, :, 7] = 0
    assert not torch.allclose(logits("shortcut_border", outer), logits("shortcut_border", IMAGES))


def test_thumbnail_sees_means_of_an_eighth() -> None:
    coarse = torch.nn.functional.interpolate(
        torch.nn.functional.avg_pool2d(IMAGES, 8), scale_factor=8, mode="nearest"
    )
    assert torch.allclose(logits("shortcut_thumbnail", coarse),
                          logits("shortcut_thumbnail", IMAGES), atol=1e-5)  # fmt: skip


def test_random_combinations_depend_on_the_seed_alone() -> None:
    one, again, other = (
        build_model("shortcut_colour", 5, seed=seed).module.state_dict()["combine.random.weight"]
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_a_card_is_seen_whole() -> None:
    assert build_model("shortcut_file", 3).image_size == CARD == SIDE


def test_any_number_of_channels_but_for_files() -> None:
    built = build_model("shortcut_border", 3, channels=13)
    assert built.module(torch.rand(2, 13, 16, 16)).shape == (2, 3)
    with pytest.raises(ConfigError, match="shortcut_file takes 3 channels"):
        build_model("shortcut_file", 3, channels=13)


def test_their_features_need_no_weights_to_be_probed() -> None:
    recipe = RunSpec(model="shortcut_border", freeze="backbone", linear_probe=True, epochs=1)
    assert recipe.is_probe_alone
    with pytest.raises(ValueError, match="not random"):
        RunSpec(model="simple_resnet", freeze="backbone", linear_probe=True, epochs=1)


def test_a_study_adds_them_by_one_setting() -> None:
    values = {
        "name": "leaks",
        "data": "images",
        "shortcuts": True,
        "contenders": {"net": {"model": "simple_resnet", "epochs": 1}},
    }
    spec = load_study(values, overrides=["contenders.*.epochs=3"])
    assert [*spec.contenders] == ["net", *shortcut_contenders()]
    assert spec.contenders["net"].epochs == 3
    assert spec.label("shortcut-file") == "File metadata only"
    assert load_study({**values, "shortcuts": False}).contenders.keys() == {"net"}


def test_a_stored_study_has_them_once(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(
        "name: leaks\ndata: images\nshortcuts: true\n"
        "contenders: {net: {model: simple_resnet, epochs: 1}}\n"
    )
    spec = load_study(path)
    assert len(spec.contenders) == 5
    path.write_text(spec.to_yaml())
    assert load_study(path, stored=True) == spec
    path.write_text(path.read_text().replace("shortcuts: true", "shortcuts: perhaps"))
    with pytest.raises(ConfigError, match="shortcuts: expected true or false"):
        load_study(path)
