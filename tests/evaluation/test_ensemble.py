"""Ensembles of different networks: the mean that one computes by hand, and descriptions of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import nn

from podium.data.images import squeeze
from podium.data.indexing import build_index
from podium.errors import RunFolderError
from podium.evaluation.description import ModelDescription, rebuild
from podium.evaluation.ensemble import Ensemble, Prepared
from podium.evaluation.mean import common_size
from podium.models import build_model
from tests.conftest import write_pictures

PART: dict[str, Any] = {"model": "simple_resnet", "image_size": 32, "mean": None, "std": None}
MEAN: dict[str, Any] = {
    "model": "mean of a, b",
    "trained_by": "mean",
    "members": 2,
    "parts": [PART, {**PART, "model": "resnet18", "image_size": 48, "flip_test": True}],
    "image_size": 40,
    "mean": None,
    "std": None,
    "class_names": ["x", "y"],
}


def network(name: str, seed: int) -> nn.Module:
    return build_model(name, 3, seed=seed).module.eval()


def test_it_is_the_mean_of_the_softmaxes_of_what_each_member_sees() -> None:
    norms = ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    a, b = network("simple_resnet", 1), network("resnet18", 2)
    prepared = [Prepared(a, 48, 48, None), Prepared(b, 48, 48, norms)]
    ensemble = Ensemble(prepared, [0.5, 2.0], [True, False])
    images = torch.rand(4, 3, 48, 48)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in norms)
    with torch.inference_mode():
        found = torch.softmax(ensemble.eval()(images), 1)
        first = (a(images) + a(images.flip(3))) / 2
        second = b((images - mean) / std)
    expected = (torch.softmax(first / 0.5, 1) + torch.softmax(second / 2, 1)) / 2
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    assert {name.partition(".")[2][2:9] for name in ensemble.state_dict()} == {"", "network"}


def test_files_of_one_size_come_at_it_and_nothing_is_lost(sports10: Path) -> None:
    index = build_index(sports10)
    assert common_size(index, [260, 224, 240]) == 224
    for path in index.splits["train"].paths[::60]:
        picture = index.load(path)
        given = torch.tensor(np.array(squeeze(picture, 224))).permute(2, 0, 1)[None].float()
        for side in (224, 240, 260):
            wanted = torch.tensor(np.array(squeeze(picture, side))).permute(2, 0, 1)[None]
            seen = Prepared(nn.Identity(), 224, side, None)(given)
            assert float((seen - wanted).abs().max()) < 1.01  # Pillow rounds, twice


@pytest.mark.parametrize(("side", "expected"), [(40, 40), (28, 32), (400, 96)])
def test_the_common_size_is_the_one_that_changes_pixels_least(
    tmp_path: Path, side: int, expected: int
) -> None:
    index = build_index(write_pictures(tmp_path, {"train": 4, "valid": 2, "test": 2}, side=side))
    sizes = [32, 48, 32]
    pictures = [index.load(path) for path in index.splits["train"].paths]

    def error(candidate: int) -> float:
        """Pillow alone, resizing twice."""
        twice = [squeeze(squeeze(one, candidate), size) for size in sizes for one in pictures]
        once = [squeeze(one, size) for size in sizes for one in pictures]
        pairs = zip(twice, once, strict=True)
        apart = [np.asarray(a, np.float64) - np.asarray(b, np.float64) for a, b in pairs]
        return float(np.mean([np.square(one).mean() for one in apart]))

    assert common_size(index, sizes) == expected
    assert min((32, 48, 96, min(96, max(32, side))), key=error) == expected
    assert common_size(index, [64, 64]) == 64


def test_a_description_is_rebuilt_with_its_weights(tmp_path: Path) -> None:
    described = ModelDescription.model_validate(MEAN)
    parts = [build_model(one.model, 2, seed=3).module for one in described.parts]
    prepared = [Prepared(one, 40, size, None) for one, size in zip(parts, (32, 48), strict=True)]
    ensemble = Ensemble(prepared, [0.7, 1.3], [False, True]).eval()
    save_file(ensemble.state_dict(), tmp_path / "weights")
    again = rebuild(described, tmp_path / "weights")
    images = torch.rand(2, 3, 40, 40)
    with torch.inference_mode():
        assert torch.equal(again(images), ensemble(images))
    other = described.model_copy(update={"class_names": ["x", "y", "z"]})
    with pytest.raises(RunFolderError, match="does not hold the weights"):
        rebuild(other, tmp_path / "weights")
    many = {**MEAN, "members": 400, "parts": [{**one, "members": 200} for one in MEAN["parts"]]}
    with pytest.raises(RunFolderError, match="does not hold an ensemble of 400 models"):
        rebuild(ModelDescription.model_validate(many), tmp_path / "weights")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"parts": [PART]}, "two or more parts"),
        ({"parts": []}, "two or more parts"),
        ({"parts": [PART, {**PART, "image_size": 48, "members": 2}], "members": 3}, "equally many"),
        ({"members": 3}, "as many members as"),
        ({"flip_test": True}, "its parts, and not the mean"),
        ({"mean": [0.5] * 3, "std": [0.5] * 3}, "its parts, and not the mean"),
        ({"trained_by": "ensemble"}, "parts are those of a mean"),
        ({"parts": [{**PART, "mean": [0.5], "std": [0.5]}, PART]}, "expected 3 values of mean"),
        ({"parts": [{**PART, "model": ""}, PART]}, "at least 1 character"),
        ({"parts": [PART] * 65, "members": 65, "image_size": 32}, "at most 64"),
        ({"parts": ["resnet18", PART]}, "Part"),
        ({"parts": [{**PART, "image_size": 10**9}, PART]}, "less than or equal to 4096"),
    ],
)
def test_other_descriptions_of_means_are_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ModelDescription.model_validate({**MEAN, **changed})
