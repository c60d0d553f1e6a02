"""The sentences for a paper: their numbers and methods against the verdicts, their references
against BibTeX and the documentation."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from podium.reporting.references import REFERENCES, bibliography
from podium.reporting.words.labels import labels
from podium.reporting.words.paper_words import MARK, PaperText, paper_text
from podium.reporting.words.verdict_words import p_words
from podium.statistics.comparison import compare_table
from podium.statistics.looks import seed_level
from podium.statistics.scoring import find_metric
from podium.statistics.stopping import Look, PairLook
from podium.statistics.table import ContenderPredictions, PredictionTable
from podium.statistics.verdicts import Verdicts

EN, PT = labels("en"), labels("pt")
N = 120
PLAIN = str.maketrans("–“”’", '-""\'')
SIMPLE = {"mcnemar1947", "lancaster1961", "fagerland2013", "tango1998"}
TOGETHER = {"hansen2011", "hothorn2008", "shaffer1986", "westfall1997"}
FLIPS = {"fisher1935", "bonett2012"}


def table(
    skills: Sequence[float],
    seeds: Sequence[int],
    *,
    metric: str = "accuracy",
    groups: int = 0,
    repeats: int = 0,
) -> PredictionTable:
    """Contenders of three classes; with `repeats`, in cross-validations of four folds."""
    random = np.random.default_rng(5)
    truth = np.arange(N) % 3
    folds = np.stack([random.permutation(np.arange(N) % 4) for _ in range(repeats or 1)])
    contenders = []
    for at, (skill, count) in enumerate(zip(skills, seeds, strict=True)):
        rows = count * (repeats or 1)
        right = random.random((rows, N)) < skill
        answers = np.where(right, truth, (truth + 1) % 3)
        logits = [3 * np.eye(3, dtype=np.float32)[row] + random.normal(size=(N, 3)).astype("f4")
                  for row in answers]  # fmt: skip
        contenders.append(
            ContenderPredictions(
                f"c{at}",
                f"Net_{at}",
                tuple(range(rows)),
                np.stack([one.argmax(axis=1) for one in logits]),
                logits=tuple(logits),
                folds=np.tile(folds, (count, 1)) if repeats else None,
            )
        )
    return PredictionTable(
        ("a", "b", "c"),
        tuple(f"{at}.jpg" for at in range(N)),
        truth,
        tuple(contenders),
        groups=np.arange(N) // (N // groups) if groups else None,
        metric=find_metric(metric),
    )


def told(verdicts: Verdicts, lang: str = "en", looks: Sequence[Look] = ()) -> PaperText:
    text = paper_text(verdicts, labels(lang), looks=looks)
    assert text is not None
    return text


KINDS = {
    "two": (table((0.95, 0.6), (1, 1)), SIMPLE),
    "three": (table((0.95, 0.6, 0.6), (1, 1, 1)), SIMPLE | TOGETHER),
    "eleven": (table((0.8,) * 11, (1,) * 11), SIMPLE | {"hansen2011", "hothorn2008"}),
    "groups": (table((0.95, 0.6), (1, 1), groups=24), FLIPS),
    "seeds": (table((0.95, 0.6), (3, 3)), FLIPS | {"cochran1964"}),
    "seeds of three": (
        table((0.95, 0.6, 0.7), (3, 3, 3)),
        FLIPS | TOGETHER | {"cochran1964", "welch1947"},
    ),
    "unequal seeds": (table((0.95, 0.6), (3, 2)), FLIPS | {"cochran1964", "welch1947"}),
    "a single one": (table((0.95, 0.6), (3, 1)), FLIPS),
    "mixed": (table((0.95, 0.6, 0.7), (3, 3, 1)), FLIPS | TOGETHER | {"cochran1964"}),
    "folds": (table((0.95, 0.6), (1, 1), repeats=1), {"nadeau2003", "fisher1935"}),
    "repeats": (
        table((0.95, 0.6), (1, 1), repeats=3),
        {"nadeau2003", "bouckaert2004", "fisher1935"},
    ),
    "macro F1": (table((0.95, 0.6), (1, 1), metric="macro_f1"), FLIPS | {"tukey1958"}),
    "AUROC": (table((0.95, 0.6), (1, 1), metric="auroc"), FLIPS | {"delong1988"}),
    "balanced": (
        table((0.95, 0.6), (1, 1), metric="balanced_accuracy"),
        FLIPS | {"satterthwaite1946"},
    ),
    "log loss": (table((0.95, 0.6), (1, 1), metric="log_loss"), {"fisher1935"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_exactly_the_methods_that_were_used_are_cited(kind: str) -> None:
    predictions, cited = KINDS[kind]
    verdicts = compare_table(predictions, resamples=0)
    for lang in ("en", "pt"):
        text = told(verdicts, lang)
        assert {one.key for one in text.references} == cited
        assert "[@" not in text.plain
        assert "{" not in text.plain


@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_are_those_of_the_verdicts(kind: str) -> None:
    verdicts = compare_table(KINDS[kind][0], resamples=0)
    first, second = verdicts.standings[:2]
    pair, scale = verdicts.pair(first.name, second.name), 100.0 if verdicts.metric.percent else 1.0
    text = told(verdicts).plain.replace("−", "-").replace("\u00a0", " ")
    assert f"{len(verdicts.standings)} image classifiers were compared" in text
    assert re.search(rf"\b{N} (test )?images", text)
    digits = 2 if verdicts.metric.percent else 3
    size = f"{scale * abs(pair.judged.value):.{1 if verdicts.metric.percent else 3}f}"
    unit = " percentage points" if verdicts.metric.percent else ""
    by, gap = f", by {size}{unit} (", rf"; difference [+-]?{size}{unit}, "
    assert by in text if pair.winner is not None else re.search(gap, text)
    for one in (first, second):
        assert f"{scale * one.judged.value:.{digits}f}" in text
    found = re.search(r"(simultaneous )?95 % confidence interval (\S+) to (\S+); ([^)]*)\)", text)
    assert found is not None
    ends = scale * np.array([pair.joint.low, pair.joint.high])
    if pair.winner is not None and (ends < 0).all():  # a lower log loss is better by its size
        ends = -ends[::-1]
    assert [float(end) for end in found.groups()[1:3]] == pytest.approx(
        ends, abs=0.051 if verdicts.metric.percent else 0.00051
    )
    several = len(verdicts.standings) > 2
    assert (found[1] is not None) is several
    assert found[4] == ("adjusted " if several else "") + p_words(pair.p_adjusted, EN)
    assert text.count("Intervals of differences are") == (verdicts.folds is None)
    assert ("was better than" in text) is (pair.winner is not None)
    assert ("did not differ significantly" in text) is (pair.winner is None)
    if several:
        decided = sum(one.winner is not None for one in verdicts.pairs)
        assert f"Of all {len(verdicts.pairs)} pairs, {decided} differed significantly" in text
        assert ("the only one that may be the best" in text) is (len(verdicts.leaders) == 1)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("two", "each trained once"),
        ("two", "about the trained models, not about the recipes"),
        ("groups", f"{N} test images from 24 groups, which were treated as the sampling units"),
        ("groups", "random sign flips of the paired differences of the groups (Fisher, 1935)"),
        ("seeds", "each trained with 3 seeds"),
        ("seeds", "about the recipes, not only about the models"),
        ("unequal seeds", "each trained with 2 to 3 seeds"),
        ("mixed", "where one of the two was trained once"),
        ("mixed", "where both were trained several times"),
        ("mixed", "Where a contender was trained once, these conclusions are about its"),
        ("folds", f"by cross-validation (4 folds) on {N} images"),
        ("repeats", "by cross-validation (3 × 4 folds)"),
        ("repeats", "(Nadeau & Bengio, 2003; Bouckaert & Frank, 2004)"),
        ("macro F1", "For macro F1, each image’s contribution was compared"),
        ("three", "adjusted for all 3 pairs"),
        ("eleven", "none was ruled out"),
    ],
)  # fmt: skip
def test_the_design_is_told(kind: str, words: str) -> None:
    assert words in told(compare_table(KINDS[kind][0], resamples=0)).plain


def test_equivalence_is_told_only_within_a_margin_that_was_chosen() -> None:
    same = table((0.9, 0.9), (1, 1))
    assumed = compare_table(same, resamples=0)
    assert assumed.pairs[0].winner is None
    assert "schuirmann1987" not in {one.key for one in told(assumed).references}
    chosen = compare_table(same, resamples=0, margin=0.3)
    assert chosen.pairs[0].equivalent
    text = told(chosen)
    assert "schuirmann1987" in {one.key for one in text.references}
    within = f"differ by less than {100 * chosen.pairs[0].within:.1f} percentage points"
    assert f"{within}, within the margin of 30.0 percentage points" in text.plain


def test_seeds_that_were_added_are_told_with_the_level_of_the_look() -> None:
    verdicts = compare_table(
        replace(table((0.95, 0.6, 0.7), (3, 3, 3)), seed_level=seed_level(3)), resamples=0
    )
    every = [PairLook(one.first, one.second, "superior", None) for one in verdicts.pairs]
    text = told(verdicts, looks=[Look(3, tuple(every))])
    assert {"lan1983", "spiegelhalter1986"} <= {one.key for one in text.references}
    for said in ("each trained with 3 seeds", "up to 10, until every pair was decided", "below 5",
                 "6.25"):  # fmt: skip
        assert said in text.plain.replace("\u00a0", " ")
    probed = Look(3, (every[0], *(replace(one, counts=False) for one in every[1:])))
    assert "every pair without a shortcut model was" in told(verdicts, looks=[probed]).plain
    assert "cada par sem modelo de atalho" in told(verdicts, "pt", [probed]).plain


def test_a_single_contender_has_no_verdict_to_cite() -> None:
    assert paper_text(compare_table(table((0.9,), (1,)), resamples=0), EN) is None
    assert paper_text(None, EN) is None


def test_every_mark_has_a_reference_and_every_reference_is_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "statistics.md").read_text(encoding="utf-8")
    entries = page.split("## References")[1].split("\n- ")
    listed = [" ".join(entry.split()) for entry in entries]
    marked = set()
    for say in (EN, PT):
        for text in say.words.values():
            marked |= {key for keys in MARK.findall(text) for key in keys.split(",")}
    assert marked | {"nadeau2003", "bouckaert2004"} == set(REFERENCES)
    for one in REFERENCES.values():
        family = one.authors[0].partition(",")[0]
        (entry,) = (
            entry
            for entry in listed
            if entry.startswith(f"{family}, ") and f"({one.year})" in entry
        )
        title = one.title.removesuffix(" (abstract)").translate(PLAIN)
        start = title.partition(":")[0]
        assert start.casefold() in entry.casefold()
        assert one.key == f"{family.casefold()}{one.year}"
    assert list(REFERENCES) == sorted(REFERENCES)


def test_a_reference_is_listed_and_cited_as_readers_expect() -> None:
    assert REFERENCES["mcnemar1947"].listed == (
        "McNemar, Q. (1947). Note on the sampling error of the difference between correlated "
        "proportions or percentages. Psychometrika, 12(2), 153–157. "
        "https://doi.org/10.1007/BF02295996"
    )
    assert REFERENCES["nadeau2003"].cited == "Nadeau & Bengio, 2003"
    assert REFERENCES["hothorn2008"].cited == "Hothorn et al., 2008"
    assert REFERENCES["hothorn2008"].listed.startswith("Hothorn, T., Bretz, F., & Westfall, P. (")


def test_bibtex_and_tex_take_it_without_a_warning(tmp_path: Path) -> None:
    tex, bib = shutil.which("pdflatex"), shutil.which("bibtex")
    if tex is None or bib is None:
        pytest.skip("there is no TeX on this machine")
    (tmp_path / "references.bib").write_text(bibliography(REFERENCES.values()), encoding="utf-8")
    parts = [
        told(compare_table(predictions, resamples=0), lang).latex
        for predictions, _ in KINDS.values()
        for lang in ("en", "pt")
    ]
    body = "\n\n".join(parts)
    assert r"Net\_0" in body
    (tmp_path / "article.tex").write_text(
        r"\documentclass{article}\usepackage[T1]{fontenc}\begin{document}"
        + body
        + r"\nocite{*}\bibliographystyle{plain}\bibliography{references}"
        r"\end{document}",
        encoding="utf-8",
    )
    set_once = [tex, "-interaction=nonstopmode", "-halt-on-error", "article"]
    for command in (set_once, [bib, "article"], set_once, set_once):
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False
        )
        assert done.returncode == 0, done.stdout
        if command[0] == bib:
            assert "Warning" not in done.stdout, done.stdout
    log = (tmp_path / "article.log").read_text(encoding="utf-8", errors="replace")
    assert "undefined" not in log
    assert log.count("Missing character") == 0
    made = (tmp_path / "article.bbl").read_text(encoding="utf-8", errors="replace")
    assert made.count(r"\bibitem") == len(REFERENCES)


def test_the_bib_file_is_well_formed() -> None:
    """Also where there is no TeX: every entry parses to the end, with the fields of its kind."""
    text = bibliography(REFERENCES.values())
    field = re.compile(r"  (\w+) = \{((?:[^{}]|\{[^{}]*\})*)\},\n")
    entry = re.compile(r"@(\w+)\{(\w+),\n((?:" + field.pattern + r")+)\}\n\n?")
    at, keys = 0, []
    while at < len(text):
        found = entry.match(text, at)
        assert found is not None, text[at : at + 80]
        names = [name for name, _ in field.findall(found[3])]
        assert len(names) == len(set(names))
        needed = {"article": "journal volume pages", "book": "publisher",
                  "inproceedings": "booktitle pages"}[found[1]]  # fmt: skip
        assert {*needed.split(), "author", "title", "year"} <= set(names)
        keys.append(found[2])
        at = found.end()
    assert keys == list(REFERENCES)
