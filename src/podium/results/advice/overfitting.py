"""A contender has memorised its training images."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import mean

from podium.results.advice.finding import Finding
from podium.results.run import RunResult
from podium.results.study import StudyResults
from podium.statistics.metrics import wilson_interval

MEMORISED = 0.98  # training accuracy
LEAST_GAP = 0.10  # to the upper end of the interval of the validation accuracy
REMEDIES = ("augmentation", "transfer")


def overfitting(results: StudyResults) -> Iterator[Finding]:
    """In the kept epoch of every run of a contender, training accuracy is 98 % or more, and more
    than 10 points above the 95 % interval of the validation accuracy.

    What is advised first is what helped in this study: augmentation or pre-training, if the
    contender with it is significantly better than this one.

    Args:
        results: the study.
    """
    for one in results.contenders:
        if not all(has_memorised(run) for run in one.runs):
            continue
        helped = _helped(results, one.name)
        yield Finding(
            "overfitting_helped" if helped else "overfitting",
            names={"name": one.label, "helped": helped},
            shares={
                "train": mean(run.train_accuracy or 0.0 for run in one.runs),
                "valid": mean(run.valid_accuracy or 0.0 for run in one.runs),
            },
            counts={"n": one.runs[0].valid_n},
            contender=one.name,
        )


def has_memorised(run: RunResult) -> bool:
    """Whether a run fits its training images far better than others, in the kept epoch.

    Args:
        run: the run.
    """
    train = run.train_accuracy
    if train is None or train < MEMORISED or not run.valid_n:
        return False
    _, high = wilson_interval(run.valid_n - run.valid_mistakes, run.valid_n)
    return train - high > LEAST_GAP


def _helped(results: StudyResults, name: str) -> str:
    """The contender that remedied it here; empty: none did."""
    verdicts = results.verdicts
    if verdicts is None:
        return ""
    asked = [one for one in results.questions if one.second == name and one.kind in REMEDIES]
    helped = [one.first for one in asked if verdicts.pair(one.first, name).winner == one.first]
    return verdicts.labels[helped[0]] if helped else ""
