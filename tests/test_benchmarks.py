"""The benchmarks on tiny data: figures come out, and where they belong.

Trainings are measured in processes of their own, as from the command line; most others in this
one, which has imported what takes each process seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

import podium
from benchmarks import (
    accuracy,
    busy,
    common,
    entries,
    gpu,
    limit,
    prediction,
    records,
    scale,
    startup,
    training,
)
from benchmarks.contenders import CONTENDERS, GROUP_MODELS
from benchmarks.prediction_ways import measure_once
from podium.data.indexing import build_index
from podium.results.study import gather
from podium.runs.folder import RunFolder, StudyFolder
from podium.runs.pictures import read_pictures
from podium.runs.predictions import TopPredictions
from podium.runtime.files import write_json
from tests import fake_study
from tests.conftest import write_pictures

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("tiny"), {"train": 8, "valid": 3, "test": 3})


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """A benchmark ends tidily at a SIGTERM; in this process the handler is not to stay."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def run_benchmark(
    name: str, folder: Path, *arguments: str, command: bool = False
) -> tuple[dict[str, Any], str]:
    """The record and the page that a benchmark leaves; by its real command, or its `main`."""
    record, page = folder / "record.json", folder / "page.md"
    given = [*arguments, "--json", str(record), "--out", str(page)]
    if command:
        ended = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}", *given],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        )
        assert ended.returncode == 0, ended.stderr
    else:
        with contextlib.chdir(ROOT):
            assert importlib.import_module(f"benchmarks.{name}").main(given) == 0
    return json.loads(record.read_text()), page.read_text()


def run_here(
    command: Sequence[str | Path],
    log: Path,
    *,
    timeout: float,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> None:
    """`run_logged` of a module of ours, in this process."""
    python, m, name, *given = map(str, command)
    assert (python, m) == (sys.executable, "-m")
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(cwd or ROOT):
        for key, value in (environment or {}).items():
            patch.setenv(key, value)
        assert importlib.import_module(name).main(given) == 0


def rows_of(page: str) -> list[list[str]]:
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line[:1] == "|"]
    return [line for line in lines if "---" not in line[0]]


def test_training_is_timed_between_real_steps(tiny: Path, tmp_path: Path) -> None:
    common.write_section(tmp_path / "page.md", "other", "stays")
    record, page = run_benchmark(
        "training",
        tmp_path,
        *("--data", str(tiny), "--batch-size", "4", "--warmup", "1", "--rounds", "1"),
        *("--only", "paper:simple_resnet", "podium:simple_resnet", "timm", "--seconds", "60"),
        *("--peers-python", str(tmp_path / "none")),
    )
    for name in ("paper:simple_resnet", "podium:simple_resnet"):
        (seen,) = record["values"][name]
        assert seen["steps"] == 5  # 24 images are 6 steps of 4; the first is warm-up
        assert 0.5 < seen["images_per_second"] < 5000
    assert "timm" in record["missing"]
    rows = {row[0]: row for row in rows_of(page)}
    rates = [record["values"][f"{who}:simple_resnet"][0]["images_per_second"]
             for who in ("paper", "podium")]  # fmt: skip
    podium = next(row for row in rows_of(page) if row[0] == "Podium")
    assert float(podium[2]) == pytest.approx(rates[1], abs=0.06)
    assert float(podium[4]) == pytest.approx(rates[1] / rates[0], abs=0.006)
    assert rows["timm train.py"][2] == "not run"
    assert "stays" in page
    assert record["machine"]["torch"] in page


@pytest.mark.skipif(
    not (ROOT / ".venv-peers" / "bin" / "python").is_file(), reason="run `make bench-peers`"
)
def test_a_peer_is_timed_in_its_own_environment(tiny: Path, tmp_path: Path) -> None:
    record, _ = run_benchmark(
        "training",
        tmp_path,
        *("--data", str(tiny), "--batch-size", "4", "--warmup", "1", "--rounds", "1"),
        *("--only", "fastai", "ultralytics", "--seconds", "1"),
    )
    assert set(record["values"]) == {"fastai", "ultralytics"}


def test_the_stopwatch_counts_steps_after_warmup(tmp_path: Path) -> None:
    script = tmp_path / "loop.py"
    script.write_text(
        "import sys, time, torch\n"
        "weight = torch.nn.Parameter(torch.ones(1))\n"
        "optimizer = torch.optim.SGD([weight], lr=0.1)\n"
        "for step in range(100):\n"
        "    time.sleep(1.0 if step < 2 else 0.05)\n"
        "    optimizer.step()\n"
        "sys.exit('not stopped')\n"
    )
    out = tmp_path / "times.json"
    watch = ROOT / "benchmarks" / "stopwatch.py"
    subprocess.run(
        [sys.executable, watch, "--out", out, "--warmup", "2", "--seconds", "99", "--steps", "12",
         "--script", script, "--"],
        check=True,
    )  # fmt: skip
    found = json.loads(out.read_text())
    assert found["steps"] == 10
    assert 0.5 <= found["seconds"] < 1.5  # ten pauses of 0.05 s, none of the first two


def test_time_to_accuracy_of_a_run(tmp_path: Path) -> None:
    folder = tmp_path / "study" / "net" / "seed-3"
    run = RunFolder(folder, "net", 3)
    folder.mkdir(parents=True)
    row = {"lr": 1e-4, "train_loss": 1.0, "train_accuracy": 0.5, "valid_loss": 1.0,
           "images_per_second": 50.0}  # fmt: skip
    run.write_history(
        [
            {**row, "epoch": number, "valid_accuracy": valid, "seconds": 10.0}
            for number, valid in enumerate((0.5, 0.7, 0.65), 1)
        ]
    )
    write_json(run.done, {"model": "simple_resnet", "seconds": 35.0})
    write_json(
        tmp_path / "rates.json",
        {"date": "2026-01-02", "values": {"paper:simple_resnet": [{"images_per_second": 20.0}]}},
    )
    record, page = run_benchmark(
        "accuracy",
        tmp_path,
        *(str(folder), "--goals", "50", "70", "90", "--paper-images", "700"),
        *("--rates", str(tmp_path / "rates.json")),
    )
    (value,) = record["values"]
    # five seconds before the first epoch (features, say) count too
    assert value["seconds_to"] == {"50": 15.0, "70": 25.0, "90": None}
    assert value["paper_seconds"] == 60 * 700 / 20
    assert rows_of(page)[1] == [
        "`study/net/seed-3`", "3", "70.00", "15 s", "25 s", "-", "35 s", "35.0 min", "60.0",
    ]  # fmt: skip


def test_more_runs_join_those_that_are_there(tmp_path: Path) -> None:
    rates = tmp_path / "rates.json"
    write_json(rates, {"date": "2026-01-02", "values": {}})
    row = {"lr": 1e-4, "train_loss": 1.0, "train_accuracy": 0.5, "valid_loss": 1.0,
           "images_per_second": 50.0, "epoch": 1, "seconds": 10.0}  # fmt: skip
    for name, valid, goals in (("a", 0.5, "40"), ("b", 0.95, "90"), ("a", 0.6, "40")):
        run = RunFolder(tmp_path / "study" / name / "seed-0", name, 0)
        run.path.mkdir(parents=True, exist_ok=True)
        run.write_history([{**row, "valid_accuracy": valid}])
        write_json(run.done, {"model": "simple_resnet", "seconds": 10.0})
        record, page = run_benchmark(
            "accuracy", tmp_path, str(run.path), "--append", "--goals", goals,
            "--paper-images", "9", "--rates", str(rates),
        )  # fmt: skip
    assert record["settings"]["goals"] == [40, 90]
    # a run that is measured again replaces its row; a goal that nobody asked of a run is empty
    assert [row[:5] for row in rows_of(page)[1:]] == [
        ["`study/b/seed-0`", "1", "95.00", "", "10 s"],
        ["`study/a/seed-0`", "1", "60.00", "10 s", "-"],
    ]


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(common.BenchmarkError, match="no finished run"):
        accuracy.read_run(tmp_path / "net" / "seed-0", [50])


def test_prediction_by_both_ways(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction, "run_logged", run_here)
    record, page = run_benchmark(
        "prediction",
        tmp_path,
        *("--data", str(tiny), "--models", "simple_resnet", "--rounds", "1", "--images", "20"),
    )
    assert {name: seen[0]["images"] for name, seen in record["values"].items()} == dict.fromkeys(
        [f"{way}:simple_resnet" for way in ("plain", "podium", "plain-memory", "podium-memory")], 20
    )
    assert [float(row[4]) for row in rows_of(page)[1:]][0::2] == [1.0, 1.0]


def test_prediction_with_one_kind_of_input(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {"images_per_second": 1.0, "images": 20, "side": 32}
    monkeypatch.setattr(
        prediction, "interleaved", lambda names, *_: {name: [seen] for name in names}
    )
    record, _ = run_benchmark(
        "prediction",
        tmp_path,
        *("--data", str(tiny), "--models", "simple_resnet", "--rounds", "1", "--images", "20"),
        *("--inputs", "memory"),
    )
    assert list(record["values"]) == ["plain-memory:simple_resnet", "podium-memory:simple_resnet"]


def test_an_export_is_measured_and_scored(
    tiny: Path, small_run: RunFolder, tmp_path: Path, pictures: Path
) -> None:
    """In this process: the whole command starts some twenty of them, and exports six files."""
    podium.export(small_run, to=tmp_path / "simple_resnet", rounds=0)
    recorded = small_run.read_predictions("test")
    right = (recorded.predicted == recorded.labels).mean()
    given = argparse.Namespace(
        data=str(pictures), runs=[small_run.path], split="test", images=36, exports=tmp_path
    )
    values = {}
    for way in ("plain-memory", "onnx", "onnx-memory", "predictor"):
        values[f"{way}:simple_resnet"] = [measure_once(way, "simple_resnet", given)]
    values["plain:simple_resnet"] = values["plain-memory:simple_resnet"]
    for seen in values.values():
        assert seen[0]["images"] == 36
        assert seen[0]["top1"] == pytest.approx(right, abs=1 / 36 + 1e-9)
        assert seen[0]["images_per_second"] > 0
    settings = {"split": "test", "rounds": 1, "batch_size": 32}
    rows = rows_of(prediction.render({"values": values, "settings": settings}))
    assert rows[0][-1] == "top-1"
    assert [row[1] for row in rows[1:]][1:4] == [
        "ONNX, fp32", "ONNX, fp32, images in memory", "Podium's predictor, PyTorch fp32",
    ]  # fmt: skip
    assert rows[2][5] == f"{100 * right:.2f} %"


def test_scale_measures_links_and_classes(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scale, "run_logged", run_here)
    record, page = run_benchmark(
        "scale",
        tmp_path,
        *("--data", str(tiny), "--scratch", str(tiny.parent), "--images", "60"),
        *("--entries", "4000", "--classes", "2", "--predictions", "20", "--predicted"),
    )
    assert set(record["values"]) == {
        "index:60", "again:60", "open-first:4000", "open:4000", "worker:4000", "step:2",
        "predictions:2", "metrics:2", "report:2",
    }  # fmt: skip
    assert record["values"]["worker:4000"]["sent_bytes"] < 4000
    assert all(value["peak_mib"] > 20 for value in record["values"].values()), record
    assert len(rows_of(page)) == 12
    assert not list(tiny.parent.glob("podium-scale-*"))


def test_predictions_drawn_in_parts_are_those_of_a_finished_study(tmp_path: Path) -> None:
    entries.fill(444, tmp_path / "study")()
    results = gather(StudyFolder(tmp_path / "study"))
    assert [run.test.paths[443] for run in results.runs] == ["test/class-0221/000001.jpg"] * 2
    assert all(isinstance(run.test, TopPredictions) for run in results.runs)
    assert all(0.3 < run.scores.accuracy < 1 for run in results.runs)


def test_the_step_on_cached_images_beside_memory(tiny: Path, tmp_path: Path) -> None:
    record, page = run_benchmark(
        "data_path",
        tmp_path,
        *("--data", str(tiny), "--batch-size", "4", "--rounds", "2", "--steps", "1"),
        *("--cases", "autoaugment@64"),
        command=True,
    )
    names = ["memory", "autoaugment, streaming", "autoaugment, cached"]
    assert list(record["values"]) == [f"{name}@64" for name in names]
    assert all(len(times) == 2 and min(times) > 0 for times in record["values"].values())
    assert [row[0] for row in rows_of(page)[1:]] == [f"64 px, {name}" for name in names]
    assert rows_of(page)[1][-1] == "100.0 %"
    assert "Cache at 64 px" in page


def test_starts_are_counted_from_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a study of few classes: what is timed is the command's own affair."""
    made = fake_study.fake_study
    monkeypatch.setattr(
        fake_study,
        "fake_study",
        lambda root, names, **more: made(root, names[:3], **{**more, "contenders": 1}),
    )
    assert len(startup._times(2, [sys.executable, "-S", "-c", ""])) == 2  # the first not counted
    monkeypatch.setattr(startup, "_times", lambda _, words: [startup._seconds(words)])
    record, page = run_benchmark("startup", tmp_path, "--only", "report", "--repeat", "1")
    opened, drawing, whole = record["values"]["report"].values()
    assert 0 < opened[0] < drawing[0] < whole[0]
    assert [row[-1] for row in rows_of(page)] == ["n", "1", "1", "1"]


def test_links_are_as_many_as_asked(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("links") / "images"
    scale.link_images(sorted(tiny.rglob("*.png")), root, 1003)
    files = [path for path in root.rglob("*") if path.is_file()]
    assert len(files) == 1003
    assert {path.relative_to(root).parts[0] for path in files} == {"train", "valid", "test"}


def test_a_processor_kept_to_avx2_has_records_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "_cpuinfo", lambda: {"flags": "avx2 avx512f avx512_bf16"})
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    assert common.record_file("training").name == "training-avx512_bf16.json"
    assert "limited" not in common.describe_machine()
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    assert common.record_file("training").name == "training-avx2.json"
    assert common.describe_machine()["limited"] == "by ATEN_CPU_CAPABILITY, it has newer ones"


def test_a_section_is_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Speed\n\n<!-- benchmark: a -->\nold\n<!-- end: a -->\n\nwords\n")
    common.write_section(page, "a", r"new \1")
    common.write_section(page, "b", "more")
    common.write_section(page, "a on avx2", "older")
    assert page.read_text() == (
        "# Speed\n\n<!-- benchmark: a -->\nnew \\1\n<!-- end: a -->\n\n"
        "<!-- benchmark: a on avx2 -->\nolder\n<!-- end: a on avx2 -->\n\nwords\n\n"
        "<!-- benchmark: b -->\nmore\n<!-- end: b -->\n"
    )


def test_what_fails_says_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('no such thing'); raise SystemExit(3)"]
    with pytest.raises(common.BenchmarkError, match=r"ended with 3[\s\S]*no such thing"):
        common.run_logged(command, tmp_path / "log", timeout=60)


def test_operations_are_those_of_resnet18s_paper() -> None:
    # He et al. (2016): 1.8e9 multiply-adds forwards at 224 px; backwards twice as many, but for
    # the first layer, whose input needs no gradient
    assert limit.flops_per_image("resnet18", 224, 1000) == pytest.approx(6 * 1.8e9, rel=0.05)
    assert limit.matrix_rate(torch.float32, side=64, seconds=0.01) > 1e6


def test_every_group_has_one_base_and_podium() -> None:
    groups = {contender.group for contender in CONTENDERS.values()}
    assert groups == set(GROUP_MODELS)
    for group in groups:
        inside = [contender for contender in CONTENDERS.values() if contender.group == group]
        assert sum(contender.base for contender in inside) == 1
        assert any(contender.label == "Podium" for contender in inside)


def test_the_gpu_benchmark_runs_at_toy_size_without_one(tiny: Path, tmp_path: Path) -> None:
    """Its figures mean nothing here; that each stands beside what was expected does."""
    sections = ["machine", "fast", "data"]
    toy = ["--toy", "--device", "cpu", "--out", str(tmp_path), "--data", str(tiny)]
    assert gpu.main([*sections, *toy]) == 0
    for section in sections:
        rows = json.loads((tmp_path / f"{section}.json").read_text())["rows"]
        assert rows
        assert all(set(row) == {"what", "value", "unit", "expected"} for row in rows)
        assert all(row["value"] > 0 for row in rows)


@pytest.mark.usefixtures("undrawn")
def test_cells_of_a_study_are_packed_without_weights_and_pictures(
    tiny: Path, tmp_path: Path
) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(
        "name: small\ndata: demo\ndefaults: {epochs: 1, image_size: 32, batch_size: 8}\n"
        "contenders:\n  plain: {model: simple_resnet}\n  other: {model: simple_resnet}\n"
    )
    given = ["--device", "cpu", "--study", str(study), "--data", str(tiny), "--workers", "0"]
    given += ["--contenders", "plain", "--seeds", "3", "--out", str(tmp_path / "out")]
    assert gpu.main(["cells", *given, "--runs", str(tmp_path / "runs")]) == 0
    with tarfile.open(tmp_path / "out" / "cells.tar.gz") as archive:
        names = {Path(name).name: name for name in archive.getnames()}
    assert {"done.json", "history.csv", "predictions-test.parquet", "heat.npz"} <= set(names)
    assert names["done.json"] == "plain-3/small/plain/seed-3/done.json"
    assert not [name for name in names if name.endswith((".ckpt", ".safetensors", ".jpg", ".png"))]
    assert "explanations-test.parquet" not in names
    heat = np.load(tmp_path / "runs" / Path(names["heat.npz"]))
    stored = read_pictures(tmp_path / "runs/plain-3/small/plain/seed-3/explanations-test.parquet")
    assert list(heat["keys"]) == list(stored)
    assert heat["heat"].shape == (len(stored), 64, 64)

    # what was left out comes back from the images
    with tarfile.open(tmp_path / "out" / "cells.tar.gz") as archive:
        archive.extractall(tmp_path / "kept", filter="data")
    folder = records.restore(
        tmp_path / "kept" / "plain-3" / "small", build_index(tiny), tmp_path / "restored"
    )
    assert folder.read_thumbnails()
    (run,) = [one for one in folder.runs(folder.read_spec()) if one.is_done()]
    again = read_pictures(run.explanations)
    assert list(again) == list(stored)
    for key, jpeg in again.items():
        one, other = (
            np.asarray(Image.open(io.BytesIO(x)), np.float32) for x in (jpeg, stored[key])
        )
        assert np.abs(one - other).mean() < 12


def test_training_beside_others_is_told_by_how_threads_wait() -> None:
    rates = {"PyTorch's default | small | 0": [30.0, 10.0], "one thread | small | 0": [7.0]}
    record = {
        "settings": {"ways": ["PyTorch's default", "one thread"], "cases": ["small"],
                     "beside": [0, 2], "programs": [], "cores": 2},
        "values": {name: [{"images_per_second": rate} for rate in found]
                   for name, found in rates.items()},
    }  # fmt: skip
    head, default, one = rows_of(busy.render(record))
    assert head == ["how threads wait", "alone", "beside 2 busy processes"]
    assert default == ["PyTorch's default", "20.0 (10.0 to 30.0)", "not measured"]
    assert one[1] == "7.0"
    assert busy._train("small", seconds=0.01) > 1


def test_what_is_left_beside_others_is_told_as_part_of_the_fair_share(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program's pace is measured as by `benchmarks.training`, whose test is above."""

    def measured(*_: Any) -> dict[str, float]:
        return {"images_per_second": 30.0 / (1 + len(psutil.Process().children()))}

    monkeypatch.setattr(training, "measure", measured)
    before = len(psutil.Process().children())
    record, page = run_benchmark(
        "busy",
        tmp_path,
        *("--programs", "paper:simple_resnet", "timm", "--ways", "--rounds", "1"),
        *("--data", str(tiny), "--batch-size", "4", "--warmup", "1", "--seconds", "60"),
        *("--beside", "0", "2", "--peers-python", str(tmp_path / "none")),
    )
    alone, beside = (
        record["values"][f"paper:simple_resnet | {n}"][0]["images_per_second"] for n in (0, 2)
    )
    assert beside / alone == pytest.approx((1 + before) / (3 + before))  # two did run
    # of two cores two busy processes leave one: half of the pace is what is fair
    share = record["settings"]["cores"] / (record["settings"]["cores"] + 2)
    (_, row), (_, timm) = rows_of(page)[:2], rows_of(page)[2:]
    assert row[1] == f"{alone:.1f}"
    assert row[2].endswith(f", {100 * beside / (share * alone):.0f} %")
    assert timm[1:] == ["not measured", "not measured"]
