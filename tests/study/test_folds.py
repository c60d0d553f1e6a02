"""Cross-validation: folds through the real command, pooled, and the model that is used after."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

import podium
from podium.cli.app import main
from podium.config.settings import RunSpec
from podium.data.cache import cache_pixels
from podium.data.indexing import build_index, index_of
from podium.data.parts import each_index, fold_index
from podium.deploy.predictor import load_predictor
from podium.errors import ConfigError, DataError, RunFolderError
from podium.evaluation.ensemble import Ensemble
from podium.evaluation.gradcam import grad_cam
from podium.evaluation.trained import load_run
from podium.results.study import gather
from podium.runs.find import find_runs
from podium.runs.folder import RunFolder, StudyFolder
from podium.runs.ledger import read_scorings, rescorings
from podium.runtime.events import Event, RunDone, RunStarted
from podium.statistics.intervals import share_interval
from podium.statistics.losses import nll
from podium.statistics.scoring import ACCURACY
from podium.statistics.table import read_table
from podium.study.cells import cells_of, chosen
from podium.study.closing import mean_history
from podium.study.study import Study
from podium.training.refit import Refit, refit_after
from tests.conftest import StopAfter, reports_undrawn, write_pictures

pytestmark = pytest.mark.usefixtures("undrawn")

DEFAULTS = {"epochs": 2, "image_size": 32, "batch_size": 16, "lr": 1e-3}


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 pictures a class of three classes, in no splits."""
    return write_pictures(tmp_path_factory.mktemp("flat"), {"": 16})


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A linear probe on the features of a network that has not learned anything."""
    file = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save(podium.build_model("resnet18", 3, seed=5).module.state_dict(), file)
    frozen = {"model": "resnet18", "weights": str(file), "freeze": "backbone"}
    return {**frozen, "linear_probe": True, "epochs": 1}


def a_study(folder: Path, images: Path, **changes: Any) -> Path:
    data = {"path": str(images), "folds": 2, **changes.pop("data", {})}
    study = {
        "name": "crossed",
        "data": data,
        "defaults": DEFAULTS,
        "contenders": {"plain": {"model": "simple_resnet"}},
        **changes,
    }
    path = folder / "crossed.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return path


def run(study: Path, *words: str) -> int:
    place = ["--runs", str(study.parent / "runs"), "--workers", "0", "--precision", "fp32"]
    return main(["run", str(study), *place, "--no-audit", *words])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, flat: Path) -> Path:
    """A whole study that the command ran; tests that change it take a copy."""
    study = a_study(tmp_path_factory.mktemp("trained"), flat)
    told = io.StringIO()
    with reports_undrawn(), contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
        assert run(study) == 0
    (study.parent / "told.txt").write_text(told.getvalue(), encoding="utf-8")
    return study


@pytest.fixture(scope="module")
def averaged(tmp_path_factory: pytest.TempPathFactory, flat: Path) -> StudyFolder:
    """Two repeats, whose final model is an ensemble of mirrored members."""
    recipe = {"model": "simple_resnet", "epochs": 1, "flip_test": True}
    study = a_study(
        tmp_path_factory.mktemp("averaged"),
        flat,
        data={"repeats": 2},
        final_model="ensemble",
        contenders={"plain": recipe},
    )
    with reports_undrawn():
        assert run(study) == 0
    return StudyFolder(study.parent / "runs" / "crossed")


def folder_of(study: Path) -> StudyFolder:
    return StudyFolder(study.parent / "runs" / "crossed")


def test_folds_are_scikit_learns_and_test_every_image_once(flat: Path) -> None:
    index = build_index(flat, folds=4, repeats=2, split_seed=3)
    pool = index.splits["test"]
    assert list(index.splits) == ["test"]
    assert len(pool) == 48
    oracle = StratifiedKFold(4, shuffle=True, random_state=3).split(pool.labels, pool.labels)
    parts = list(each_index(index))
    assert len(parts) == 8
    for part, (_, tested) in zip(parts, oracle, strict=False):
        assert part.splits["test"].paths == tuple(pool.paths[row] for row in tested)
    for repeat in (parts[:4], parts[4:]):
        tested_by = Counter(path for part in repeat for path in part.splits["test"].paths)
        assert set(tested_by) == set(pool.paths)
        assert set(tested_by.values()) == {1}
    for part in parts:
        found = [set(split.paths) for split in part.splits.values()]
        assert sum(map(len, found)) == len(set.union(*found)) == 48
        assert part.class_counts("train") == {"circle": 11, "noise": 11, "stripes": 11}
        assert part.class_counts("valid") == {"circle": 1, "noise": 1, "stripes": 1}
        assert part.part_of is not None
        assert part.part_of.whole is index
        for name, split in part.splits.items():
            assert split.paths == tuple(pool.paths[row] for row in part.part_of.rows[name])
    assert parts[0].splits["test"].paths != parts[4].splits["test"].paths
    assert len({part.fingerprint for part in (*parts, index)}) == 9
    assert build_index(flat, folds=4, repeats=2, split_seed=4).fingerprint != index.fingerprint


def test_the_splits_of_the_source_are_pooled_and_that_is_told(pictures: Path) -> None:
    index = build_index(pictures, folds=3)
    assert len(index.splits["test"]) == 3 * (24 + 9 + 12)
    assert index.notices[-1] == (
        "3 folds of 135 images: every image is tested once, by a model that had not seen it. The "
        "splits of the source are not used."
    )
    assert index.summary()["folds"] == 3


def test_no_group_is_in_two_splits_of_a_fold(tmp_path: Path) -> None:
    write_pictures(tmp_path, {"": 20})
    for path in sorted(tmp_path.rglob("*.png")):  # five groups of four a class
        path.rename(path.with_name(f"g{int(path.stem) // 4}_{path.name}"))
    data = podium.load_study(
        {
            "name": "s",
            "data": {"path": str(tmp_path), "folds": 5, "group": r"/(?P<group>.*g\d)_"},
            "contenders": {"a": {"model": "simple_resnet", "epochs": 1}},
        }
    ).data
    data = data.model_copy(update={"group": r"(?P<group>\w+/g\d)_"})
    index = index_of(data)
    assert "60 images in 15 groups" in index.notices[-1]
    for part in each_index(index):
        lie_in: dict[str | None, set[str]] = {}
        for name, split in part.splits.items():
            for group in split.groups:
                lie_in.setdefault(group, set()).add(name)
        assert len(lie_in) == 15
        assert {len(names) for names in lie_in.values()} == {1}
        assert set(part.class_counts("train").values()) <= {8, 12}


def test_a_class_that_cannot_be_learned_is_refused_and_one_group_is_told(tmp_path: Path) -> None:
    write_pictures(tmp_path, {"": 4})
    for number in range(1, 4):
        (tmp_path / "noise" / f"{number}.png").unlink()
    with pytest.raises(DataError, match=r"1 class with a single image \('noise'\).*min_images: 2"):
        build_index(tmp_path, folds=2)
    assert len(build_index(tmp_path, folds=2, min_images=2).classes) == 2
    with pytest.raises(DataError, match="at least 9 images, found 8"):
        build_index(tmp_path, folds=9, min_images=2)
    index = build_index(tmp_path, folds=2, min_images=2, group="parent")
    assert "All images of 'circle' and 1 more" in index.notices[-1] or (
        "All images of 'circle', 'stripes' are in one group" in index.notices[-1]
    )


def test_settings_that_need_folds_say_so(flat: Path) -> None:
    contenders = {"a": {"model": "simple_resnet", "epochs": 1}}
    for study, problem in (
        ({"data": {"path": str(flat), "repeats": 2}}, "repeats: 2 repeats the folds.*Set folds"),
        ({"data": str(flat), "final_model": "ensemble"}, "final_model: ensemble.*set data.folds"),
        ({"data": {"path": str(flat), "folds": 1}}, "folds: expected greater than or equal to 2"),
    ):
        with pytest.raises(ConfigError, match=problem):
            podium.load_study({"name": "s", "contenders": contenders, **study})


def test_cells_are_folds_and_then_the_run_as_a_whole(tmp_path: Path, flat: Path) -> None:
    spec = podium.load_study(a_study(tmp_path, flat, seeds=[0, 1]))
    cells = cells_of(spec)
    assert [str(cell) for cell in cells[:3]] == [
        "plain/seed-0/fold-0", "plain/seed-0/fold-1", "plain/seed-0",
    ]  # fmt: skip
    assert [cell.title for cell in cells[3:]] == [
        "plain, seed 1, fold 1 of 2", "plain, seed 1, fold 2 of 2", "plain, seed 1, all folds",
    ]  # fmt: skip
    assert chosen(cells, ["plain/seed-1"]) == cells[3:]
    assert chosen(cells, ["plain/seed-1/fold-1"]) == cells[4:5]
    assert chosen(cells, ["plain"]) == cells
    with pytest.raises(ConfigError, match=r"fold-9.*Did you mean plain/seed-./fold-"):
        chosen(cells, ["plain/seed-0/fold-9"])


def test_what_folds_scored_is_told_of_all_together(trained: Path) -> None:
    told = (trained.parent / "told.txt").read_text(encoding="utf-8")
    done = folder_of(trained).run("plain", 0).read_done()
    assert told.count("best epoch: valid") == 2
    assert (
        f"all 2 folds together: valid {100 * done['valid_accuracy']:.1f} %, "
        f"test {100 * done['test_accuracy']:.1f} %"
    ) in told


def test_the_command_leaves_a_run_folder_as_ever(trained: Path, flat: Path) -> None:
    folder = folder_of(trained)
    (run_folder,) = folder.runs(folder.read_spec())
    folds = folder.folds(run_folder, folder.read_spec())
    assert [fold.path.name for fold in folds] == ["fold-0", "fold-1"]
    for one in (*folds, run_folder):
        for path in (one.config, one.history, one.last, one.best, one.model, one.done):
            assert path.is_file(), path
    index = build_index(flat, folds=2)
    pooled = run_folder.read_predictions("test")
    assert pooled.paths == index.splits["test"].paths
    rows = {path: row for row, path in enumerate(pooled.paths)}
    for number, fold in enumerate(folds):  # each image by the model that had not seen it
        own = fold.read_predictions("test")
        assert own.paths == fold_index(index, number).splits["test"].paths
        found = pooled.logits[[rows[path] for path in own.paths]]
        np.testing.assert_array_equal(found, own.logits)
    done = run_folder.read_done()
    assert done["test_accuracy"] == (pooled.predicted == pooled.labels).mean()
    assert (done["folds"], done["repeats"], done["final_model"]["kind"]) == (2, 1, "refit")
    assert json.loads(folder.data.read_text())["splits"] == {
        "test": {"circle": 16, "noise": 16, "stripes": 16}
    }
    assert run_folder.explanations.is_file()
    results = gather(folder)
    assert results.contenders[0].accuracy == done["test_accuracy"]
    page = (folder.report / "index.html").read_text()
    assert "Cross-validation with 2 folds" in page
    assert "the random choice of images, both for testing and for training on about 24" in page
    assert "only the uncertainty from the random choice of test images" not in page
    assert find_runs(folds[1].path).runs == [folds[1]]
    assert folds[1].study == StudyFolder(folder.path.resolve())


def test_recall_and_calibration_of_folds_count_groups(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(folder_of(trained).path, tmp_path / "grouped")
    folder = StudyFolder(tmp_path / "grouped")
    (alone,) = gather(folder).runs
    table = pq.read_table(folder.images)
    names = pa.array([f"{at // 4} of {one}" for at, one in enumerate(table["label"].to_pylist())])
    at = table.column_names.index("group")
    pq.write_table(table.set_column(at, "group", names), folder.images)
    (run,) = gather(folder).runs
    assert run.groups is not None
    assert np.bincount(run.groups).tolist() == [4] * 12
    for one, single in zip(run.classes, alone.classes, strict=True):
        inside = run.test.labels == run.test.class_names.index(one.name)
        right = run.test.predicted[inside] == run.test.labels[inside]
        assert one.interval == share_interval(right, run.groups[inside])
        assert one.recall == single.recall
    assert run.calibration[0].nll == nll(run.test, groups=run.groups)
    assert run.calibration[0].nll != alone.calibration[0].nll
    assert run.calibration[0].bins[0].low != alone.calibration[0].bins[0].low


def test_the_final_model_is_trained_on_all_images_as_the_folds_chose(trained: Path) -> None:
    folder = folder_of(trained)
    whole = folder.run("plain", 0)
    best = [folder.run("plain", 0, k).read_done()["best_epoch"] for k in (0, 1)]
    done = whole.read_done()
    assert done["best_epoch"] == max(best)  # the later of two
    rows = torch.load(whole.last, weights_only=True)["rows"]
    assert len(rows) == max(best)
    assert all(np.isnan(row["valid_loss"]) for row in rows)
    description = json.loads(whole.model.read_text())
    assert description["trained_by"] == "refit"
    assert description["temperature"] == done["temperature"] > 0
    history = whole.read_history()
    both = [folder.run("plain", 0, k).read_history() for k in (0, 1)]
    assert history[0]["valid_loss"] == pytest.approx(
        np.mean([rows[0]["valid_loss"] for rows in both])
    )


def test_predict_and_evaluate(
    trained: Path, flat: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(trained)
    place = str(folder.run("plain", 0).path)
    assert main(["predict", place, str(flat / "circle" / "0.png")]) == 0
    assert "circle" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"trained on all of these images.*fold"):
        podium.evaluate(place, flat)
    fold = folder.run("plain", 0, 1)
    again = podium.evaluate(fold.path, flat, workers=0)
    np.testing.assert_allclose(again.logits, fold.read_predictions("test").logits, atol=1e-4)
    assert main(["compare", place]) == 0
    assert "every image was tested once" in capsys.readouterr().err.replace("\n", " ")


def test_the_test_images_are_not_said_to_be_used_twice(trained: Path) -> None:
    folder = folder_of(trained)
    data = folder.read_data()
    found = read_scorings(folder.path, data["test_fingerprint"])
    assert [(one.contender, one.n) for one in found] == [("plain", 48)]
    assert rescorings(found, "crossed") == []


def test_a_stop_anywhere_costs_no_bit(trained: Path, flat: Path, tmp_path: Path) -> None:
    study = Study.load(
        a_study(tmp_path, flat), runs=tmp_path / "runs", workers=0, precision="fp32", audit=False
    )
    stops = 0
    while True:
        try:
            assert not study.run(stop=StopAfter(9)).failed
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops > 1
    for name in ("", "fold-0", "fold-1"):
        one = folder_of(trained).run("plain", 0).path / name
        other = study.folder.run("plain", 0).path / name
        for file in ("best.safetensors", "predictions-test.parquet", "predictions-valid.parquet"):
            assert (one / file).read_bytes() == (other / file).read_bytes(), (name, file)


def test_one_fold_alone_and_then_the_rest(
    flat: Path, probe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = a_study(tmp_path, flat, contenders={"probe": probe})
    assert run(study, "--only", "probe/seed-0/fold-1") == 0
    assert "1 of 3 cells" in capsys.readouterr().err
    folder = folder_of(study)
    assert folder.run("probe", 0, 1).is_done()
    assert not folder.run("probe", 0).is_done()
    events: list[Event] = []
    Study.load(study, runs=tmp_path / "runs", workers=0, audit=False).run(events.append)
    started = [(one.fold, one.title) for one in events if isinstance(one, RunStarted)]
    assert started == [(0, "probe, fold 1 of 2"), (None, "probe, all folds")]
    assert [one.fold for one in events if isinstance(one, RunDone)] == [0, None]


def test_a_failed_fold_leaves_the_others_and_the_run_open(
    flat: Path, probe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from podium.study import contender

    really = contender.train_and_score

    def fails(given: Any, *rest: Any) -> Any:
        if given.run.fold == 0:
            raise RuntimeError("no such luck")
        return really(given, *rest)

    monkeypatch.setattr(contender, "train_and_score", fails)
    study = Study.load(
        a_study(tmp_path, flat, contenders={"probe": probe}),
        runs=tmp_path / "runs", workers=0, audit=False,
    )  # fmt: skip
    result = study.run()
    assert [bool(one.error) for one in result.outcomes] == [True, False, True]
    assert "1 of the 2 folds of probe/seed-0 is not done (fold-0)" in result.outcomes[2].error
    with pytest.raises(RunFolderError, match="no such luck"):
        gather(study.folder)
    monkeypatch.setattr(contender, "train_and_score", really)
    assert not study.run().failed


def test_another_executor_runs_folds_before_the_whole(
    flat: Path, probe: dict[str, Any], tmp_path: Path
) -> None:
    class Backwards:
        def map(self, cells: Any, work: Any) -> Any:
            for cell in reversed(cells):
                yield work.train(cell)

    podium.register_executor("backwards_folds")(Backwards)
    study = a_study(tmp_path, flat, contenders={"probe": probe})
    events: list[Event] = []
    made = Study.load(
        study, runs=tmp_path / "runs", workers=0, audit=False, executor="backwards_folds"
    )
    assert not made.run(events.append).failed
    assert [one.fold for one in events if isinstance(one, RunStarted)] == [1, 0, None]


def test_a_probe_of_a_fold_is_scikit_learns(
    flat: Path, probe: dict[str, Any], tmp_path: Path
) -> None:
    """The oracle sees features of the network itself, image by image, and sklearn's own folds."""
    study = a_study(tmp_path, flat, contenders={"probe": probe})
    assert run(study) == 0
    fold = folder_of(study).run("probe", 0, 1)
    index = fold_index(build_index(flat, folds=2), 1)
    model = load_run(fold)
    classifier = podium.build_model("resnet18", 3).classifier
    head = model.module.get_submodule(classifier)
    seen: list[torch.Tensor] = []
    head.register_forward_hook(lambda layer, given, output: seen.append(given[0]))

    def features(split: str) -> np.ndarray[Any, Any]:
        from podium.data.dataset import ImageDataset
        from podium.data.transforms import eval_transform, prepare

        dataset = ImageDataset(index, split, eval_transform(32), None)
        seen.clear()
        with torch.inference_mode():
            for number in range(len(dataset)):
                model.module(
                    prepare(dataset[number][0][None], *(model.normalization or (None,) * 2))
                )
        return torch.cat(seen).double().numpy()

    x, test = features("train"), features("test")
    spread = x.std(axis=0)
    deviation = np.maximum(spread, 1e-3 * np.sqrt((spread**2).mean()))
    penalty = next(
        float(line.split(",")[0])
        for line in fold.probe.read_text().splitlines()
        if line.endswith("True")
    )
    oracle = LogisticRegression(C=1 / (len(x) * penalty), max_iter=20_000, tol=1e-10)
    oracle.fit((x - x.mean(axis=0)) / deviation, index.splits["train"].labels)
    expected = oracle.predict_proba((test - x.mean(axis=0)) / deviation)
    found = fold.read_predictions("test")
    np.testing.assert_array_equal(found.predicted, expected.argmax(axis=1))
    # the penalty is weak, and the optimum flat: sklearn's own moves by 0.1 with its tolerance
    assert np.abs(found.probabilities - expected).mean() < 0.005
    assert np.abs(found.probabilities - expected).max() < 0.05


def test_features_and_pixels_are_computed_once_for_all_folds(
    flat: Path, probe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PODIUM_CACHE", str(tmp_path / "cache"))
    plain = {"model": "simple_resnet", "epochs": 1}
    both = {"probe": probe, "plain": plain}
    study = a_study(tmp_path, flat, contenders=both)
    assert run(study) == 0
    assert len([*(tmp_path / "cache" / "features").rglob("part-*.npz")]) == 1
    assert len([*(tmp_path / "cache" / "pixels").glob("*.pixels")]) == 1
    index = build_index(flat, folds=2)
    part = fold_index(index, 1)
    kept = cache_pixels(part, {"train": 32, "test": 32}, limit=1, folder=tmp_path / "pixels")
    from podium.data.images import squeeze

    for split, cached in kept.items():
        for number, path in enumerate(part.splits[split].paths):
            np.testing.assert_array_equal(cached.get(number), squeeze(index.load(path), 32))


def test_an_ensemble_is_the_mean_of_its_members(averaged: StudyFolder, tmp_path: Path) -> None:
    spec = averaged.read_spec()
    (whole,) = averaged.runs(spec)
    model = load_run(whole)
    assert isinstance(model.module, Ensemble)
    assert model.temperature == 1
    members = [load_run(fold) for fold in averaged.folds(whole, spec)]
    assert len(members) == len(model.module.members) == 4
    inputs = torch.rand(5, 3, 32, 32)
    with torch.inference_mode():
        probabilities = []
        for one in members:
            both = (one.module(inputs) + one.module(inputs.flip(3))) / 2
            probabilities.append(torch.softmax(both / one.temperature, 1))
        found = model.probabilities(model.module(inputs))
    torch.testing.assert_close(found, torch.stack(probabilities).mean(0), atol=1e-5, rtol=1e-4)
    heat, logits = grad_cam(model, np.full((2, 32, 32, 3), 90, np.uint8))
    assert heat.shape == (2, 32, 32)
    assert logits.shape == (2, 3)
    assert heat.max() <= 1
    assert whole.read_done()["final_model"] == {"kind": "ensemble", "members": 4}
    described = json.loads(whole.model.read_text())
    copy = RunFolder(tmp_path / "plain" / "seed-0", "plain", 0)
    shutil.copytree(whole.path, copy.path)
    copy.model.write_text(json.dumps({**described, "members": 9}))
    with pytest.raises(RunFolderError, match="does not hold an ensemble of 9 models"):
        load_run(copy)


def test_an_exported_ensemble_computes_the_same(averaged: StudyFolder, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    whole = averaged.run("plain", 0)
    line = ["export", str(whole.path), "--format", "onnx", "--to", str(tmp_path), "--rounds", "0"]
    assert main(line) == 0
    exported = podium.load_exported(tmp_path)
    predictor = load_predictor(whole)[0]
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    np.testing.assert_allclose(
        exported.probabilities(exported.compute(pixels)),
        predictor.probabilities(predictor.compute(pixels)),
        atol=1e-4,
    )


def test_repeats_are_compared_fold_by_fold_and_never_averaged(averaged: StudyFolder) -> None:
    whole = averaged.run("plain", 0)
    again = whole.read_predictions("test", repeat=1)
    first = whole.read_predictions("test")
    assert again.paths == first.paths
    assert not np.array_equal(again.logits, first.logits)
    table = read_table([averaged.path])
    assert table.contenders[0].seeds == (0, 1)
    np.testing.assert_array_equal(table.contenders[0].predicted, [first.predicted, again.predicted])
    of = table.contenders[0].folds
    assert of is not None
    for fold in range(4):  # two folds in each of two repeats
        paths = averaged.run("plain", 0, fold).read_predictions("test").paths
        row = of[fold // 2]
        assert len({int(row[table.paths.index(path)]) for path in paths}) == 1
        assert set(paths) == {
            path for path, number in zip(table.paths, row, strict=True)
            if number == row[table.paths.index(paths[0])]
        }  # fmt: skip
    found = gather(averaged)
    right = [(one.predicted == one.labels).mean() for one in (first, again)]
    assert found.contenders[0].accuracy == pytest.approx(np.mean(right))
    assert found.verdicts is not None
    assert found.verdicts.standings[0].seeds == 1
    assert found.verdicts.folds is not None
    low, high = found.runs[0].interval
    assert low < right[0] < high
    members = [averaged.run("plain", 0, fold).read_done()["latency_ms"] for fold in range(4)]
    assert whole.read_done()["latency_ms"] == pytest.approx(sum(members), abs=0.01)
    assert (found.verdicts.folds.folds, found.verdicts.folds.repeats) == (2, 2)
    with pytest.raises(DataError, match="cannot be compared"):
        read_table([averaged.path], split="valid")


def test_a_change_of_folds_or_of_the_final_model_is_refused(
    trained: Path, flat: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained.parent / "runs", tmp_path / "runs")
    machine: dict[str, Any] = {"runs": tmp_path / "runs", "workers": 0, "audit": False}
    with pytest.raises(RunFolderError, match=r"images .* are not those"):
        Study.load(a_study(tmp_path, flat, data={"folds": 3}), **machine).run()
    with pytest.raises(RunFolderError, match="final_model: refit -> ensemble"):
        Study.load(a_study(tmp_path, flat, final_model="ensemble"), **machine).run()


def test_refit_takes_the_middle_of_what_the_folds_chose() -> None:
    def rows(*accuracies: float) -> list[dict[str, float]]:
        return [{"valid_accuracy": one, "valid_loss": 1 - one} for one in accuracies]

    recipe = RunSpec(model="simple_resnet", epochs=6, lr_drop="plateau", plateau_patience=2)
    folds = [
        rows(0.9, 0.8, 0.7, 0.6, 0.5, 0.4),  # flat after epoch 3, best at 1
        rows(0.1, 0.9, 0.8, 0.7, 0.6, 0.5),  # after 4, best at 2
        rows(0.1, 0.2, 0.3, 0.4, 0.5, 0.6),  # never, best at 6
    ]
    changed, refit = refit_after(recipe, folds, [1e-3, 1e-1], ACCURACY)
    assert changed.lr_drop == 4
    assert refit.epochs == 2
    assert refit.penalty == pytest.approx(1e-2)
    changed, refit = refit_after(recipe, [*folds, folds[2]], [], ACCURACY)
    assert changed.lr_drop is None
    assert refit == Refit(6)


def test_a_mean_history_ends_with_the_shortest() -> None:
    assert mean_history([[{"a": 1.0}, {"a": 3.0}], [{"a": 3.0}]]) == [{"a": 2.0}]
