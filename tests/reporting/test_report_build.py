from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image

from podium.errors import ConfigError, RunFolderError, StorageError, UserError
from podium.reporting.build import ReportResult, build_report
from podium.runs.folder import StudyFolder
from podium.runs.predictions import Predictions
from podium.statistics.metrics import per_class, scores, wilson_interval
from tests.conftest import Steps, reports_undrawn
from tests.fake_study import ODD_NAMES, fake_study

SPORTS = tuple(f"sport {number}" for number in range(40))
RUNS = ("simple_resnet-seed-0", "simple_resnet-autoaugment-seed-0")


class Page(HTMLParser):
    """The texts, addresses and open elements of a page."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.scripts = self.code = 0
        self.images_without_alt = 0
        self.text = ""
        self.lang: str | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        names = ("src", "href", "xlink:href", "action", "data", "poster", "srcset")
        self.addresses += [value or "" for name, value in attrs if name in names]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        assert not any(name.startswith("on") for name in given)
        self.scripts += tag == "script"
        self.images_without_alt += tag == "img" and not given.get("alt")
        self.code += tag == "script" and given.get("type") != "application/json"
        if tag == "html":
            self.lang = given.get("lang")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["script"], ["style"]):
            self.text += data


def read(result: ReportResult) -> tuple[str, Page]:
    text = result.index.read_text(encoding="utf-8")
    return text, Page(text)


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyFolder, ReportResult]:
    """Two contenders on classes with odd names, one of them with a stand-in."""
    root = tmp_path_factory.mktemp("runs") / "odd"
    folder = fake_study(
        root, ODD_NAMES, contenders=2, epochs=3, stand_in=True, title="<script>alert(1)</script>"
    )
    return folder, build_report(folder, dpi=50)


@pytest.mark.usefixtures("undrawn")
def test_progress_is_that_of_one_task_that_ends(
    odd: tuple[StudyFolder, ReportResult], tmp_path: Path
) -> None:
    told = Steps()
    build_report(odd[0], out=tmp_path / "again", notify=told)
    (task,) = {what for what, _, _ in told}  # a display keeps a bar of each until it is done
    assert task == "writing the report"
    assert [done for _, done, _ in told] == list(range(told[-1][2] + 1))


def test_all_files_are_there(odd: tuple[StudyFolder, ReportResult]) -> None:
    folder, result = odd
    assert result.index == folder.report / "index.html"
    names = {path.relative_to(folder.report).as_posix() for path in result.files}
    figures = ("learning-curves", "classes", "confusion", "reliability", "gallery", "mistakes")
    assert names == {
        "index.html",
        *(f"figures/{run}-{what}.{kind}" for run in RUNS for what in figures
          for kind in ("png", "pdf")),
        "figures/test-accuracy.png",
        "figures/test-accuracy.pdf",
        "figures/differences.png",
        "figures/differences.pdf",
        "figures/risk-coverage.png",
        "figures/risk-coverage.pdf",
        *(f"tables/{name}.csv" for name in ("places", "calibration", "coverage")),
        *(f"tables/{name}.csv" for name in ("answered", "answered-pairs")),
        *(f"tables/{name}.{kind}" for name in ("table1", "pairs") for kind in ("csv", "md", "tex")),
        "tables/per-class.csv",
        "tables/confused.csv",
        "tables/references.bib",
    }  # fmt: skip
    on_disk = {p.relative_to(folder.report).as_posix() for p in folder.report.rglob("*.*")}
    assert on_disk == names
    for path in result.files:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert image.width > 150
                assert image.info["dpi"] == pytest.approx((50, 50), abs=0.1)
        if path.suffix == ".pdf":
            content = path.read_bytes()
            assert content.startswith(b"%PDF")
            assert b"/Type3" not in content  # fonts are embedded as TrueType
            assert b"CreationDate" not in content


def test_page_is_whole_and_asks_for_nothing_outside(odd: tuple[StudyFolder, ReportResult]) -> None:
    folder, result = odd
    text, page = read(result)
    assert page.open == []
    assert page.lang == "en"
    assert page.images_without_alt == 0
    assert len(set(page.ids)) == len(page.ids)
    for address in page.addresses:
        assert address.startswith(("data:image/jpeg;base64,", "#", "figures/", "tables/")), address
        if address.startswith("#"):
            assert address[1:] in page.ids
        elif not address.startswith("data:"):
            assert (folder.report / address).is_file()
    assert "Content-Security-Policy" in text
    assert "@import" not in text
    assert not re.search(r"url\((?!#|data:image/jpeg;base64,[A-Za-z0-9+/=]+\))", text)


def test_class_names_are_escaped_and_whole(odd: tuple[StudyFolder, ReportResult]) -> None:
    text, page = read(odd[1])
    assert "<script>alert" not in text
    # before the page, after it, and two libraries; the data of
    # explorer, charts, deciding images and sizes
    assert (page.code, page.scripts - page.code) == (4, 4)
    assert "<b>skating" not in text
    for name in ODD_NAMES:
        assert name in page.text


def test_script_is_the_one_that_the_policy_allows(odd: tuple[StudyFolder, ReportResult]) -> None:
    import base64
    import hashlib

    text, _ = read(odd[1])
    scripts = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in scripts]
    assert len(digests) == 4
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    assert f"script-src {allowed};" in text


def test_stand_in_and_winner_are_told(odd: tuple[StudyFolder, ReportResult]) -> None:
    folder, result = odd
    _, page = read(result)
    assert (
        "EfficientNet-Lite0 was used in place of SimpleResNet, whose weights were not available"
        in page.text
    )
    best = max(
        (scores(run.read_predictions("test")) for run in folder.runs(folder.read_spec())),
        key=lambda score: score.accuracy,
    )
    assert f"{best.correct} of {best.n} test images correct" in page.text
    winner = "EfficientNet-Lite0 + AutoAugment (in place of SimpleResNet)"
    assert f"{winner} had the highest" in page.text


def test_per_class_csv_equals_the_metrics(odd: tuple[StudyFolder, ReportResult]) -> None:
    folder, _ = odd
    rows = rows_of(folder.report / "tables" / "per-class.csv")
    expected = [
        (run.contender, one)
        for run in folder.runs(folder.read_spec())
        for one in per_class(run.read_predictions("test"))
    ]
    assert len(rows) == len(expected) == 2 * len(ODD_NAMES)
    for row, (contender, one) in zip(rows, expected, strict=True):
        assert (row["contender"], row["seed"]) == (contender, "0")
        guarded = f"'{one.name}" if one.name[0] in "=+-@" else one.name
        assert row["class"] == guarded
        told = [float(row[name]) if row[name] else None for name in ("precision", "recall", "f1")]
        assert told == list(one.shown)
        assert int(row["support"]) == one.support
    assert sum(row["class"].startswith("'=") for row in rows) == 2


def test_undefined_values_are_dashes_on_the_page_and_empty_in_the_table(tmp_path: Path) -> None:
    folder = fake_study(tmp_path / "s", SPORTS[:4], contenders=1, epochs=1)
    run = folder.runs(folder.read_spec())[0]
    test = run.read_predictions("test")
    labels, logits = test.labels.copy(), test.logits.copy()
    logits[:, 3] = -99  # the last two classes are never predicted, the last has no image
    logits[:, 2] = -98
    labels[labels == 3] = 0
    Predictions(test.class_names, test.paths, labels, logits).write(run.predictions("test"))
    with reports_undrawn():
        text, _ = read(build_report(folder))
    rows = rows_of(folder.report / "tables" / "per-class.csv")
    shown = [[row[name] for name in ("precision", "recall", "f1", "support")] for row in rows]
    assert shown[2:] == [["", "0.0", "0.0", "5"], ["", "", "", "0"]]
    for name, dashes in ((SPORTS[2], 1), (SPORTS[3], 4)):  # the last lacks an interval too
        (cells,) = re.findall(rf"<th [^>]*data-class[^>]*>{name}</th>(.*?)</tr>", text)[:1]
        assert cells.count("–</td>") == dashes


def test_table_1_csv_equals_the_metrics(odd: tuple[StudyFolder, ReportResult]) -> None:
    folder, _ = odd
    rows = rows_of(folder.report / "tables" / "table1.csv")
    for row, run in zip(rows, folder.runs(folder.read_spec()), strict=True):
        score = scores(run.read_predictions("test"))
        assert float(row["test_accuracy"]) == score.accuracy
        assert float(row["macro_recall"]) == pytest.approx(score.accuracy)  # balanced
        assert float(row["macro_precision"]) == score.macro_precision
        assert float(row["macro_f1"]) == score.macro_f1
        low, high = wilson_interval(score.correct, score.n)
        assert (float(row["test_low"]), float(row["test_high"])) == (low, high)
        best = run.read_history()[run.read_done()["best_epoch"] - 1]
        assert float(row["train_accuracy"]) == best["train_accuracy"]
        valid = scores(run.read_predictions("valid"))
        assert float(row["valid_accuracy"]) == valid.accuracy
    assert (rows[1]["model"], rows[1]["stood_in_for"]) == ("efficientnet_lite0", "simple_resnet")


def test_markdown_and_latex_print_the_same_figures(odd: tuple[StudyFolder, ReportResult]) -> None:
    folder, _ = odd
    run = folder.runs(folder.read_spec())[0]
    score = scores(run.read_predictions("test"))
    tables = folder.report / "tables"
    markdown = (tables / "table1.md").read_text(encoding="utf-8").splitlines()
    cells = [cell.strip() for cell in markdown[2].strip("|").split("|")]
    head = [cell.strip() for cell in markdown[0].strip("|").split("|")]
    by_head = dict(zip(head, cells, strict=True))
    assert by_head["Macro rec. (%)"] == f"{100 * score.macro_recall:.2f}"
    assert by_head["Macro prec. (%)"] == f"{100 * score.macro_precision:.2f}"
    latex = (tables / "table1.tex").read_text(encoding="utf-8")
    assert f"{100 * score.accuracy:.2f}" in latex
    assert f"{100 * score.macro_f1:.2f}" in latex
    assert r"\textless{}script\textgreater{}" in latex
    assert "<script" not in latex


def test_portuguese_has_commas_and_accents(tmp_path: Path) -> None:
    folder = fake_study(tmp_path / "pt", ODD_NAMES, contenders=1, epochs=2)
    result = build_report(folder, lang="pt", dpi=40, formats=("svg",))
    _, page = read(result)
    assert page.lang == "pt-BR"
    score = scores(folder.runs(folder.read_spec())[0].read_predictions("test"))
    assert f"acurácia de teste de {100 * score.accuracy:.2f}".replace(".", ",") in page.text
    assert "Curvas de aprendizado" in page.text
    assert "highest" not in page.text
    curves = folder.report / "figures" / "simple_resnet-seed-0-learning-curves.svg"
    drawn = curves.read_text(encoding="utf-8")
    for label in ("Valor da função de perda", "Acurácia total (%)", "Época", "Treino", "Validação"):
        assert label in drawn
    row = rows_of(folder.report / "tables" / "table1.csv")[0]
    assert float(row["test_accuracy"]) == score.accuracy  # '.' in every language
    latex = (folder.report / "tables" / "table1.tex").read_text(encoding="utf-8")
    assert f"{100 * score.accuracy:.2f}".replace(".", ",") in latex


@pytest.mark.usefixtures("undrawn")
def test_report_with_runs_that_failed_stopped_or_never_began(tmp_path: Path) -> None:
    folder = fake_study(tmp_path / "part", SPORTS[:4], contenders=5, epochs=2)
    spec = folder.read_spec()
    good, failed, stopped, absent, damaged = folder.runs(spec)
    failed.done.unlink()
    failed.failed.write_text(json.dumps({"reason": "TrainingError", "message": "loss <nan>"}))
    stopped.done.unlink()
    shutil.rmtree(absent.path)
    damaged.predictions("test").write_bytes(b"not parquet")
    text, page = read(build_report(folder))
    assert "1 of 5 are reported here" in page.text
    assert "loss <nan>" in page.text
    assert "loss <nan>" not in text
    assert "Stopped after 2 of at most 2 epochs" in page.text
    assert "podium run has not started it yet" in page.text
    assert "not a Podium predictions file" in page.text
    assert len(rows_of(folder.report / "tables" / "table1.csv")) == 1
    assert good.is_done()


def test_study_without_a_finished_run_is_refused_with_reasons(tmp_path: Path) -> None:
    folder = fake_study(tmp_path / "none", SPORTS[:3], contenders=2, epochs=1)
    first, second = folder.runs(folder.read_spec())
    first.done.unlink()
    first.failed.write_text(json.dumps({"message": "out of memory"}))
    shutil.rmtree(second.path)
    with pytest.raises(RunFolderError, match=r"at least one finished run, found none of 2") as got:
        build_report(folder)
    assert "out of memory" in str(got.value)
    assert "not started" in str(got.value)
    assert not folder.report.exists()


def test_folder_that_is_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="not a study folder"):
        build_report(tmp_path)


RECIPES = [
    (
        {"optimizer": "muon", "weight_decay": 0.05, "decay_norm_bias": False,
         "label_smoothing": 0.1, "ema": 0.99, "flip_test": True},
        {"Optimiser": "muon", "Weight decay": "0.05 (except norms and biases)",
         "Label smoothing": "0.10", "Weight average (EMA decay)": "0.99",
         "Test-time averaging": "image and mirror image"},
        ("Classifier",),
    ),
    (
        {"model": "efficientnet_lite0", "pretrained": True, "linear_probe": True,
         "pooling": "stages", "layer_decay": 0.75},
        {"Classifier": "initialised from a linear probe (logistic regression); uses all stages",
         "Layer-wise learning rate decay": "0.75", "Optimiser": "adam"},
        ("Weight decay", "Label smoothing"),
    ),
    (
        {"model": "efficientnet_lite0", "pretrained": True, "linear_probe": True,
         "freeze": "backbone"},
        {"Classifier": "linear probe (logistic regression)"},
        ("Optimiser", "Learning rate"),
    ),
]  # fmt: skip


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("recipe", "told", "absent"), RECIPES)
def test_a_run_tells_how_it_was_fitted(
    recipe: dict[str, Any], told: dict[str, str], absent: tuple[str, ...], tmp_path: Path
) -> None:
    folder = fake_study(tmp_path / "s", SPORTS[:3], contenders=1, epochs=2, overrides=recipe)
    html, _ = read(build_report(folder))
    facts = dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", html))
    facts = {unescape(name): value for name, value in facts.items()}
    assert {name: facts.get(name) for name in told} == told
    assert not set(absent) & set(facts)


def test_absent_records_are_dashes(tmp_path: Path) -> None:
    folder = fake_study(tmp_path / "bare", SPORTS[:3], contenders=1, epochs=2)
    run = folder.runs(folder.read_spec())[0]
    run.done.write_text("{}")
    run.history.unlink()
    run.predictions("valid").unlink()
    folder.data.unlink()
    folder.thumbnails.unlink()
    with reports_undrawn(but={"curves", "gallery", "mistakes"}):
        result = build_report(folder, dpi=40, formats=("png",))
    _, page = read(result)
    assert "no description of its images" in page.text
    assert "stored no test images" in page.text
    assert not any("learning-curves" in path.name for path in result.files)
    row = rows_of(folder.report / "tables" / "table1.csv")[0]
    assert row["parameters"] == row["valid_accuracy"] == ""


@pytest.mark.usefixtures("undrawn")
def test_seeds_give_a_row_each_and_their_mean(tmp_path: Path) -> None:
    folder = fake_study(tmp_path / "seeds", SPORTS[:6], contenders=1, epochs=2, seeds=(0, 3))
    result = build_report(folder)
    accuracies = [
        100 * scores(run.read_predictions("test")).accuracy
        for run in folder.runs(folder.read_spec())
    ]
    mean, deviation = np.mean(accuracies), np.std(accuracies, ddof=1)
    markdown = (folder.report / "tables" / "table1.md").read_text(encoding="utf-8")
    assert "mean ± sd of 2 seeds" in markdown
    assert f"{mean:.2f} ± {deviation:.2f}" in markdown
    assert len(rows_of(folder.report / "tables" / "table1.csv")) == 2
    _, page = read(result)
    assert f"{mean:.2f} % over 2 seeds" in page.text.replace("\u00a0", " ")
    assert "SimpleResNet, seed 3" in page.text


@pytest.mark.usefixtures("undrawn")
def test_equal_accuracies_are_called_shared(tmp_path: Path) -> None:
    folder = fake_study(tmp_path / "tie", SPORTS[:4], contenders=2, epochs=1)
    first, second = folder.runs(folder.read_spec())
    shutil.copy(first.predictions("test"), second.predictions("test"))
    _, page = read(build_report(folder))
    assert "SimpleResNet and SimpleResNet + AutoAugment share the highest" in page.text


def test_many_classes_come_in_pages_with_the_weakest_apart(tmp_path: Path) -> None:
    folder = fake_study(tmp_path / "forty", SPORTS, contenders=1, epochs=1)
    with reports_undrawn(but={"classes", "weakest"}):
        result = build_report(folder, dpi=40)
    names = {path.name for path in result.files}
    start = "simple_resnet-seed-0"
    pages = {f"{start}-classes-1.png", f"{start}-classes-2.png", f"{start}-classes.pdf"}
    assert pages | {f"{start}-weakest-classes.png"} <= names


def test_of_more_than_500_classes_the_weakest_are_shown(tmp_path: Path) -> None:
    names = [f"class {number}" for number in range(510)]
    folder = fake_study(tmp_path / "many", names, contenders=1, epochs=1, per_class=2)
    with reports_undrawn(but={"classes", "matrix"}):
        result = build_report(folder, dpi=20, formats=("png",))
    html, _ = read(result)
    assert "The 500 weakest of 510 classes; per-class.csv lists all of them." in html
    assert "Confusion matrix of the 150 classes with the most mistakes, of 510 (" in html
    assert html.count("<g><title>class ") > 150  # the page draws that part itself
    pages = [path for path in result.files if "-seed-0-classes" in path.name]
    assert len(pages) == 15
    assert len(rows_of(tmp_path / "many/report/tables/per-class.csv")) == 510


def test_new_report_takes_the_place_of_the_old_as_a_whole(tmp_path: Path) -> None:
    folder = fake_study(tmp_path / "again", SPORTS[:3], contenders=1, epochs=1)
    with reports_undrawn(but={"compare", "curves"}):
        build_report(folder, dpi=40, formats=("png", "pdf"))
        build_report(folder, dpi=40, formats=("svg",))
    kinds = {path.suffix for path in (folder.report / "figures").iterdir()}
    assert kinds == {".svg"}
    with reports_undrawn(but={"compare", "curves"}):
        alone = build_report(folder, dpi=40, formats=())
    page = alone.index.read_text(encoding="utf-8")
    assert not (folder.report / "figures").exists()
    assert 'href="figures/' not in page
    assert "<svg" in page
    assert [p.name for p in folder.path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.usefixtures("undrawn")
def test_report_that_breaks_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from podium.reporting.page import page

    folder = fake_study(tmp_path / "breaks", SPORTS[:3], contenders=1, epochs=1)
    before = build_report(folder).index.read_bytes()

    def fail(*_: Any) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(page, "render_page", fail)
    with pytest.raises(KeyboardInterrupt):
        build_report(folder)
    assert (folder.report / "index.html").read_bytes() == before
    assert [p.name for p in folder.path.iterdir() if p.name.startswith(".")] == []


def test_folder_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    folder = fake_study(tmp_path / "s", SPORTS[:3], contenders=1, epochs=1)
    home = tmp_path / "home"
    home.mkdir()
    (home / "index.html").write_text("<p>mine</p>")
    with pytest.raises(UserError, match="not a Podium report"):
        build_report(folder, out=home)
    assert (home / "index.html").read_text() == "<p>mine</p>"


def test_impossible_options_are_refused(tmp_path: Path) -> None:
    folder = fake_study(tmp_path / "s", SPORTS[:3], contenders=1, epochs=1)
    with pytest.raises(ConfigError, match="lang"):
        build_report(folder, lang="de")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="formats"):
        build_report(folder, formats=("bmp",))
    with pytest.raises(ConfigError, match="dpi"):
        build_report(folder, dpi=1)
    with pytest.raises(ConfigError, match=r"class_scale: .* lower value first"):
        build_report(folder, class_scale=(1, 0.6))


def test_callers_style_is_left_as_it_was_and_figures_do_not_depend_on_it(tmp_path: Path) -> None:
    folder = fake_study(tmp_path / "s", SPORTS[:3], contenders=1, epochs=2)
    build_report(folder, dpi=40, formats=("png", "pdf"))
    first = {p.name: p.read_bytes() for p in (folder.report / "figures").iterdir()}
    with matplotlib.rc_context({"font.size": 30, "axes.grid": True}):
        before = dict(matplotlib.rcParams)
        build_report(folder, dpi=40, formats=("png", "pdf"))
        assert dict(matplotlib.rcParams) == before
    assert {p.name: p.read_bytes() for p in (folder.report / "figures").iterdir()} == first


def test_report_never_imports_torch_nor_pyplot(tmp_path: Path) -> None:
    folder = fake_study(tmp_path / "s", SPORTS[:3], contenders=1, epochs=1)
    code = (
        "import sys; from pathlib import Path; from podium.reporting.build import build_report; "
        "assert 'matplotlib' not in sys.modules; "
        f"build_report(Path({str(folder.path)!r}), dpi=40, formats=('png',)); "
        "import podium.statistics.metrics; "
        "print([m for m in ('torch', 'torchvision', 'matplotlib.pyplot') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"


def test_a_full_disk_leaves_the_report_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import matplotlib.figure

    folder = fake_study(tmp_path / "study", ("golf", "judo"), contenders=1, epochs=2)
    before = build_report(folder, dpi=20, formats=("svg",), helpers=0).index.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(matplotlib.figure.Figure, "savefig", full)
        with pytest.raises(StorageError, match="No space left"):
            build_report(folder, dpi=20, formats=("svg",), helpers=0)
    assert (folder.report / "index.html").read_bytes() == before
    assert not list(folder.path.glob(".report.*"))
