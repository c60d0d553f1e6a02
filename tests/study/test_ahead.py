"""What cells share is computed before them by all nodes: what they look for, and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from podium.config.machine import Machine
from podium.config.registry import EXECUTORS
from podium.runtime.events import Event, silent
from podium.study.ahead import features_ahead
from podium.study.cells import Cell
from podium.study.engines.driver import ProcessExecutor
from podium.study.images import find_images
from podium.study.outcome import Outcome
from podium.study.study import Study
from podium.study.work import Work
from tests.parts import HereParts
from tests.study.test_study import write_study

pytestmark = pytest.mark.usefixtures("undrawn")


class Nodes(ProcessExecutor):
    """Stands in for a cluster whose nodes share this machine's cache."""

    def __init__(self) -> None:
        self.here = HereParts()

    def parts(self, machine: Machine) -> contextlib.AbstractContextManager[HereParts]:
        return contextlib.nullcontext(self.here)

    def map(self, cells: Sequence[Cell], work: Work) -> Iterator[Outcome]:
        self.before = len(self.here.items)
        for cell in cells:
            yield work.train(cell)


def test_cells_find_the_features_that_all_nodes_have_computed(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PODIUM_CACHE", str(tmp_path / "cache"))
    nodes, told = Nodes(), list[Event]()
    monkeypatch.setitem(EXECUTORS._found, "nodes", nodes)
    audited = list[object]()
    monkeypatch.setattr("podium.study.study.audit_study", lambda *given: audited.append(given[-1]))
    network = {"model": "efficientnet_lite0", "pretrained": True, "freeze": "backbone"}
    network |= {"image_size": 32, "epochs": 1}
    probe = {**network, "linear_probe": True}
    varied = {**network, "augmentation": "crop_flip"}  # has other features in each epoch
    path = write_study(tmp_path, pictures, contenders={"probe": probe, "varied": varied}, seeds=[0])
    study = Study.load(path, runs=tmp_path / "runs", executor="nodes", workers=0)
    index = find_images(study.spec.data, silent)
    features_ahead(study.spec.contenders, study.cells(), index, Machine(), nodes.here, told.append)
    assert len(nodes.here.items) == 3  # the precision, training and validation images
    assert not study.run(told.append, only=["probe"]).failed
    assert audited == [nodes.here]
    texts = [text for one in told if (text := getattr(one, "text", ""))]
    ahead = [text for text in texts if "all nodes" in text]
    assert ahead == ["probe: all nodes compute the features of 99 images"] * 2
    found = [text.rpartition("; ")[2] for text in texts if "frozen backbone's features" in text]
    assert found == ["from the cache"] * len(study.spec.seeds)
    assert len(nodes.here.items) == nodes.before == 4  # nothing but the precision, again
