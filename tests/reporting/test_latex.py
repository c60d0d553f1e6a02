"""The tables for LaTeX: their order, their bold figures, and that TeX sets them without a fault."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from podium.reporting.latex import contenders_table, escape_latex, pairs_table
from podium.reporting.words.labels import labels
from podium.results.study import StudyResults, gather
from podium.statistics.metrics import scores
from tests.fake_study import fake_study

CLASSES = tuple(f"sport {number}" for number in range(12))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> StudyResults:
    """Five contenders and three seeds: the widest cells; a title of signs that TeX reads."""
    root = tmp_path_factory.mktemp("runs") / "a_study.x"
    title = "50 % & more_$x$ #1 {a} ~b ^c \\d, às margens"
    skill = (0.2, 0.5, 0.3, 0.6, 0.97)
    study = fake_study(root, CLASSES, epochs=2, seeds=(0, 1, 2), title=title, skill=skill)
    return gather(study)


def rows_of(table: str) -> list[list[str]]:
    """The cells of the rows below the headings."""
    found = re.findall(r"\\midrule\n(.*?)\\bottomrule", table, flags=re.DOTALL)
    lines = [line for part in found for line in part.strip().splitlines()]
    return [re.split(r"(?<!\\)&", line.strip().removesuffix(r"\\")) for line in lines]


def test_specials_are_escaped() -> None:
    assert escape_latex("a_b & 5 % {~}\u2212\u00a0x") == (
        r"a\_b \& 5 \% \{\textasciitilde{}\}$-$~x"
    )


def test_contenders_come_by_place_with_the_best_in_bold(results: StudyResults) -> None:
    table = contenders_table(results, labels("en"))
    assert r"\caption{" in table
    assert r"\label{tab:a-study-x-contenders}" in table
    rows = rows_of(table)
    assert results.verdicts is not None
    places = {one.name: (one.best, one.worst) for one in results.verdicts.standings}
    ranking = sorted(results.ranking, key=lambda one: places[one.name])
    assert [row[1].strip() for row in rows] == [escape_latex(one.label) for one in ranking]
    means = []
    for one, row in zip(ranking, rows, strict=True):
        assert [int(found) for found in re.findall(r"\d+", row[0])] == list(
            dict.fromkeys(places[one.name])
        )
        runs = [scores(run.test) for run in one.runs]
        accuracy = 100 * np.array([run.accuracy for run in runs])
        assert rf"{accuracy.mean():.2f} $\pm$ {accuracy.std(ddof=1):.2f}" in row[4]
        assert f"{100 * np.mean([run.macro_f1 for run in runs]):.2f}" in row[6]
        means.append(accuracy.mean())
    assert [r"\textbf" in row[4] for row in rows] == [value == max(means) for value in means]
    assert not any(r"\textbf" in row[at] for row in rows for at in (0, 1, 2, 5))


def test_every_pair_is_in_the_table(results: StudyResults) -> None:
    assert results.verdicts is not None
    table = pairs_table(results, labels("en"))
    assert r"\label{tab:a-study-x-pairs}" in table
    rows = rows_of(table)
    assert len(rows) == 10
    won = sum(pair.winner is not None for pair in results.verdicts.pairs)
    assert sum(r"\textbf" in "".join(row) for row in rows) == won > 0


def test_many_rows_are_several_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podium.reporting.latex.ROWS_A_TABLE", 2)
    results = gather(fake_study(tmp_path / "s", CLASSES[:3], contenders=3, epochs=1))
    table = contenders_table(results, labels("en"))
    assert len(rows_of(table)) == 3
    assert table.count(r"\begin{table}") == 2
    assert r"\label{tab:s-contenders-2}" in table


def test_one_contender_has_no_place(tmp_path: Path) -> None:
    results = gather(fake_study(tmp_path / "s", CLASSES[:3], contenders=1, epochs=1))
    (row,) = rows_of(contenders_table(results, labels("en")))
    assert row[0].strip() == "{SimpleResNet}"
    assert "textbf" not in "".join(row)


@pytest.mark.parametrize("lang", ["en", "pt"])
def test_tex_sets_both_within_the_text_of_an_article(
    results: StudyResults, lang: Literal["en", "pt"], tmp_path: Path
) -> None:
    tex = shutil.which("pdflatex")
    if tex is None:
        pytest.skip("there is no pdflatex on this machine")
    say = labels(lang)
    (tmp_path / "a.tex").write_text(contenders_table(results, say), encoding="utf-8")
    (tmp_path / "b.tex").write_text(pairs_table(results, say), encoding="utf-8")
    (tmp_path / "article.tex").write_text(
        r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs,tabularx}"
        r"\begin{document}\input{a}\input{b}\ref{tab:a-study-x-pairs}\end{document}"
    )
    for _ in range(2):  # the second time, the labels are known
        done = subprocess.run(
            [tex, "-interaction=nonstopmode", "-halt-on-error", "article.tex"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if re.search(r"File `\w+\.sty' not found", done.stdout):
            pytest.skip("this TeX lacks booktabs or tabularx")
        assert done.returncode == 0, done.stdout
    log = (tmp_path / "article.log").read_text(encoding="utf-8", errors="replace")
    assert "Overfull" not in log
    assert "undefined" not in log
