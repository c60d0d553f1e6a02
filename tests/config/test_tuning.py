"""The settings of a tuning: what may be searched, what it means for a contender, mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from podium.config.settings import RunSpec
from podium.config.studyfile import load_study
from podium.config.tuning import (
    OF_A_PROBE,
    OF_THE_CONTENDER,
    Range,
    Tune,
    ranges_of,
    trials_of,
    tunable,
    with_settings,
)
from podium.errors import ConfigError

SPACE: dict[str, Any] = {
    "lr": {"log": ["1.0e-4", "3.0e-2"]},
    "batch_size": {"uniform": [16, 128]},
    "augmentation": ["none", "crop_flip", "trivialaugment"],
    "crop_scale": {"uniform": [0.2, 0.9]},
}
PLAIN = RunSpec(model="simple_resnet", epochs=3)
PROBE = RunSpec(model="resnet18", pretrained=True, freeze="backbone", linear_probe=True, epochs=1)


def study(**changes: Any) -> dict[str, Any]:
    return {
        "name": "tuned",
        "data": "images",
        "tune": {"trials": 12, "space": SPACE},
        "contenders": {"plain": {"model": "simple_resnet", "epochs": 3}},
        **changes,
    }


def ranges(space: dict[str, Any]) -> dict[str, Range]:
    return ranges_of(Tune(trials=12, space=space), RunSpec)


def mistakes(tmp_path: Path, values: dict[str, Any]) -> str:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_study(path)
    return str(caught.value)


def test_values_have_the_types_of_their_settings() -> None:
    found = ranges(SPACE | {"linear_probe": ["true", "lda"], "early_stop": ["3", None]})
    assert [*found] == sorted(found)
    assert found["lr"] == Range((), 1e-4, 3e-2, log=True)
    assert found["batch_size"] == Range((), 16, 128, whole=True)
    assert found["linear_probe"].choices == (True, "lda")
    assert found["early_stop"].choices == (3, None)


def test_a_study_file_comes_back_as_it_was(tmp_path: Path) -> None:
    spec, path = load_study(study()), tmp_path / "study.yaml"
    path.write_text(spec.to_yaml(), encoding="utf-8")
    assert load_study(path) == spec


def test_what_was_drawn_is_used_as_far_as_it_has_an_effect() -> None:
    drawn = {"augmentation": "none", "crop_scale": 0.5, "lr": 0.01}
    made, used = with_settings(PLAIN, drawn)
    assert used == {"augmentation": "none", "lr": 0.01}
    assert (made.lr, made.crop_scale) == (0.01, PLAIN.crop_scale)
    made, used = with_settings(PLAIN, drawn | {"augmentation": "crop_flip"})
    assert (made.crop_scale, len(used)) == (0.5, 3)
    # nothing reads these
    for idle in ({"warmup": 0.5}, {"lr_drop_factor": 0.5}, {"decay_norm_bias": False}):
        assert with_settings(PLAIN, idle) == (PLAIN, {})
    assert with_settings(PROBE, {"lr": 0.1, "pooling": "stages"})[1] == {"pooling": "stages"}


def test_a_contender_is_tuned_by_what_matters_to_it() -> None:
    space = ranges(SPACE)
    assert set(tunable(PLAIN, space)) == set(SPACE)
    assert not tunable(PROBE, space)
    assert not tunable(RunSpec(mean_of=("a", "b")), space)  # type: ignore[call-arg]
    without = ranges({"crop_scale": SPACE["crop_scale"], "lr": SPACE["lr"]})
    assert set(tunable(PLAIN, without)) == {"lr"}  # augmentation stays none
    # a shortcut stays what it is
    shortcut = PROBE.model_copy(update={"model": "shortcut_colour", "pretrained": False})
    assert not tunable(shortcut, ranges({"flip_test": [True, False]}))


def test_every_setting_is_one_of_a_probe_or_not() -> None:
    """A setting that is added must be thought about: does it matter to a probe alone?"""
    others = {
        *("augmentation", "mixup", "cutmix", "crop_scale", "flip", "progressive_sizes", "epochs"),
        *("batch_size", "optimizer", "lr", "layer_decay", "weight_decay", "decay_norm_bias"),
        *("lr_schedule", "warmup", "lr_drop", "lr_drop_factor", "plateau_patience", "early_stop"),
        *("loss", "sampler", "focal_gamma", "logit_tau", "label_smoothing", "ema"),
    }
    assert {*OF_A_PROBE, *OF_THE_CONTENDER} | others == set(RunSpec.model_fields)


def test_all_different_settings_are_as_many_trials_as_there_can_be() -> None:
    few = ranges({"augmentation": ["none", "randaugment"], "flip_test": [True, False]})
    assert trials_of(PLAIN, tunable(PLAIN, few), 12) == 4
    assert trials_of(PLAIN, tunable(PLAIN, few), 3) == 3
    # its own settings are one more, where the space lacks them
    other = ranges({"optimizer": ["sgd", "muon"]})
    assert trials_of(PLAIN, other, 12) == 3
    assert trials_of(PLAIN, tunable(PLAIN, ranges(SPACE)), 12) == 12
    assert trials_of(PROBE, {}, 12) == 0


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    space = {
        "lrr": {"log": [1e-4, 1]},
        "lr": {"log": [1e-4, 300]},
        "augmentation": ["none", "autoaugmnt"],
        "model": ["a", "b"],
        "batch_size": {"uniform": [2.5, 8]},
        "optimizer": {"uniform": [1, 2]},
    }
    found = mistakes(tmp_path, study(seeds=[0, 1000], tune={"trials": 12, "space": space}))
    for text in (
        "7 settings are wrong",
        "tune.space.lrr: there is no such setting. Did you mean lr?",
        "tune.space.lr: expected less than or equal to 100; got 300",
        "there is no augmentation 'autoaugmnt'. Did you mean autoaugment?",
        "model says what a contender is",
        "tune.space.batch_size: expected a valid integer",
        "tune.space.optimizer: expected 'adam'",
        "tune.seed: 1000 is one of the study's seeds",
    ):
        assert text in found
    assert "line 10: " in found  # of the space's first


@pytest.mark.parametrize(
    ("tune", "told"),
    [
        ({"trials": 1, "space": SPACE}, "tune.trials: expected greater than or equal to 2; got 1"),
        ({"trials": 2, "samplr": "tpe", "space": SPACE}, "Did you mean sampler?"),
        ({"trials": 2, "space": {"lr": {"log": [0, 1]}}}, "log needs numbers above 0, and 0 is"),
        ({"trials": 2, "space": {"lr": {"uniform": [2, 1]}}}, "the first below the second"),
        ({"trials": 2, "space": {"lr": {"lg": [1, 2]}}}, "a list of choices, or {log: [low, high]"),
        ({"trials": 2, "space": {"lr": 3}}, "a list of choices, or {log: [low, high]}"),
        ({"trials": 2, "space": {"flip": ["random"]}}, "expected two or more choices"),
        ({"trials": 2, "space": {}}, "at least 1 item"),
        ({"trials": 2, "space": {"warmup": [0.1, 0.3]}}, "warmup has no effect on any contender"),
    ],
)
def test_a_mistake_says_what_is_wrong(tmp_path: Path, tune: dict[str, Any], told: str) -> None:
    assert told in mistakes(tmp_path, study(tune=tune))


def test_tuning_is_refused_where_it_would_mislead(tmp_path: Path) -> None:
    folds = mistakes(tmp_path, study(data={"path": "images", "folds": 5}))
    assert "settings chosen on any of them have seen test images" in folds
    scored = mistakes(tmp_path, study(data={"path": "images", "score_on": "valid"}))
    assert "cannot choose on the images that data.score_on: valid scores on" in scored
    unscored = mistakes(tmp_path, study(data={"path": "images", "score_on": "nothing"}))
    assert "data.score_on: expected 'test' or 'valid'" in unscored
    plain = {"model": "simple_resnet", "epochs": 3}
    apart = {"low": {**plain, "lr": 1e-4}, "high": {**plain, "lr": 1e-2, "label": "H"}}
    swept = mistakes(tmp_path, study(contenders=apart))
    assert "low and high differ only in lr, which tuning would choose for both" in swept
    long = mistakes(tmp_path, study(contenders={"x" * 90: plain}))
    assert "expected at most 88 characters in the name" in long
    # contenders that also differ in something else keep their own starting point
    load_study(study(contenders={"low": plain, "high": {**plain, "lr": 1e-2, "epochs": 9}}))
