"""Models that differ in their last part alone: scored together, to the same bits as alone."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from podium.evaluation.alike import together
from podium.evaluation.inference import score
from podium.evaluation.trained import TrainedModel


class Net(nn.Module):
    """Counts how often its backbone runs; may do something after its classifier."""

    def __init__(self, *, warmer: bool = False) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1)
        )
        self.classifier = nn.Linear(8, 4)
        self.warmer, self.runs = warmer, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.runs += 1
        logits: torch.Tensor = self.classifier(self.backbone(images).flatten(1))
        return 2 * logits if self.warmer else logits


def trained(module: nn.Module, *, flip: bool = False) -> TrainedModel:
    return TrainedModel(module.eval(), ("a", "b", "c", "d"), 16, None, flip_test=flip)


def probe_of(net: Net) -> Net:
    other = copy.deepcopy(net)
    nn.init.normal_(other.classifier.weight)
    return other


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("warmer", [False, True])
def test_probes_of_one_network_run_it_once(flip: bool, warmer: bool) -> None:
    torch.manual_seed(0)
    net = Net(warmer=warmer)
    nets = [net, probe_of(net), copy.deepcopy(net)]
    (group,) = together(trained(one, flip=flip) for one in nets)
    for one in nets:
        one.runs = 0
    with torch.inference_mode():
        for _ in range(3):
            images = torch.rand(5, 3, 16, 16)
            found = [*group.scores(images)]
            counted = [one.runs for one in nets]
            for one, logits in zip(nets, found, strict=True):
                assert torch.equal(logits, score(one, images, flip=flip))
            for one, runs in zip(nets, counted, strict=True):
                one.runs = runs
    once = 1 + flip
    # the others run whole on the first batch, and on all where the classifier is not the end
    assert [one.runs for one in nets] == [3 * once, *[3 * once if warmer else once] * 2]


def test_others_are_alone() -> None:
    torch.manual_seed(0)
    net = Net()
    tuned = probe_of(net)
    nn.init.normal_(tuned.backbone.get_parameter("0.weight"))
    larger = replace(trained(probe_of(net)), image_size=32)
    models = [trained(net), trained(tuned), larger, trained(probe_of(net), flip=True)]
    assert [len(one.models) for one in together(models)] == [1, 1, 1, 1]
    with torch.inference_mode():
        images = torch.rand(2, 3, 16, 16)
        (logits,) = together(models)[1].scores(images)
        assert torch.equal(logits, score(tuned, images))
