"""Studies judged by another metric than accuracy: two models' logits from a known truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from podium.statistics.scoring import find_metric
from podium.statistics.table import ContenderPredictions, PredictionTable
from tests.statistics.studies_simulated import judged

COMMON, OWN, NOISE = 1.2, 0.6, 0.6
"""Standard deviations of the margin: an image's for all models, for a model, for a training."""

FIVE = (0.5, 0.25, 0.14, 0.08, 0.03)
TEN = (0.4, 0.2, 0.1, 0.08, 0.06, 0.05, 0.04, 0.03, 0.02, 0.02)


@dataclass(frozen=True)
class MetricSetting:
    """Two models, and images whose classes are drawn with these shares."""

    metric: str
    n: int
    shares: tuple[float, ...]
    margins: tuple[float, float] = (2.0, 2.0)
    """How far the logit of the true class is raised, of each model; equal: so are the models."""
    seeds: int = 1
    groups: int = 0
    """Number of groups of equal size; 0: images are independent."""
    alike: float = 0.5
    """Share of the variance of the margin that a group has in common."""


def drawn(
    random: np.random.Generator, setting: MetricSetting, n: int
) -> tuple[npt.NDArray[np.int64], list[npt.NDArray[np.float32]]]:
    """Labels, and each model's logits, shape (seeds, n, classes); two images of each class."""
    classes = len(setting.shares)
    labels = random.choice(classes, n, p=setting.shares)
    labels[: 2 * classes] = np.arange(2 * classes) % classes
    random.shuffle(labels)
    group = np.arange(n) * setting.groups // n if setting.groups else None

    def margin(sd: float, seeds: int = 1) -> npt.NDArray[np.float64]:
        own = random.normal(0, sd, (seeds, n))
        if group is None:
            return own
        common = random.normal(0, sd, (seeds, setting.groups))[:, group]
        return np.asarray(setting.alike**0.5 * common + (1 - setting.alike) ** 0.5 * own)

    hard, found = margin(COMMON), []
    for raised in setting.margins:
        seeds = setting.seeds
        logits = random.normal(size=(1, n, classes)) + 0.3 * random.normal(size=(seeds, n, classes))
        level = raised + hard + margin(OWN) + (margin(NOISE, seeds) if seeds > 1 else 0.0)
        logits[:, np.arange(n), labels] += level
        found.append(logits.astype(np.float32))
    return labels, found


def truth(setting: MetricSetting, draws: int = 12, n: int = 50_000) -> npt.NDArray[np.float64]:
    """The metric of both models, a mean over many images; of equal ones the same."""
    random, metric = np.random.default_rng(11), find_metric(setting.metric)
    alone, found = replace(setting, groups=0, seeds=min(2, setting.seeds)), []
    for _ in range(draws):
        labels, logits = drawn(random, alone, n)
        found.append([metric.score(one[0], labels) for one in logits])
    values = np.mean(found, axis=0)
    equal = setting.margins[0] == setting.margins[1]
    return np.full(2, values.mean()) if equal else np.asarray(values)


def tables(setting: MetricSetting, studies: int, seed: int = 5) -> Iterator[PredictionTable]:
    """The predictions of so many studies, always the same ones."""
    random, n = np.random.default_rng(seed), setting.n
    group = np.arange(n) * setting.groups // n if setting.groups else None
    for _ in range(studies):
        labels, logits = drawn(random, setting, n)
        yield PredictionTable(
            tuple(map(str, range(len(setting.shares)))),
            tuple(map(str, range(n))),
            labels,
            tuple(
                ContenderPredictions(
                    f"c{at}", f"c{at}", tuple(range(setting.seeds)), one.argmax(axis=2),
                    logits=tuple(one),
                )
                for at, one in enumerate(logits)
            ),
            groups=group,
            metric=find_metric(setting.metric),
        )  # fmt: skip


def counted_by_metric(setting: MetricSetting, studies: int) -> tuple[float, float, float]:
    """Percent of studies with a claim; whose interval of the difference held; of one model."""
    values = truth(setting)
    found = np.zeros(3)
    for table in tables(setting, studies):
        verdicts = judged(table)
        pair = verdicts.pair("c0", "c1")
        (alone,) = (one.judged for one in verdicts.standings if one.name == "c0")
        found += (
            pair.winner is not None,
            pair.judged.low <= values[0] - values[1] <= pair.judged.high,
            alone.low <= values[0] <= alone.high,
        )
    claimed, held, alone_held = (float(one) for one in 100 * found / studies)
    return claimed, held, alone_held


def _even(classes: int) -> tuple[float, ...]:
    return (1 / classes,) * classes


APART = (2.4, 2.0)
METRIC_SETTINGS = {
    f"metric-{name}": setting
    for name, setting in {
        "balanced-100-2": MetricSetting("balanced_accuracy", 100, _even(2)),
        "balanced-250-2-unequal": MetricSetting("balanced_accuracy", 250, (0.8, 0.2)),
        "balanced-500-2-unequal-apart": MetricSetting("balanced_accuracy", 500, (0.9, 0.1), APART),
        "balanced-150-5-unequal": MetricSetting("balanced_accuracy", 150, FIVE),
        "balanced-500-5-unequal-apart": MetricSetting("balanced_accuracy", 500, FIVE, APART),
        "balanced-200-10": MetricSetting("balanced_accuracy", 200, _even(10)),
        "balanced-300-10-unequal": MetricSetting("balanced_accuracy", 300, TEN),
        "balanced-500-5-groups": MetricSetting("balanced_accuracy", 500, FIVE, groups=50),
        "balanced-200-5-seeds": MetricSetting("balanced_accuracy", 200, FIVE, seeds=3),
        "f1-150-5-unequal": MetricSetting("macro_f1", 150, FIVE),
        "f1-300-5-unequal-apart": MetricSetting("macro_f1", 300, FIVE, APART),
        "f1-200-10": MetricSetting("macro_f1", 200, _even(10)),
        "f1-300-10-unequal": MetricSetting("macro_f1", 300, TEN),
        "mcc-150-5-unequal": MetricSetting("mcc", 150, FIVE),
        "mcc-300-5-unequal-apart": MetricSetting("mcc", 300, FIVE, APART),
        "mcc-100-2": MetricSetting("mcc", 100, _even(2)),
        "mcc-200-10": MetricSetting("mcc", 200, _even(10)),
        "auroc-100-2": MetricSetting("auroc", 100, _even(2)),
        "auroc-250-2-unequal-apart": MetricSetting("auroc", 250, (0.8, 0.2), APART),
        "auroc-500-2-unequal": MetricSetting("auroc", 500, (0.9, 0.1)),
        "auroc-500-2-unequal-apart": MetricSetting("auroc", 500, (0.9, 0.1), APART),
        "auroc-300-5-unequal": MetricSetting("auroc", 300, (0.3, 0.2, 0.17, 0.17, 0.16)),
        "auroc-150-5-very-unequal": MetricSetting("auroc", 150, FIVE),
        "auroc-500-10-apart": MetricSetting("auroc", 500, _even(10), APART),
        "auroc-200-2-few": MetricSetting("auroc", 200, (0.95, 0.05)),
        "auroc-200-2-98": MetricSetting("auroc", 200, _even(2), (3.0, 3.0)),
        "auroc-200-2-998": MetricSetting("auroc", 200, _even(2), (4.0, 4.0)),
        "auroc-200-5-996": MetricSetting("auroc", 200, _even(5), (4.0, 4.0)),
        "auroc-200-2-seeds": MetricSetting("auroc", 200, _even(2), seeds=3),
        "auroc-500-2-groups": MetricSetting("auroc", 500, _even(2), groups=50),
        "top3-200-10": MetricSetting("top3_accuracy", 200, _even(10)),
        "top3-500-10-apart": MetricSetting("top3_accuracy", 500, _even(10), APART),
        "answered-200-5": MetricSetting("accuracy_at_90", 200, _even(5)),
        "answered-500-10": MetricSetting("accuracy_at_90", 500, _even(10)),
        "answered-500-10-apart": MetricSetting("accuracy_at_90", 500, _even(10), APART),
        "answered-500-10-high": MetricSetting("accuracy_at_90", 500, _even(10), (4.5, 4.5)),
        "answered-500-5-groups": MetricSetting("accuracy_at_90", 500, FIVE, groups=50),
        "answered-200-5-seeds": MetricSetting("accuracy_at_90", 200, _even(5), seeds=3),
        "log-200-5": MetricSetting("log_loss", 200, _even(5)),
        "log-500-10-apart": MetricSetting("log_loss", 500, _even(10), APART),
        "log-200-5-unequal-seeds": MetricSetting("log_loss", 200, FIVE, seeds=3),
    }.items()
}
