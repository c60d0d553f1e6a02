"""Verdicts at any time: against a closed form, and how often they claim falsely in simulation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import betaln

from podium.cli.app import main
from podium.errors import DataError
from podium.runs.predictions import Predictions
from podium.statistics.anytime import AnytimeVerdict, anytime_verdicts, evidence
from podium.statistics.paired import mcnemar
from podium.statistics.table import ContenderPredictions, PredictionTable, table_of

Bools = npt.NDArray[np.bool_]


def table(*right: Bools, groups: npt.NDArray[np.int64] | None = None) -> PredictionTable:
    n = len(right[0])
    paths = tuple(f"{at}.jpg" for at in range(n))
    labels = np.zeros(n, np.int64)
    rows = []
    for number, one in enumerate(right):
        logits = np.stack([one, ~one], axis=1).astype(np.float32)
        found = Predictions(("cat", "dog"), paths, labels, logits)
        rows.append((f"model{number}", f"Model {number}", None, None, {0: found}))
    of = None if groups is None else dict(zip(paths, map(str, groups.tolist()), strict=True))
    return table_of(rows, groups=of)


def pair(right: tuple[Bools, Bools], **options: object) -> AnytimeVerdict:
    return anytime_verdicts(table(*right), **options)[0]  # type: ignore[arg-type]


def counted(first: int, second: int, n: int) -> tuple[Bools, Bools]:
    """So many images that only the first, and only the second, gets right."""
    at = np.arange(n)
    return (at >= second) & (at < n), (at < second) | (at >= first + second)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (3, 1), (30, 10), (200, 250)])
def test_the_evidence_is_that_of_a_beta_mixture(first: int, second: int) -> None:
    found = pair(counted(first, second, 1000))
    total = first + second
    exact = betaln(first + 0.5, second + 0.5) - betaln(0.5, 0.5) + total * np.log(2)
    assert np.log(found.e) == pytest.approx(exact, abs=0.06)


def test_superior_equivalent_futile_and_open() -> None:
    clear = pair(counted(60, 15, 1000), margin=0.02)
    assert (clear.outcome, clear.ahead) == ("superior", "model0")
    assert clear.e > clear.needed == 20
    same = pair(counted(40, 40, 5000), margin=0.02)
    assert (same.outcome, same.ahead) == ("equivalent", None)
    assert pair(counted(40, 40, 5000)).e_equivalent is None  # no margin, no claim
    early = pair(counted(8, 5, 200), margin=0.02, planned=20_000)
    assert early.outcome == "open"
    assert early.chance is not None
    assert early.chance > 0.5
    late = pair(counted(60, 45, 2000), margin=0.002, planned=2200)
    assert late.outcome == "futile"
    assert late.chance is not None
    assert late.chance < 0.05


def test_the_order_of_the_images_does_not_matter() -> None:
    random = np.random.default_rng(0)
    right = counted(30, 10, 300)
    order = random.permutation(300)
    turned = right[0][order], right[1][order]
    assert pair(right, margin=0.05).e == pytest.approx(pair(turned, margin=0.05).e)


def false_claims(
    random: np.random.Generator,
    chances: tuple[float, float],
    margin: float,
    *,
    studies: int = 150,
    size: int = 1,
    units: int = 1000,
) -> dict[str, float]:
    """Share of studies that ever claim something in looks at every 20 units, and McNemar's test."""
    ever = {"superior": 0, "equivalent": 0, "mcnemar": 0}
    for _ in range(studies):
        kind = random.random(units)
        apart = np.where(kind < chances[0], 1.0, np.where(kind < sum(chances), -1.0, 0.0))
        apart = np.repeat(apart, size)
        groups = np.repeat(np.arange(units), size)
        claimed = set()
        for n in range(20 * size, units * size + 1, 20 * size):
            of = groups[:n] if size > 1 else None
            equal, within = evidence(apart[:n], of, margin)
            assert within is not None
            claimed |= {"superior"} if equal >= np.log(20) else set()
            claimed |= {"equivalent"} if within >= np.log(20) else set()
            only = int((apart[:n] > 0).sum()), int((apart[:n] < 0).sum())
            claimed |= {"mcnemar"} if mcnemar(*only) < 0.05 else set()
        for what in claimed:
            ever[what] += 1
    return {what: count / studies for what, count in ever.items()}


def test_looking_often_claims_no_more_than_5_percent() -> None:
    equal = false_claims(np.random.default_rng(1), (0.05, 0.05), margin=0.02)
    assert equal["superior"] <= 0.05
    assert equal["mcnemar"] > 0.15  # what looking does to a p-value
    apart = false_claims(np.random.default_rng(2), (0.06, 0.04), margin=0.02)  # just not equivalent
    assert apart["equivalent"] <= 0.05
    grouped = false_claims(
        np.random.default_rng(3), (0.05, 0.05), margin=0.02, size=4, units=500, studies=60
    )
    assert grouped["superior"] <= 0.05
    assert grouped["mcnemar"] > 0.3


def test_what_is_true_is_found() -> None:
    better = false_claims(np.random.default_rng(4), (0.09, 0.04), margin=0.02, studies=60)
    assert better["superior"] > 0.8
    same = false_claims(np.random.default_rng(5), (0.01, 0.01), margin=0.03, studies=60)
    assert same["equivalent"] > 0.8


def test_several_pairs_need_more_evidence() -> None:
    first, second = counted(60, 15, 1000)
    found = anytime_verdicts(table(first, second, second))
    assert [one.needed for one in found] == [60, 60, 60]


def test_folds_are_refused() -> None:
    given = table(*counted(60, 15, 100))
    crossed = [
        ContenderPredictions(
            one.name, one.label, (0,), one.predicted, folds=np.arange(100)[None] % 5
        )
        for one in given.contenders
    ]
    with pytest.raises(DataError, match="cross-validation"):
        anytime_verdicts(replace(given, contenders=tuple(crossed)))


@pytest.mark.parametrize("lang", ["en", "pt"])
def test_the_command(lang: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = counted(60, 15, 400)
    lines = ["path,label,good,poor"]
    names = np.array(["dog", "cat"])
    for at, (a, b) in enumerate(zip(names[first * 1], names[second * 1], strict=True)):
        lines.append(f"{at}.jpg,cat,{a},{b}")
    path = tmp_path / "predictions.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    words = ["compare", str(path), "--anytime", "--margin", "1", "--planned", "900"]
    assert main([*words, "--lang", lang]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert ("good is more accurate than poor" if lang == "en" else "good acerta mais") in told
    assert main(["compare", str(path), "--planned", "900"]) == 2
    assert "--anytime" in capsys.readouterr().err
    assert main(["compare", str(path), "--anytime", "--planned", "300"]) == 2
