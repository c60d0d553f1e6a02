"""Model cards: their figures against the files, their front matter against the Hub's library."""

from __future__ import annotations

import functools
import html
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData
from markdown_it import MarkdownIt

import podium
from podium.auditing import Audit, DuplicatePair, LabelFindings, write_audit
from podium.cli.app import main
from podium.data.fetch import DATASETS
from podium.deploy.publish.card_metadata import Dataset, check_licence, dataset_of
from podium.deploy.publish.card_subject import read_subject
from podium.errors import ConfigError, RunFolderError
from podium.reporting.markdown import escape_markdown
from podium.reporting.words.labels import labels
from podium.reporting.words.verdict_words import headline
from podium.runs.folder import RunFolder, StudyFolder
from podium.runtime.files import read_json, write_json
from podium.statistics.calibration import calibration, fit_temperature
from podium.statistics.metrics import per_class, scores, wilson_interval
from tests.fake_study import ODD_NAMES, fake_study

SPORTS = tuple(f"sport {number:02d}" for number in range(12))
PAGE = MarkdownIt("commonmark", {"html": True}).enable("table")


def with_weights(study: StudyFolder) -> StudyFolder:
    """Weights of a sort: a card reads none, but a run without any is not chosen."""
    for run in study.runs(study.read_spec()):
        run.best.write_bytes(b"weights")
    return study


def made(root: Path, *, names: tuple[str, ...] = SPORTS, **options: Any) -> StudyFolder:
    return with_weights(fake_study(root, names, **{"epochs": 3, "per_class": 8, **options}))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    folder = made(tmp_path_factory.mktemp("cards") / "sports", contenders=5)
    pair = DuplicatePair(
        "near", "train/x/1.jpg", "test/class-000/1.jpg", "train", "test", "x", "y", 3, 0.97
    )  # fmt: skip
    totals = {"images": 900, "classes": 12, "greyscale": 0, "skipped": 0, "train": 700,
              "valid": 96, "test": 96}  # fmt: skip
    audit = Audit(
        fingerprint=folder.read_data()["fingerprint"], root="/somewhere/sports", totals=totals,
        class_counts={"train": {"sport 00": 60}}, pairs=(pair,),
        groups=(("train/x/1.jpg", "test/class-000/1.jpg"),),
        labels=LabelFindings((), 17, 0.9, "probe"),
        settings={"max_distance": 10, "min_similarity": 0.8, "tiny": 32, "extreme_shape": 4.0},
    )  # fmt: skip
    write_audit(audit, folder.audit)
    return folder


@pytest.fixture(scope="module")
def written(study: StudyFolder) -> Callable[..., str]:
    """The card of a contender of `study`: written once for all tests that read it."""

    @functools.cache
    def write(contender: str, **options: str) -> str:
        return podium.card(study.run(contender, 0), **options)  # type: ignore[arg-type]

    return write


def head_of(markdown: str) -> ModelCardData:
    """The front matter, as the Hub's library reads it."""
    data = ModelCard(markdown).data
    assert isinstance(data, ModelCardData)
    return data


def text_of(markdown: str) -> str:
    """What a reader sees: the body as HTML, without its tags."""
    body = ModelCard(markdown).text
    seen = html.unescape(re.sub(r"<[^>]*>", " ", PAGE.render(body)))
    return " ".join(seen.split())


def test_the_front_matter_is_what_the_files_say(
    study: StudyFolder, written: Callable[..., str], tmp_path: Path
) -> None:
    run = study.run("resnet18-finetuned", 0)
    told = written("resnet18-finetuned", license="MIT", dataset="sports100")
    (tmp_path / "README.md").write_text(told, encoding="utf-8")
    data = ModelCard.load(tmp_path / "README.md").data
    assert isinstance(data, ModelCardData)
    assert data.license == "mit"
    assert data.library_name == "podium"
    assert data.pipeline_tag == "image-classification"
    assert data.base_model == "timm/resnet18.tv_in1k"
    assert {"podium", "safetensors", "image-classification"} <= set(data.tags or ())
    assert data.datasets == ["HES-XPLAIN/SportsImageClassification"]
    score = scores(run.read_predictions("test"))
    assert data.eval_results is not None
    accuracy, f1 = data.eval_results
    assert (accuracy.metric_type, accuracy.metric_value) == ("accuracy", score.accuracy)
    low, high = wilson_interval(score.correct, score.n)
    assert accuracy.metric_args == {"images": score.n, "low": low, "high": high}
    assert (f1.metric_type, f1.metric_value) == ("f1", score.macro_f1)
    assert {one.verified for one in (accuracy, f1)} == {False}
    assert {one.dataset_split for one in (accuracy, f1)} == {"test"}
    assert data.model_name == "ResNet-18, fine-tuned"


def test_no_licence_and_no_base_are_claimed_of_a_model_from_scratch(
    written: Callable[..., str],
) -> None:
    told = written("simple_resnet")
    data = head_of(told)
    assert data.license is None
    assert data.base_model is None
    assert data.datasets is None
    seen = text_of(told)
    assert "No licence has been stated for these weights yet" in seen
    assert "They started from" not in seen
    assert "oliveira2023" in seen  # the paper's own model


def test_terms_of_base_and_images_are_named(written: Callable[..., str]) -> None:
    told = text_of(written("resnet18-finetuned", license="MIT", dataset="sports100"))
    assert "torchvision publishes them with its code under BSD-3-Clause" in told
    assert "(100 Sports Image Classification) are under CC0-1.0" in told


def test_figures_are_those_of_the_stored_predictions(
    study: StudyFolder, written: Callable[..., str]
) -> None:
    run = study.run("simple_resnet", 0)
    told, test = text_of(written("simple_resnet")), run.read_predictions("test")
    score = scores(test)
    low, high = wilson_interval(score.correct, score.n)
    assert (
        f"Accuracy {100 * score.accuracy:.2f} % ({score.correct} of {score.n}; "
        f"95 % interval {100 * low:.1f}–{100 * high:.1f} %)"
    ) in told
    assert f"Macro F1 {100 * score.macro_f1:.2f} %" in told
    assert f"Top-5 accuracy {100 * (score.top5_accuracy or 0):.2f} %" in told
    temperature = fit_temperature(run.read_predictions("valid"))
    assert f"by the temperature {temperature:.3f}" in told
    before, after = calibration(test), calibration(test, temperature)
    row = f"Calibration error (ECE) {100 * before.ece.value:.1f} %"
    assert row in told
    assert f"{100 * after.ece.value:.1f} % ({100 * after.ece.low:.1f}–" in told
    assert f"{after.nll.value:.3f} ({after.nll.low:.3f}–{after.nll.high:.3f})" in told
    weakest = min(per_class(test), key=lambda one: (one.f1, one.recall, one.precision, one.name))
    figures = f"{weakest.precision:.2f} {weakest.recall:.2f} {weakest.f1:.2f}"
    assert f"Test images {weakest.name} {figures}" in told
    assert f"The 10 of {len(SPORTS)} with the lowest F1" in told


def test_rivals_are_judged_as_compare_judges_them(
    study: StudyFolder, written: Callable[..., str]
) -> None:
    own = "simple_resnet"
    told = text_of(written(own))
    verdicts = podium.compare(study.path)
    for standing in verdicts.standings:
        if standing.name != own:
            pair = verdicts.pair(own, standing.name)
            size = f"{abs(100 * pair.joint.value):.1f} points"
            words = {
                "equivalent": "are equivalent: they differ by less than",
                "undecided": "do not differ significantly",
            }
            won = "is more accurate than" if pair.winner == own else "is less accurate than"
            assert words.get(pair.verdict, won) in told
            assert size in told
    assert headline(verdicts, labels("en")) in told
    assert "One seed each: the verdicts are about these trained models" in told
    assert f"adjusted for all {len(verdicts.pairs)} comparisons" in told


def test_the_audit_is_told_and_leaks_are_a_limit(
    study: StudyFolder, written: Callable[..., str]
) -> None:
    run = study.run("simple_resnet", 0)
    told, test = text_of(written("simple_resnet")), run.read_predictions("test")
    right = test.predicted == test.labels
    kept = int(right.sum()) - int(right[0])  # the leaked image is the first
    assert "1 of 96 test images (1.0 %) have an identical file or a likely" in told
    assert f"the accuracy in % is {100 * kept / (len(test) - 1):.2f} (" in told
    assert (
        "1 of the 96 test images have an identical file or a likely near-duplicate in train" in told
    )
    assert "17 of the 900 images are mislabelled" in told
    assert "Train 1,182 12 60 to 137" in told
    assert "3f3f3f3f" in told
    assert "/somewhere" not in told


def test_seeds_are_told_with_their_spread(tmp_path: Path) -> None:
    folder = made(tmp_path / "seeds", contenders=2, seeds=(0, 1, 2))
    told = text_of(podium.card(folder.run("simple_resnet", 1).path))
    found = [100 * scores(folder.run("simple_resnet", seed).read_predictions("test")).accuracy
             for seed in (0, 1, 2)]  # fmt: skip
    assert "SimpleResNet, seed 1" in told
    assert (
        f"Accuracy, mean ± sd of 3 seeds {np.mean(found):.2f} ± {np.std(found, ddof=1):.2f} %"
    ) in told
    assert "Over 3 seeds: the verdicts are about the recipes" in told
    assert "One seed was trained" not in told


def test_hostile_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    names = (*ODD_NAMES, "a|b|c", "`code` ``", "# head", "---", "![x](javascript:alert(1))",
             "<img src=x onerror=alert(1)>", "&lt;b&gt;", "1. first", "visit www.example.org",
             "license: mit\n---\n<h1>", "a@b.example", "bidi \u202e gnp")  # fmt: skip
    folder = made(tmp_path / "odd", names=names, contenders=2, per_class=3)
    spec = yaml.safe_load(folder.spec.read_text(encoding="utf-8"))
    label = "x\n---\nlicense: mit\n```\n<script>"
    spec["contenders"]["simple_resnet"]["label"] = label
    folder.spec.write_text(yaml.safe_dump(spec), encoding="utf-8")
    told = podium.card(folder.run("simple_resnet", 0).path)
    card = ModelCard(told)
    assert head_of(told).license is None
    assert head_of(told).model_name == label
    body = PAGE.render(card.text)
    tags = {tag.lower() for tag in re.findall(r"<\s*/?([a-zA-Z][a-zA-Z0-9]*)", body)}
    assert tags <= {"h1", "h2", "h3", "p", "strong", "table", "thead", "tbody", "tr", "th", "td",
                    "ul", "li", "pre", "code", "details", "summary", "blockquote"}  # fmt: skip
    assert body.count("<h1>") == 1
    rows = re.findall(r"<tr>(.*?)</tr>", body, re.S)
    cells = [[html.unescape(one) for one in re.findall(r"<td[^>]*>(.*?)</td>", row, re.S)]
             for row in rows]  # fmt: skip
    firsts = {row[0] for row in cells if len(row) == 6}
    for name in names:
        shown = " ".join(name.replace("\u202e", "\ufffd").split())
        assert shown in firsts, name
    assert "\u202e" not in told


@pytest.mark.parametrize(
    "text",
    [
        "a_b*c",
        "x<y>",
        "[a](b)",
        "=1+1",
        "- x",
        "+ x",
        "12) x",
        "a & b",
        "~~a~~",
        "$x$",
        "\\",
        "![a](b)",
        "http://a.example",
        "    four",
    ],
)
def test_escaped_text_reads_as_it_was(text: str) -> None:
    for shell in ("{}\n", "| {} |\n| --- |\n"):
        seen = PAGE.render(shell.format(escape_markdown(text)))
        assert html.unescape(re.sub(r"</?(p|table|thead|tr|th)>", "", seen)).strip() == text.strip()
    assert not re.search(r"(?<!\\):?//", escape_markdown("http://a.example").replace("\\://", ""))


def test_a_hundred_classes_are_folded_and_more_are_capped(tmp_path: Path) -> None:
    names = tuple(f"class {number}" for number in range(240))
    folder = made(tmp_path / "many", names=names, contenders=1, per_class=2)
    run = folder.run("simple_resnet", 0)
    told = podium.card(run.path)
    summary = "200 of 240 classes, weakest first; model.json lists all of them"
    assert f"<summary>{summary}</summary>" in told
    assert "no other finished contender" in told
    folded = told[told.index(summary) :]
    assert folded[: folded.index("</details>")].count("\n| class ") == 200


def test_a_run_outside_a_study_says_what_is_missing(study: StudyFolder, tmp_path: Path) -> None:
    alone = tmp_path / "kept" / "winner" / "seed-0"
    original = study.run("simple_resnet", 0)
    shutil.copytree(original.path, alone)
    write_config(alone, {"model": "simple_resnet", "epochs": 32})
    told = text_of(podium.card(alone))
    assert "is not in a study folder" in told
    score = scores(original.read_predictions("test"))
    assert f"{score.correct} of {score.n} test images correct" in told
    assert "Among its rivals" not in told
    (alone / "predictions-test.parquet").unlink()
    write_json(alone / "model.json", description(SPORTS))
    told = podium.card(alone)
    assert head_of(told).eval_results is None
    assert "There is no file of test predictions" in text_of(told)
    assert "accuracy" not in "".join(told.split("\n---\n")[0])
    assert all(name in told for name in SPORTS)
    (alone / "done.json").unlink()
    assert "The training is not finished" in text_of(podium.card(alone))


def write_config(run: Path, recipe: dict[str, Any]) -> None:
    values = {"contender": "winner", "seed": 0, "model_used": recipe["model"], "recipe": recipe}
    (run / "config.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")


def description(names: tuple[str, ...]) -> dict[str, Any]:
    return {"format": 1, "model": "simple_resnet", "class_names": list(names), "image_size": 128,
            "mean": None, "std": None}  # fmt: skip


def test_a_file_of_ones_own_weights_gives_no_path_away(study: StudyFolder, tmp_path: Path) -> None:
    alone = tmp_path / "kept" / "winner" / "seed-0"
    shutil.copytree(study.run("simple_resnet", 0).path, alone)
    recipe = {"model": "resnet18", "epochs": 3, "weights": "/home/someone/secret/start.pth"}
    write_config(alone, recipe)
    done = read_json(alone / "done.json")
    write_json(alone / "done.json", {**done, "pretrained_source": "start.pth", "model": "resnet18"})
    told = podium.card(alone)
    assert "secret" not in told
    assert "weights: start.pth" in told
    assert "look up the terms" in text_of(told)
    assert head_of(told).base_model is None


def test_data_sets_are_named_where_they_are_known(tmp_path: Path) -> None:
    folder = made(tmp_path / "by-name", contenders=1)
    spec = yaml.safe_load(folder.spec.read_text(encoding="utf-8"))
    folder.spec.write_text(yaml.safe_dump({**spec, "data": {"path": "sports100"}}), "utf-8")
    subject = read_subject(folder.run("simple_resnet", 0), labels("en"))
    # a folder that is only called so is not taken for the known set
    assert dataset_of(subject, None) == Dataset()
    assert dataset_of(subject, "me/birds") == Dataset("me/birds")
    with pytest.raises(ConfigError, match="--dataset 'a b'"):
        dataset_of(subject, "a b")
    known = {"train": {"a": 13_492}, "valid": {"a": 500}, "test": {"a": 500}}
    write_json(folder.data, {**folder.read_data(), "splits": known})
    subject = read_subject(folder.run("simple_resnet", 0), labels("en"))
    sports = Dataset("HES-XPLAIN/SportsImageClassification", DATASETS["sports100"])
    assert dataset_of(subject, None) == sports
    assert dataset_of(subject, sports.hub_id) == dataset_of(subject, "sports100") == sports


def test_licences_are_ids() -> None:
    assert check_licence("Apache-2.0") == ("apache-2.0", "")
    assert check_licence("llama3") == ("llama3", "")
    assert "did you mean apache-2.0?" in check_licence("apache2.0")[1]
    for wrong in ("", "my own licence", "mit\n---", "<b>", "x" * 99):
        with pytest.raises(ConfigError, match="--license"):
            check_licence(wrong)


def test_portuguese_is_whole(study: StudyFolder, written: Callable[..., str]) -> None:
    told = written("resnet18-finetuned", lang="pt")
    seen = text_of(told)
    assert "Um classificador de imagens de 12 classes" in seen
    english = {labels("en")(key) for key in ("card_results", "card_limits", "card_protocol",
                                             "card_licence", "card_limit_people")}  # fmt: skip
    assert not [one for one in english if f"{one} " in seen]
    with pytest.raises(ConfigError, match="lang"):
        podium.card(study.run("simple_resnet", 0).path, lang="fr")


def test_the_command_writes_beside_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made(tmp_path / "s", contenders=2)
    for run, valid in zip(folder.runs(folder.read_spec()), (0.5, 0.6), strict=True):
        write_json(run.done, {**run.read_done(), "valid_accuracy": valid})
    best = folder.run("simple_resnet-autoaugment", 0)
    assert main(["card", str(folder.path), "--license", "cc0-1.0"]) == 0
    said = capsys.readouterr()
    assert "best on the validation images" in said.err
    written = best.path / "README.md"
    assert str(written) in said.out
    assert head_of(written.read_text(encoding="utf-8")).license == "cc0-1.0"
    assert main(["card", str(best.path)]) == 0  # its own card is replaced
    assert "choose one with --license" in capsys.readouterr().err
    assert head_of(written.read_text(encoding="utf-8")).license is None
    assert main(["card", str(best.path), "--to", "-", "--repo-id", "me/sports"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("---\n")
    assert 'podium.fetch_run("me/sports")' in printed
    written.write_text("# my notes", encoding="utf-8")
    assert main(["card", str(best.path)]) == 2
    assert written.read_text(encoding="utf-8") == "# my notes"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "does not exist"),
        (["{run}", "--license", "no such thing"], "--license"),
        (["{run}", "--dataset", "a b c"], "--dataset"),
        (["{run}", "--lang", "fr"], "expected 'en' or 'pt'"),
        (["{run}", "--to", "{tmp}"], "is a folder"),
        (["{run}", "--repo-id", "nobody"], "expected OWNER/NAME"),
    ],
)
def test_mistakes_end_with_two(
    arguments: list[str], said: str, study: StudyFolder, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    places = {"run": str(study.run("simple_resnet", 0).path), "tmp": str(tmp_path)}
    assert main(["card", *(word.format(**places) for word in arguments)]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_damaged_recipe_is_a_mistake_in_words(study: StudyFolder, tmp_path: Path) -> None:
    alone = tmp_path / "kept" / "winner" / "seed-0"
    shutil.copytree(study.run("simple_resnet", 0).path, alone)
    write_config(alone, {"model": "simple_resnet", "epochs": -1})
    with pytest.raises(RunFolderError, match="not a recipe that this Podium can read"):
        podium.card(RunFolder(alone, "winner", 0))


def test_a_card_of_a_finished_study_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys, podium; podium.card(sys.argv[1]); "
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    run = made(tmp_path / "one", contenders=1).run("simple_resnet", 0).path
    subprocess.run([sys.executable, "-c", code, str(run)], check=True)


def test_the_card_of_a_trained_run_matches_its_record(small_run: RunFolder) -> None:
    told = podium.card(small_run)
    done = json.loads(small_run.done.read_text(encoding="utf-8"))
    first = (head_of(told).eval_results or [])[0]
    assert first.metric_value == done["test_accuracy"]
    assert "circle" in told
    assert str(small_run.path.parents[2]) not in told
