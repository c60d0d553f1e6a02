"""Numbered attempts, fenced folders, events in files, cores that are granted."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from podium.errors import RunFolderError
from podium.runtime import attempt as attempts
from podium.runtime.attempt import Attempt, StaleAttemptError, ask_to_stop, begin
from podium.runtime.event_log import EventReader, EventWriter
from podium.runtime.events import (
    BatchDone,
    EpochDone,
    Event,
    Message,
    RunDone,
    RunStarted,
    TrainingStarted,
    WarningMessage,
)
from podium.runtime.files import fenced, write_text
from podium.runtime.threads import GRANTED, usable_cores


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "_LOOK_EVERY", 0.0)


def test_a_later_attempt_makes_the_earlier_stale(tmp_path: Path) -> None:
    file = tmp_path / "cell" / "attempt.json"
    first = Attempt(file, begin(file))
    first.check()
    assert (first.number, first.is_set()) == (1, False)
    second = Attempt(file, begin(file))
    assert (second.number, second.is_set()) == (2, False)
    assert first.is_set()
    with pytest.raises(StaleAttemptError, match="Attempt 1 was replaced by attempt 2"):
        first.check()
    second.check()


def test_an_attempt_is_asked_to_stop_and_the_next_is_not(tmp_path: Path) -> None:
    file = tmp_path / "attempt.json"
    first = Attempt(file, begin(file))
    ask_to_stop(file)
    assert first.is_set()
    first.check()  # it may still save its state
    assert not Attempt(file, begin(file)).is_set()


def test_a_process_without_its_parent_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "attempt.json"
    first = Attempt(file, begin(file))
    monkeypatch.setattr(os, "getppid", lambda: 1)
    assert first.is_set()


def test_a_later_start_under_the_same_number_makes_the_earlier_stale(tmp_path: Path) -> None:
    """As Slurm starts a job again whose node was lost, and may still compute."""
    file = tmp_path / "attempt.json"
    first = Attempt(file, begin(file))
    first.enter()
    ask_to_stop(file)
    again = Attempt(file, 1, start=1)
    again.enter()
    assert again.is_set()  # what the study asked for still holds
    with pytest.raises(StaleAttemptError, match="Attempt 1 was replaced by a later start"):
        first.check()
    with pytest.raises(StaleAttemptError, match="a later start"):
        first.enter()  # it cannot take the cell back
    begin(file)
    with pytest.raises(StaleAttemptError, match="replaced by attempt 2"):
        Attempt(file, 1, start=9).enter()


@pytest.mark.parametrize("text", ["", "[1]", '{"attempt": "x", "stop": false}', "{}"])
def test_a_damaged_number_lets_nobody_go_on(tmp_path: Path, text: str) -> None:
    file = tmp_path / "attempt.json"
    file.write_text(text)
    with pytest.raises(RunFolderError, match=r"attempt\.json"):
        Attempt(file, 1).check()
    late = Attempt(tmp_path / "none.json", 1)  # whose study is done
    assert late.is_set()
    with pytest.raises(StaleAttemptError, match="once the study is done"):
        late.check()


def test_a_stale_process_writes_nothing_below_the_fence(tmp_path: Path) -> None:
    file, run = tmp_path / "attempt.json", tmp_path / "run"
    first = Attempt(file, begin(file))
    with fenced(run, first.before_write):
        write_text(run / "history.csv", "before")
        begin(file)
        with pytest.raises(StaleAttemptError):
            write_text(run / "history.csv", "after")
        write_text(tmp_path / "elsewhere", "after")
    assert (run / "history.csv").read_text() == "before"
    assert [*run.iterdir()] == [run / "history.csv"]  # no temporary file is left, either
    write_text(run / "history.csv", "without a fence")
    assert (run / "history.csv").read_text() == "without a fence"


def test_leave_to_use_the_test_images_is_given_once(tmp_path: Path) -> None:
    file = tmp_path / "attempt.json"
    first = Attempt(file, begin(file))
    first.grant()
    with pytest.raises(StaleAttemptError, match="or has used them before"):
        first.grant()
    second = Attempt(file, begin(file))  # the first may be dead: it goes on from its weights
    second.grant()
    with pytest.raises(StaleAttemptError, match="Attempt 1 was replaced by attempt 2"):
        first.at_study(write_text, tmp_path / "ledger", "a line")
    assert not (tmp_path / "ledger").exists()
    second.at_study(write_text, tmp_path / "ledger", "a line")


def test_there_is_no_leave_for_what_is_replaced_right_after_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that is cut off at the worst moment, and comes back."""
    file = tmp_path / "attempt.json"
    first = Attempt(file, begin(file))
    check = Attempt.check

    def cut_off(attempt: Attempt) -> None:
        check(attempt)
        if attempt is first:
            begin(file)

    monkeypatch.setattr(Attempt, "check", cut_off)
    with pytest.raises(StaleAttemptError, match="must not use the test images: it was replaced"):
        first.grant()
    Attempt(file, 2).grant()


def test_there_is_no_leave_for_an_earlier_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "attempt.json"
    first = Attempt(file, begin(file))
    Attempt(file, 1, start=1).enter()
    monkeypatch.setattr(Attempt, "check", lambda attempt: None)  # it has just passed
    with pytest.raises(StaleAttemptError, match="must not use the test images"):
        first.grant()
    Attempt(file, 1, start=1).grant()


def test_events_come_back_equal(tmp_path: Path) -> None:
    who = {"contender": "fast", "seed": 1}
    sent: list[Event] = [
        RunStarted("Fast", 2, 10, **who, fold=3),  # type: ignore[arg-type]
        TrainingStarted(({"epoch": 1.0, "valid_loss": float("nan")},), **who),  # type: ignore[arg-type]
        EpochDone(2, {"epoch": 1.0, "valid_accuracy": 0.5}, **who),  # type: ignore[arg-type]
        WarningMessage("left out: ü\n2"),
        RunDone("Fast", {"test_accuracy": 0.25}, **who),  # type: ignore[arg-type]
    ]
    file = tmp_path / "deep" / "events.jsonl"
    reader, write = EventReader(file), EventWriter(file)
    assert reader.new() == []
    for event in sent[:2]:
        write(event)
    assert repr(reader.new()) == repr(sent[:2])  # nan is not equal to itself
    for event in sent[2:]:
        write(event)
    assert reader.new() == sent[2:]
    assert reader.new() == []


def test_half_a_line_waits_and_foreign_lines_are_skipped(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    whole = json.dumps({"event": "Message", "text": "decoding"})
    file.write_text(f'{{"event": "OfTheFuture"}}\n[]\n{{"event": "Message"}}\n{whole}\n{whole[:9]}')
    reader = EventReader(file)
    assert reader.new() == [Message("decoding")]
    with open(file, "a") as more:
        more.write(whole[9:] + "\n")
    assert reader.new() == [Message("decoding")]


def test_of_many_steps_few_are_written_and_the_last_is(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    write = EventWriter(file)
    for step in range(1, 1001):
        write(BatchDone(1, step, 1000, 0.5, contender="fast", seed=0))
    found = [event for event in EventReader(file).new() if isinstance(event, BatchDone)]
    assert found[-1].step == 1000
    assert len(found) < 100


def test_granted_cores_are_a_limit_and_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(GRANTED, raising=False)
    cores = usable_cores()
    for granted, used in (("1", 1), ("100000", cores), ("0", cores), ("many", cores)):
        monkeypatch.setenv(GRANTED, granted)
        assert usable_cores() == used
