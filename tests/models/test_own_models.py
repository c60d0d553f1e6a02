"""Models of the user's: three ways in, what they build, and what is refused in words."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

import podium
from podium.config.registry import MODELS, allow
from podium.config.settings import RunSpec
from podium.config.titles import model_title
from podium.errors import ConfigError
from podium.models import build_model, check_weights, freeze_backbone, list_models
from podium.models.layers import layer_groups
from podium.models.ours import OURS
from podium.runtime.random import seeded
from tests.users_code import NETWORKS, PARTS, forgotten, install, write_networks


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    with forgotten(tmp_path, MODELS):
        yield write_networks(tmp_path / "mine")


def test_the_table_holds_the_names_that_settings_know() -> None:
    assert tuple(OURS) == MODELS.built_in
    assert all(MODELS[name] is spec for name, spec in OURS.items())
    assert model_title("resnet18") == "ResNet-18"
    assert model_title("resnet50") == "resnet50"  # timm's
    assert MODELS.provenance("resnet18") is None
    assert MODELS.provenance("resnet50") is None


def test_titles_need_no_torch() -> None:
    """`tests/test_house.py` asks it of rooms; this module is the one that they read."""
    import subprocess

    code = (
        "import sys, podium.config.titles as o; assert o.model_title('simple_resnet')"
        " == 'SimpleResNet'; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_file_of_the_users_builds_what_python_builds(folder: Path) -> None:
    allow("my_networks", folder)
    built = build_model("my_networks:tiny", 3, seed=5)
    with seeded(5):
        oracle = sys.modules["my_networks"].tiny(3)
    assert built.module.state_dict().keys() == oracle.state_dict().keys()
    for name, value in oracle.state_dict().items():
        assert torch.equal(built.module.state_dict()[name], value), name
    assert (built.name, built.image_size, built.classifier) == ("my_networks:tiny", 224, "head")
    assert (built.mean, built.pretrained_source) == (None, None)
    frozen = freeze_backbone(built)
    assert {n for n, p in built.module.named_parameters() if p.requires_grad} == {
        "head.weight",
        "head.bias",
    }
    assert set(frozen) == {"body", "drop"}
    assert build_model("my_networks:Tiny", 3).classifier == "head"  # the class itself


def test_a_spec_brings_size_weights_and_what_they_expect(folder: Path) -> None:
    allow("my_networks", folder)
    built = build_model("my_networks:SPEC", 3, pretrained=True, seed=1)
    with seeded(1):
        sys.modules["my_networks"].tiny(3)
        fetched = sys.modules["my_networks"].Tiny(7).state_dict()
    assert torch.equal(built.module.get_parameter("body.0.weight"), fetched["body.0.weight"])
    assert built.module.get_parameter("head.weight").shape == (3, 16)  # 7 classes do not fit
    assert (built.image_size, built.mean, built.std) == (32, (0.5,) * 3, (0.25,) * 3)
    assert built.pretrained_source == "my own weights"
    with pytest.raises(ConfigError, match="there is no `fetch` for my_networks:tiny"):
        build_model("my_networks:tiny", 3, pretrained=True)


def test_a_decorator_gives_a_name(folder: Path) -> None:
    assert "registered_tiny" not in MODELS
    allow("my_networks", folder)
    assert build_model("registered_tiny", 2).image_size == 32
    assert MODELS["my_networks:registered"] is MODELS["registered_tiny"]
    with pytest.raises(ConfigError, match="one of Podium's"):
        podium.register_model("resnet18")(lambda n: nn.Linear(n, n))
    with pytest.raises(ConfigError, match="colour"):
        podium.register_model("pale", colour="red")(lambda n: nn.Linear(n, n))
    listed = {info.name: info for info in list_models(10)}
    assert list(OURS) == list(listed)[: len(OURS)]
    # convolutions, batch norms, the linear layer
    counted = (3 * 8 * 9 + 8) + 2 * 8 + (8 * 16 * 9 + 16) + 2 * 16 + (16 * 10 + 10)
    assert listed["registered_tiny"].parameters == counted
    assert listed["registered_tiny"].image_size == 32


def test_an_installed_package_offers_a_name(tmp_path: Path, folder: Path) -> None:
    site = install(
        tmp_path / "site", "nets_of_a_package", NETWORKS.replace("from parts", "from .parts"),
        "podium.models", packed_tiny="SPEC", broken="nothing",
    )  # fmt: skip
    (site / "nets_of_a_package.py").write_text(NETWORKS.replace("from parts", "from parts_too"))
    (site / "parts_too.py").write_text(PARTS)
    sys.path.insert(0, str(site))
    assert build_model("packed_tiny", 4).image_size == 32
    told = MODELS.provenance("packed_tiny")
    assert told is not None
    assert told.startswith("nets_of_a_package:SPEC sha256:")
    # a neighbour among installed packages is another package's: torch would be one, too
    (site / "parts_too.py").write_text(PARTS + "changed = 1\n")
    assert MODELS.provenance("packed_tiny") == told
    (site / "nets_of_a_package.py").write_text(NETWORKS + "changed = 1\n")
    assert MODELS.provenance("packed_tiny") != told
    listed = {info.name: info for info in list_models(10)}
    assert "cannot be loaded" in listed["broken"].description


def test_code_is_told_apart_by_the_file_of_a_spec_and_what_it_imports(folder: Path) -> None:
    allow("my_networks", folder)
    told = MODELS.provenance("my_networks:SPEC")
    assert told is not None
    assert told.startswith("my_networks:SPEC sha256:")
    assert told.rpartition(":")[2] == str(MODELS.provenance("registered_tiny")).rpartition(":")[2]
    (folder / "parts.py").write_text(PARTS + "changed = 1\n")
    with pytest.raises(ConfigError, match="my_networks changed after it was imported"):
        MODELS.provenance("my_networks:SPEC")


def test_two_files_of_one_name_are_not_mistaken(tmp_path: Path, folder: Path) -> None:
    allow("my_networks", folder)
    allow("my_networks", folder)
    other = write_networks(tmp_path / "other")
    with pytest.raises(ConfigError, match="Python has already imported another my_networks"):
        allow("my_networks", other)
    (other / "calendar.py").write_text("")
    with pytest.raises(ConfigError, match="Python has already imported another calendar"):
        allow("calendar", other)
    with pytest.raises(ConfigError, match=r"expected the name of a module, my_networks, without"):
        allow("my_networks.py", folder)


def module_of(forward: Callable[[Any, torch.Tensor], Any]) -> Any:
    class Own(nn.Module):
        def __init__(self, num_classes: int) -> None:
            super().__init__()
            self.pool = nn.AdaptiveAvgPool2d(2)
            self.head = nn.Linear(12, num_classes)

        def forward(self, x: torch.Tensor) -> Any:
            return forward(self, self.pool(x).flatten(1))

    return Own


class Stateful(nn.Linear):
    def get_extra_state(self) -> Any:
        return "a text"

    def set_extra_state(self, state: Any) -> None: ...


WRONG: dict[str, tuple[Any, str]] = {
    "no parameter": (lambda: nn.Linear(1, 1), r"has the parameters \(\); expected a function"),
    "two parameters": (lambda a, b: nn.Linear(a, b), r"has the parameters \(a, b\)"),
    "built already": (nn.Linear(3, 2), "is a Linear that is already built"),
    "a text": ("resnet18", "is 'resnet18'; expected a function"),
    "fails": (lambda n: 1 / 0, r"cannot be built for 2 classes \(ZeroDivisionError"),
    "no module": (lambda n: n, "expected its function to return a torch.nn.Module.*got int"),
    "no linear": (lambda n: nn.Conv2d(3, n, 1), r"has no torch\.nn\.Linear inside"),
    "is a linear": (lambda n: nn.Linear(3, n), r"has no torch\.nn\.Linear inside"),
    "shape": (module_of(lambda own, x: own.head(x)[:, :1]), r"got shape \(1, 1\)"),
    "other size": (lambda n: nn.Sequential(nn.Flatten(), nn.Linear(3 * 28 * 28, n)),
                   r"a batch of shape \(1, 3, 32, 32\) in evaluation mode.*got RuntimeError"),
    "a tuple": (module_of(lambda own, x: (own.head(x), x)), "got a tuple"),
    "in training": (module_of(lambda own, x: (own.head(x), x) if own.training else own.head(x)),
                    r"\(2, 3, 32, 32\) in training mode: expected .* got a tuple"),
    "not finite": (module_of(lambda own, x: own.head(x) / 0), "got .*(inf|nan)"),
    "softmax": (module_of(lambda own, x: own.head(x).softmax(1)), "look like probabilities"),
    "extra state": (lambda n: nn.Sequential(nn.Flatten(), Stateful(3 * 32 * 32, n)),
                    "is not a tensor; expected only tensors"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_model_is_told_before_anything_trains(
    case: str, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    offered, told = WRONG[case]
    allow("my_networks", folder)
    monkeypatch.setattr(sys.modules["my_networks"], "wrong", offered, raising=False)
    with pytest.raises(ConfigError, match=told) as caught:
        check_weights("my_networks:wrong", image_size=32)
    assert "my_networks:wrong" in str(caught.value)


def test_what_is_a_model_passes(folder: Path) -> None:
    allow("my_networks", folder)
    for name in ("my_networks:tiny", "my_networks:SPEC", "registered_tiny"):
        check_weights(name, image_size=32)
    check_weights("my_networks:SPEC", pretrained=True)


def test_a_classifier_that_is_not_there_is_told() -> None:
    def small(num_classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(3 * 32 * 32, num_classes))

    for part, told in (("head", "has no part 'head'.*Its parts: 0, 1, 2"), ("1", "no parameters")):
        podium.register_model("small", image_size=32, classifier=part)(small)
        with pytest.raises(ConfigError, match=told):
            check_weights("small")
    podium.register_model("small", image_size=32, classifier="2")(small)
    check_weights("small")
    for about, told in ({"image_size": 0}, "1 to 4096, got 0"), ({"build": 3}, "expected a func"):
        with pytest.raises(ConfigError, match=told):
            podium.ModelSpec(**{"name": "small", "build": small, **about})  # type: ignore[arg-type]


def test_stages_of_a_users_network(folder: Path) -> None:
    allow("my_networks", folder)
    with pytest.raises(ConfigError, match="my_networks:tiny does not"):
        check_weights("my_networks:tiny", pooling="stages")
    podium.register_model("wrapped", image_size=64)(lambda n: resnet18(num_classes=n))
    check_weights("wrapped", pooling="stages")
    built = build_model("wrapped", 5, pooling="stages")
    assert built.classifier == "classifier"
    assert built.module(torch.rand(2, 3, 64, 64)).shape == (2, 5)


def test_layer_decay_of_a_users_network_goes_by_its_parts(folder: Path) -> None:
    allow("my_networks", folder)
    module = build_model("my_networks:tiny", 3).module
    rates = {
        id(p): group["lr_scale"] for group in layer_groups(module, 0.5) for p in group["params"]
    }
    assert rates[id(module.get_parameter("head.weight"))] == 1
    assert rates[id(module.get_parameter("body.0.weight"))] == 0.5

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

    with pytest.raises(ConfigError, match="at least 2 parts, and Wrapped has 1"):
        layer_groups(Wrapped(), 0.5)


def test_names_that_are_none(folder: Path) -> None:
    with pytest.raises(ConfigError, match="is not a module:name"):
        build_model("my-networks:tiny", 3)
    with pytest.raises(ConfigError, match="--import my_networks"):
        build_model("my_networks:tiny", 3)
    assert "my_networks" not in sys.modules
    assert RunSpec(model="my_networks:tiny", epochs=1).model == "my_networks:tiny"
