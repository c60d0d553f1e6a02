"""The display of a study whose cells train side by side."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console

from podium.cli.progress import MANY, StudyProgress
from podium.runtime.events import (
    BatchDone,
    EpochDone,
    EpochStarted,
    Message,
    RunDone,
    RunStarted,
    StudyStarted,
    WarningMessage,
)

ROW = {
    "epoch": 1.0, "lr": 1e-3, "train_loss": 1.0, "train_accuracy": 0.5, "valid_loss": 1.0,
    "valid_accuracy": 0.25, "seconds": 1.0, "images_per_second": 9.0,
}  # fmt: skip
SCORES = {"valid_accuracy": 0.5, "test_accuracy": 0.4}

Shown = Callable[[], str]


@pytest.fixture
def display() -> Iterator[tuple[StudyProgress, Shown]]:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, color_system=None, width=90, height=20)
    with StudyProgress(console) as progress:
        yield progress, text.getvalue


def begin(progress: StudyProgress, count: int) -> None:
    progress.notify(StudyStarted(count, 10 * count))
    for seed in range(count):
        who = {"contender": "fast", "seed": seed}
        progress.notify(RunStarted(f"Fast, seed {seed}", 2, 10, **who))  # type: ignore[arg-type]
        progress.notify(EpochStarted(1, 0, 9, **who))  # type: ignore[arg-type]
        progress.notify(BatchDone(1, 9, 9, 0.5, **who))  # type: ignore[arg-type]


def test_a_few_runs_side_by_side_are_shown_in_full(
    display: tuple[StudyProgress, Shown],
) -> None:
    progress, shown = display
    begin(progress, 2)
    progress.notify(EpochDone(2, ROW, contender="fast", seed=1))
    for seed in (1, 0):
        progress.notify(RunDone(f"Fast, seed {seed}", SCORES, contender="fast", seed=seed))
    assert "Fast, seed 1: epoch 1/2" in shown()
    assert "Fast, seed 1: Epoch 1" in shown()
    assert "Fast, seed 0: best epoch" in shown()  # though no other is left by then


def test_of_many_runs_there_is_a_line_for_each_and_bars_for_some(
    display: tuple[StudyProgress, Shown],
) -> None:
    progress, shown = display
    count = 50
    begin(progress, count)
    assert count > len(progress.tasks) > MANY
    assert len(progress.tasks) <= progress.console.height - 4
    for seed in range(count - MANY):
        progress.notify(Message("cpu, fp32", contender="fast", seed=seed))
        progress.notify(EpochDone(2, ROW, contender="fast", seed=seed))
        progress.notify(RunDone(f"Fast, seed {seed}", SCORES, contender="fast", seed=seed))
    progress.notify(WarningMessage("fast/seed-9: its process was lost"))
    assert shown().count("best epoch") == count - MANY
    assert "epoch 1/2" not in shown()
    assert "cpu, fp32" not in shown()
    assert "its process was lost" in shown()  # what goes wrong is always told


def test_the_study_is_complete_when_its_runs_are(display: tuple[StudyProgress, Shown]) -> None:
    progress, _ = display
    begin(progress, 9)
    for seed in range(9):
        progress.notify(RunDone(f"Fast, seed {seed}", SCORES, contender="fast", seed=seed))
    (study,) = progress.bars.tasks
    assert study.completed == study.total == 100


def test_a_run_that_is_begun_again_counts_once(display: tuple[StudyProgress, Shown]) -> None:
    progress, shown = display
    begin(progress, 2)
    progress.notify(RunStarted("Fast, seed 0", 2, 10, contender="fast", seed=0))
    progress.notify(RunStarted("Fast, seed 2", 2, 10, contender="fast", seed=2))
    assert shown().count("Fast, seed 0  1 of 2") == 1
    assert "Fast, seed 2  3 of 2" in shown()  # one more than was announced, and not two
