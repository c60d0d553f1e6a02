"""Ensembles of different networks: the mean that one computes by hand, and descriptions of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import interpolate

from podium.data.images import squeeze
from podium.errors import RunFolderError
from podium.evaluation.description import ModelDescription, rebuild
from podium.evaluation.ensemble import Ensemble, Prepared
from podium.models import build_model

PART: dict[str, Any] = {"model": "simple_resnet", "image_size": 32, "mean": None, "std": None}
MEAN: dict[str, Any] = {
    **{"model": "mean of a, b", "trained_by": "mean", "members": 2, "image_size": 48},
    **{"mean": None, "std": None, "class_names": ["x", "y"]},
    "parts": [PART, {**PART, "model": "resnet18", "image_size": 48, "flip_test": True}],
}


def network(name: str, seed: int) -> nn.Module:
    return build_model(name, 3, seed=seed).module.eval()


def test_it_is_the_mean_of_the_softmaxes_of_what_each_member_sees() -> None:
    norms = ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    a, b = network("simple_resnet", 1), network("resnet18", 2)
    ensemble = Ensemble([Prepared(a, 48, None), Prepared(b, 48, norms)], [0.5, 2.0], [True, False])
    images = torch.rand(4, 3, 48, 48)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in norms)
    with torch.inference_mode():
        found = torch.softmax(ensemble.eval()(images), 1)
        first = (a(images) + a(images.flip(3))) / 2
        second = b((images - mean) / std)
    expected = (torch.softmax(first / 0.5, 1) + torch.softmax(second / 2, 1)) / 2
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    assert {name.partition(".")[2][2:9] for name in ensemble.state_dict()} == {"", "network"}


@pytest.mark.parametrize(("large", "small"), [(260, 240), (260, 224), (240, 224)])
def test_a_second_resize_is_nearest_to_the_first_with_bicubic(
    sports10: Path, large: int, small: int
) -> None:
    """What a member sees within a mean, against what Pillow makes of the file at its own size."""
    cubic, linear = [], []
    for path in sorted(sports10.rglob("*.jpg"))[::12]:
        picture = Image.open(path).convert("RGB")
        wanted = torch.tensor(np.asarray(squeeze(picture, small)).copy()).permute(2, 0, 1)[None]
        given = torch.tensor(np.asarray(squeeze(picture, large)).copy()).permute(2, 0, 1)[None]
        seen = Prepared(nn.Identity(), small, None)(given / 255)
        assert seen.shape[-1] == small
        blurred = interpolate(given / 255, (small, small), mode="bilinear", antialias=True)
        for errors, pixels in ((cubic, seen), (linear, blurred)):
            errors.append(float((255 * pixels - wanted).abs().mean()))
    assert np.mean(cubic) < np.mean(linear)
    assert np.mean(cubic) < 2  # of 255


def test_a_description_is_rebuilt_with_its_weights(tmp_path: Path) -> None:
    described = ModelDescription.model_validate(MEAN)
    parts = [build_model(one.model, 2, seed=3).module for one in described.parts]
    prepared = [Prepared(one, size, None) for one, size in zip(parts, (32, 48), strict=True)]
    ensemble = Ensemble(prepared, [0.7, 1.3], [False, True]).eval()
    save_file(ensemble.state_dict(), tmp_path / "weights")
    again = rebuild(described, tmp_path / "weights")
    images = torch.rand(2, 3, 48, 48)
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
        ({"image_size": 64}, "image_size of the largest part"),
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
