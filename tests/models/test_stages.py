"""A classifier over all stages: torchvision's and timm's own taps are the oracle."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from podium.config.settings import RunSpec
from podium.data.index import DataIndex
from podium.data.indexing import build_index
from podium.errors import ConfigError, UserError
from podium.evaluation.trained import load_run, predict_split
from podium.models import build_model, check_weights
from podium.models.layers import layer_groups
from podium.models.stages import StageClassifier
from podium.runtime.events import silent
from podium.runtime.files import read_json
from podium.training.fit import fit
from tests.training.test_probe import PROBE
from tests.training.test_training import job


@pytest.fixture(scope="module")
def index(pictures: Path) -> DataIndex:
    return build_index(pictures)


def inputs_of(module: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """What the classifier is given."""
    seen: list[torch.Tensor] = []
    last = module.get_submodule("classifier")
    handle = last.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.inference_mode():
        module.eval()(images)
    handle.remove()
    return seen[0]


def test_resnet18_is_pooled_as_torchvision_taps_it() -> None:
    built = build_model("resnet18", 5, pooling="stages", seed=3)
    images = torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    names = [f"layer{number}" for number in (1, 2, 3, 4)]
    network = build_model("resnet18", 5, seed=3).module.eval()
    with torch.inference_mode():
        maps = create_feature_extractor(network, names)(images)
    means = [maps[name].mean((2, 3)) for name in names]
    expected = torch.cat([*means[:3], maps["layer4"].amax((2, 3)), means[3]], 1)
    torch.testing.assert_close(inputs_of(built.module, images), expected)
    assert expected.shape == (2, 64 + 128 + 256 + 512 + 512)


def test_efficientnet_is_pooled_as_hooks_see_it() -> None:
    built = build_model("efficientnet_lite0", 4, pretrained=True, pooling="stages")
    plain = build_model("efficientnet_lite0", 4, pretrained=True)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    seen: dict[str, torch.Tensor] = {}
    for name in ("blocks.0", "blocks.1", "blocks.2", "blocks.4", "blocks.6", "bn2"):
        plain.module.get_submodule(name).register_forward_hook(
            lambda _, __, out, name=name: seen.setdefault(name, out)
        )
    own = inputs_of(plain.module, images)
    last = seen.pop("bn2")
    expected = torch.cat([*(one.mean((2, 3)) for one in seen.values()), last.amax((2, 3)), own], 1)
    torch.testing.assert_close(inputs_of(built.module, images), expected)
    assert (built.mean, built.std, built.image_size) == (plain.mean, plain.std, 224)


@pytest.mark.parametrize(
    "name", ["convnext_atto", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "resnet10t"]
)
def test_networks_of_every_layout(name: str) -> None:
    built = build_model(name, 3, pooling="stages")
    size = built.image_size
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    given = inputs_of(built.module, images)
    network: Any = built.module.get_submodule("network")
    with torch.inference_mode():
        last, _ = network.forward_intermediates(images)
        own = network.forward_head(last, pre_logits=True)
    torch.testing.assert_close(given[:, -own.shape[1] :], own)
    # the maxima lie just before, whichever axis the network keeps its channels in
    channels = network.num_features
    peak = given[:, -own.shape[1] - channels : -own.shape[1]]
    axes = [axis for axis in range(1, last.ndim) if axis != list(last.shape).index(channels)]
    torch.testing.assert_close(peak, last.amax(axes))


def test_what_is_random_depends_on_the_seed_alone() -> None:
    first, again = (build_model("resnet18", 3, pooling="stages", seed=5).module for _ in "12")
    other = build_model("resnet18", 3, pooling="stages", seed=6).module
    a, b, c = (m.get_submodule("classifier").state_dict() for m in (first, again, other))
    assert torch.equal(a["weight"], b["weight"])
    assert not torch.equal(a["weight"], c["weight"])
    assert all(torch.equal(v, first.state_dict()[k]) for k, v in again.state_dict().items())


def test_it_can_be_copied_and_sent_to_another_process() -> None:
    module = build_model("efficientnet_lite0", 3, pooling="stages").module.eval()
    images = torch.rand(1, 3, 64, 64)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        with torch.inference_mode():
            assert torch.equal(twin(images), module(images))


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18"])
def test_rates_fall_through_the_network_below(name: str) -> None:
    plain, built = build_model(name, 3).module, build_model(name, 3, pooling="stages").module
    scales = []
    for module in (plain, built):
        groups = layer_groups(module, 0.5)
        by_id = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
        scales.append(
            {
                key.removeprefix("network."): by_id[id(p)]
                for key, p in module.named_parameters()
                if not key.startswith(("classifier.", "fc."))
            }
        )
    assert scales[0] == scales[1]
    assert max(scales[1].values()) == 0.5


def test_a_network_without_stages_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"pooling: stages needs .* simple_resnet does not"):
        check_weights("simple_resnet", pooling="stages")
    with pytest.raises(ConfigError, match="Leave pooling out"):
        StageClassifier(_Silent(), 3, 32)


class _Silent(nn.Module):
    fc = nn.Identity()

    def forward_intermediates(self, images: torch.Tensor, output_fmt: str) -> None:
        raise NotImplementedError("no maps")


STAGES: dict[str, Any] = {**PROBE, "pooling": "stages"}


def test_a_run_keeps_what_it_needs_to_be_used(index: DataIndex, tmp_path: Path) -> None:
    run = job(tmp_path / "run", index, **STAGES, freeze="backbone", epochs=1)
    fit(run, silent)
    assert read_json(run.folder.model)["pooling"] == "stages"
    model = load_run(run.folder)
    assert isinstance(model.module, StageClassifier)
    found = predict_split(model, index, "valid")
    row = run.folder.read_history()[0]
    assert row["valid_accuracy"] == np.mean(found.predicted == found.labels)
    loss = nn.functional.cross_entropy(torch.tensor(found.logits), torch.tensor(found.labels))
    assert row["valid_loss"] == pytest.approx(float(loss), rel=1e-3)


def test_all_layers_learn_from_the_probe_on(index: DataIndex, tmp_path: Path) -> None:
    run = job(tmp_path / "run", index, **STAGES, epochs=2, layer_decay=0.8, optimizer="adamw")
    fit(run, silent)
    before = build_model("efficientnet_lite0", 3, pretrained=True, pooling="stages").module
    after = torch.load(run.folder.last, weights_only=True)["model"]
    for name, parameter in before.named_parameters():
        assert not torch.equal(after[name], parameter), name


def test_its_network_can_start_another_run(index: DataIndex, tmp_path: Path) -> None:
    run = job(tmp_path / "run", index, **STAGES, freeze="backbone", epochs=1)
    fit(run, silent)
    taught = load_run(run.folder).module.get_submodule("network").state_dict()
    for pooling in ("own", "stages"):
        module = build_model(
            "efficientnet_lite0",
            7,
            weights=run.folder.best,
            pooling=pooling,
        ).module
        state = module.state_dict()
        prefix = "network." if pooling == "stages" else ""
        assert all(torch.equal(state[prefix + name], value) for name, value in taught.items())
    with pytest.raises(UserError, match="does not fit"):
        build_model("resnet18", 3, weights=run.folder.best)


def test_recipes_of_before_mean_what_they_meant() -> None:
    recipe = RunSpec(model="efficientnet_lite0", epochs=1)
    stored = recipe.model_dump(mode="json")
    del stored["pooling"]
    assert recipe.changes_from(stored) == []
