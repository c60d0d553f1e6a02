"""Study files: what is accepted, what is refused, and with which words."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, strategies as st

from podium.api import single_contender
from podium.config.settings import RunSpec
from podium.config.studyfile import built_in_studies, load_study, machine_settings, study_text
from podium.errors import ConfigError

GOOD = """\
name: mine
data: pictures
defaults:
  epochs: 3
contenders:
  plain:
    model: simple_resnet
  fancy:
    model: inception_resnet
    augmentation: autoaugment
    epochs: 5
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_sports100_is_the_papers_protocol() -> None:
    study = load_study("sports100")
    table = [
        (c.model, c.augmentation, c.epochs, c.lr_drop, c.pretrained)
        for c in study.contenders.values()
    ]
    # contender, epochs at 1e-4 + epochs at 1e-5, from the table of the paper
    assert table == [
        ("simple_resnet", "none", 30 + 2, 30, False),
        ("simple_resnet", "autoaugment", 50 + 10, 50, False),
        ("inception_resnet", "none", 30 + 5, 30, False),
        ("inception_resnet", "autoaugment", 40 + 10, 40, False),
        ("resnet18", "autoaugment", 7 + 3, 7, True),
    ]
    for contender in study.contenders.values():
        assert (contender.lr, contender.lr_drop_factor) == (1e-4, 0.1)
        assert (contender.batch_size, contender.optimizer) == (32, "adam")
        assert (contender.normalize, contender.weight_decay) == ("none", 0.0)
    assert [c.image_size for c in study.contenders.values()] == [128, 128, 128, 128, 224]


def test_quick_has_the_same_five_contenders() -> None:
    def kinds(name: str) -> list[tuple[str, str, bool]]:
        study = load_study(name)
        return [(c.model, c.augmentation, c.pretrained) for c in study.contenders.values()]

    assert kinds("quick") == kinds("sports100")


@pytest.mark.parametrize("name", sorted(built_in_studies()))
def test_built_in_studies_survive_a_round_trip(name: str, tmp_path: Path) -> None:
    study = load_study(name)
    assert load_study(write(tmp_path, study.to_yaml())) == study
    assert yaml.safe_load(study_text(name))["name"] == name


def test_defaults_are_under_every_contender(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, GOOD))
    assert {name: c.epochs for name, c in study.contenders.items()} == {"plain": 3, "fancy": 5}
    assert study.data.path == "pictures"
    assert study.label("plain") == "plain"


def test_overrides_in_order_with_a_star(tmp_path: Path) -> None:
    study = load_study(
        write(tmp_path, GOOD),
        data="elsewhere",
        overrides=["contenders.*.epochs=2", "contenders.fancy.epochs=9", "seeds=[0, 1, 2]"],
    )
    assert {name: c.epochs for name, c in study.contenders.items()} == {"plain": 2, "fancy": 9}
    assert study.seeds == (0, 1, 2)
    assert study.data.path == "elsewhere"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("epochs: 3", "epochs: many"), "line 4: defaults.epochs: expected a whole number"),
        (("model: simple_resnet", "modle: x"), "line 7: contenders.plain.modle: is not a setting"),
        (("    augmentation: autoaugment", "    augmentation: flip"), "line 10:"),
        (("epochs: 5", "epochs: 0"), "contenders.fancy.epochs: expected greater than or equal to"),
        (("epochs: 5", "epochs: 5\n    lr_drop: soon"), "'plateau'"),
        (("epochs: 5", "epochs: 5\n    freeze: backbone"), "pretrained: true or weights: FILE"),
        (("name: mine", "name: a/b"), "it becomes a folder"),
        (("name: mine\n", ""), "name: is missing"),
        (("data: pictures", "data: pictures\nseeds: [1, 1]"), "line 3: seeds:"),
        (("data: pictures", "data: [1]"), "line 2: data: expected a mapping"),
    ],
)
def test_mistakes_are_told_with_line_key_and_value(
    tmp_path: Path, change: tuple[str, str], expected: str
) -> None:
    assert change[0] in GOOD
    with pytest.raises(ConfigError) as caught:
        load_study(write(tmp_path, GOOD.replace(*change)))
    assert expected in str(caught.value)
    assert "study.yaml" in str(caught.value)


WRONG = """\
nam: mine
data:
  path: pictures
  fold: 5
epochs: 3
defaults:
  batchsize: 16
  lr: fast
contenders:
  plain:
    model: simple_resnet
    epoch: 5
    augmentation: autoaugmnt
  fancy:
    model: resnet18
    epochs: 2
    optimizer: adm
    seeds: [0]
  frozen:
    model: resnet18
    epochs: 1
    lr: 1
    batchsize: 2
    ema: 2
    ema: 2
  a/b: {model: resnet18, epochs: 1, lr: 1}
"""


def test_all_mistakes_are_told_at_once_by_line_each_with_what_was_meant(tmp_path: Path) -> None:
    overrides = ["contenders.*.mixp=1", "contenders.fncy.epochs=2"]
    with pytest.raises(ConfigError) as caught:
        load_study(write(tmp_path, WRONG), overrides=overrides)
    title, *told = str(caught.value).splitlines()
    assert title.endswith("study.yaml: 15 settings are wrong.")
    expected = [
        "line 1: nam: is not a setting. Did you mean name?",
        "line 4: data.fold: is not a setting. Did you mean folds?",
        "line 5: epochs: is not a setting here, but one of a contender, or of defaults.",
        "line 7: defaults.batchsize: is not a setting. Did you mean batch_size?",
        "line 8: defaults.lr: expected a number; got 'fast'.",
        "line 12: contenders.plain.epoch: is not a setting. Did you mean epochs?",
        "line 13: contenders.plain.augmentation: there is no augmentation 'autoaugmnt'. Did you "
        "mean autoaugment? Expected none, ",
        "line 17: contenders.fancy.optimizer: expected 'adam', 'adamw', 'sgd' or 'muon'; got "
        "'adm'. Did you mean adam?",
        "line 18: contenders.fancy.seeds: is not a setting here, but one of the study, at the top",
        "line 23: contenders.frozen.batchsize: is not a setting. Did you mean batch_size?",
        "line 25: contenders.frozen.ema is given twice, first in line 24",
        "line 25: contenders.frozen.ema: expected less than 1; got 2.",
        "line 26: contenders.a/b: expected letters, digits, '.', '_' and '-' (it becomes a folder)",
        "contenders.*.mixp: is not a setting. Did you mean mixup?",
        "--set 'contenders.fncy.epochs=2': there is no contender 'fncy'. Did you mean fancy?",
    ]
    assert [line.strip()[: len(start)] for line, start in zip(told, expected, strict=True)] == (
        expected
    )
    assert max(map(len, told)) < 250  # no list of all settings


def test_settings_that_exclude_each_other_are_all_told_with_their_lines(tmp_path: Path) -> None:
    conflicts = "    freeze: backbone\n    lr_schedule: one_cycle\n    lr_drop: 3\n    ema: 0.9\n"
    with pytest.raises(ConfigError) as caught:
        load_study(write(tmp_path, GOOD + conflicts))
    told = [line.strip().split(" (")[0] for line in str(caught.value).splitlines()]
    assert told[1:] == [
        "line 12: contenders.fancy: freeze: backbone needs pretrained: true or weights: FILE",
        "line 14: contenders.fancy: lr_drop needs lr_schedule: steps",
        "line 15: contenders.fancy: ema and freeze: backbone exclude each other",
    ]


def test_a_text_that_is_no_yaml_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_study(write(tmp_path, "name: x\ndata: [a\ncontenders: 1\n"))
    assert "not valid YAML in line 3, column 11: expected ',' or ']'" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("quik", "quick"), ("Sports100", "sports100"), ("fsat", "fast"), ("zzz", "")],
)
def test_a_misspelt_study_is_told_with_the_nearest(name: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"no study '{name}'") as caught:
        load_study(name)
    assert ("Did you mean" in str(caught.value)) == bool(meant)
    assert not meant or f"Did you mean {meant}?" in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a\n- b", "just text", "a: [", "\t", "a: &a [*a]", "1: 2"])
def test_no_study_is_told_plainly(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"study\.yaml"):
        load_study(write(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (GOOD + "  plain: {model: resnet18, epochs: 1}\n", "line 12: contenders.plain is given"),
        (GOOD + "name: other\n", "line 12: name is given twice, first in line 1"),
        (GOOD + "    epochs: 7\n", "line 12: contenders.fancy.epochs is given twice, first in"),
        (GOOD.replace("data: pictures", "data: {path: a, path: b}"), "line 2: data.path is given"),
        (GOOD.replace("epochs: 3", "epochs: 3\n  epochs: 4"), "line 5: defaults.epochs is given"),
        (GOOD + '  "plain": {model: resnet18}\n', "contenders.plain is given twice"),
        (GOOD + "  ? [a]\n  : {model: resnet18}\n", "cannot be a name"),
    ],
)
def test_what_is_given_twice_is_refused_with_both_lines(
    tmp_path: Path, text: str, told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_study(write(tmp_path, text))
    assert told in str(caught.value)
    assert "study.yaml" in str(caught.value)


def test_what_is_given_twice_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--set .*: line 1: model is given twice"):
        load_study(write(tmp_path, GOOD), overrides=["contenders.plain={model: a, model: b}"])
    both = {7: {"model": "m", "epochs": 1}, "7": {"model": "n", "epochs": 1}}
    with pytest.raises(ConfigError, match=r"contenders\.7 is given twice"):
        load_study({"name": "x", "data": "d", "contenders": both})


def test_a_merge_is_no_repetition(tmp_path: Path) -> None:
    text = GOOD.replace("  fancy:", "  base: &base {model: resnet18, epochs: 9}\n  fancy:")
    text = text.replace("    augmentation:", "    <<: *base\n    augmentation:")
    study = load_study(write(tmp_path, text))
    assert study.contenders["fancy"].epochs == 5
    assert study.contenders["base"].epochs == 9


@pytest.mark.parametrize(
    "name", ["no", "on", "y", "007", "010", "1e3", "2024-01-01", "1_000", "0x1F", "null", "1.0"]
)
def test_names_are_the_text_that_is_written(tmp_path: Path, name: str) -> None:
    text = f"name: {name}\ndata: {name}\ncontenders:\n  {name}: {{model: {name}, epochs: 1}}\n"
    if name == "null":  # as a value it is nothing
        text = text.replace("name: null\ndata: null", "name: a\ndata: b")
        text = text.replace("model: null", "model: c")
    study = load_study(write(tmp_path, text))
    assert list(study.contenders) == [name]
    if name != "null":
        assert (study.name, study.data.path, study.contenders[name].model) == (name, name, name)
    assert load_study(write(tmp_path, study.to_yaml())) == study
    again = load_study(write(tmp_path, GOOD), overrides=[f"title={name}"])
    assert again.title == (None if name == "null" else name)
    label = load_study(write(tmp_path, text), overrides=["contenders.*.epochs=010"])
    assert label.contenders[name].epochs == 10  # not eight


def test_numbers_and_switches_are_what_their_setting_wants(tmp_path: Path) -> None:
    text = "name: x\ndata: d\nseeds: [0, 010, 1_0_0]\ncontenders:\n  a:\n" + "".join(
        f"    {line}\n"
        for line in ("model: m", "epochs: 30", "lr: 1e-3", "weight_decay: .5", "pretrained: yes",
                     "flip_test: off", "lr_drop: 20", "early_stop: ~", "label:",
                     "progressive_sizes: [64, 96]", "mixup: 0.2")
    )  # fmt: skip
    study = load_study(write(tmp_path, text))
    assert study.seeds == (0, 10, 100)
    recipe = study.contenders["a"]
    assert (recipe.epochs, recipe.lr, recipe.weight_decay) == (30, 0.001, 0.5)
    assert (recipe.pretrained, recipe.flip_test, recipe.lr_drop) == (True, False, 20)
    assert (recipe.early_stop, recipe.label, recipe.mixup) == (None, None, 0.2)
    assert recipe.progressive_sizes == (64, 96)
    with pytest.raises(ConfigError, match=r"epochs: expected a whole number; got 2\.5\."):
        load_study(write(tmp_path, text.replace("epochs: 30", "epochs: 2.5")))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_study_may_come_from_an_editor_on_windows(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "study.yaml"
    text = GOOD.replace("data: pictures", "data: Vögel/鸟")
    path.write_bytes(text.replace("\n", "\r\n").encode(encoding))
    assert load_study(path).data.path == "Vögel/鸟"
    path.write_bytes(text.replace("/鸟", "").encode("cp1252"))
    with pytest.raises(ConfigError, match=r"line 2 is not UTF-8: save it as UTF-8"):
        load_study(path)


def test_a_missing_file_names_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sports100"):
        load_study(tmp_path / "nothing.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_study(tmp_path)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("epochs", "KEY=VALUE"),
        ("=3", "KEY=VALUE"),
        ("contenders.nobody.epochs=2", "no contender 'nobody'"),
        ("name.deep=2", "nothing can be set below"),
        ("contenders.*=2", "must stand for"),
        ("contenders.plain.epochs=[", "not valid YAML"),
        ("contenders.plain.epochs=zero", "contenders.plain.epochs: expected a whole number"),
    ],
)
def test_wrong_overrides(tmp_path: Path, override: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_study(write(tmp_path, GOOD), overrides=[override])
    assert expected in str(caught.value)


def test_an_overridden_value_is_not_blamed_on_a_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_study(write(tmp_path, GOOD), overrides=["contenders.fancy.epochs=x"])
    assert "line" not in str(caught.value)


@given(st.text(max_size=200))
def test_any_text_is_a_study_or_a_config_error(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.yaml"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        with pytest.raises(ConfigError):
            load_study(path)


def test_settings_that_cannot_act_are_told() -> None:
    recipe = RunSpec(model="simple_resnet", epochs=2, lr_drop=30, early_stop=5)
    assert len(recipe.notices()) == 2
    assert RunSpec(model="simple_resnet", epochs=40, lr_drop=30, early_stop=5).notices() == []


def test_specs_are_frozen_and_mappings_work() -> None:
    study = load_study({"name": "x", "data": "d", "contenders": {"a": {"model": "m", "epochs": 1}}})
    with pytest.raises(ValueError, match="frozen"):
        study.name = "y"


def test_machine_flags_are_named() -> None:
    assert machine_settings(precision="bf16").precision == "bf16"
    with pytest.raises(ConfigError, match="--precision"):
        machine_settings(precision="fp8")
    with pytest.raises(ConfigError, match="--devices"):
        machine_settings(devices=0)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("mixup=[", r"--set 'mixup=\[': not valid YAML"),
        ("mixup", "--set 'mixup': expected KEY=VALUE, such as mixup=0.2"),
        ("mixupp=0.2", "mixupp: is not a setting"),
        ("mixup.a=1", "mixup"),
    ],
)
def test_overrides_of_one_contender_are_read_as_all_others(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        single_contender("timm/convnext.fb", "data", epochs=1, overrides=[override])


def test_an_override_of_one_contender_reaches_it_whatever_its_name() -> None:
    spec = single_contender("timm/a.b", "data", epochs=1, overrides=["mixup=0.2", "label=A, b"])
    assert spec.contenders["timm-a.b"].mixup == 0.2
    assert spec.contenders["timm-a.b"].label == "A, b"


def test_a_conflict_between_contenders_and_data_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(
        "name: many\ndata: {path: scenes, channels: 5}\ncontenders:\n"
        "  plain: {model: simple_resnet, epochs: 1}\n"
        "  varied:\n    model: simple_resnet\n    epochs: 1\n    augmentation: autoaugment\n"
    )
    with pytest.raises(ConfigError, match=r"line 8: .*contenders\.varied\.augmentation: .*for RGB"):
        load_study(path)


BOTH = """
name: means
data: somewhere
defaults: {epochs: 3, batch_size: 8}
contenders:
  small: {model: simple_resnet}
  large: {model: resnet18}
  both: {mean_of: [small, large], label: Both}
"""


def test_a_mean_has_members_and_no_recipe() -> None:
    spec = load_study(yaml.safe_load(BOTH), overrides=["contenders.*.lr=0.1"])
    both = spec.contenders["both"]
    assert both.mean_of == ("small", "large")
    assert both.most_epochs == 0
    assert both.notices() == []
    assert spec.contenders["small"].lr == spec.contenders["large"].lr == 0.1
    assert yaml.safe_load(spec.to_yaml())["contenders"]["both"] == {
        "mean_of": ["small", "large"], "label": "Both",
    }  # fmt: skip
    assert "mean_of" not in yaml.safe_load(spec.to_yaml())["contenders"]["small"]
    assert load_study(yaml.safe_load(spec.to_yaml())) == spec
    stored = both.model_dump(mode="json")
    assert both.changes_from({**stored, "label": "Another"}) == []
    assert both.changes_from({**stored, "mean_of": ["large", "small"]}) == [
        "mean_of: ['large', 'small'] -> ['small', 'large']"
    ]
    assert any("mean_of" in one for one in both.changes_from({"model": "resnet18", "epochs": 1}))
    labelled = load_study(yaml.safe_load(BOTH), overrides=["contenders.*.label=x"])
    assert labelled.label("both") == "x"


def test_a_wrong_member_is_told_beside_a_wrong_setting(tmp_path: Path) -> None:
    path = tmp_path / "means.yaml"
    wrong = BOTH.replace("[small, large]", "[small, larg]").replace("epochs: 3", "epochs: many")
    path.write_text(wrong)
    with pytest.raises(ConfigError) as caught:
        load_study(path)
    first, *told = str(caught.value).splitlines()
    assert "2 settings are wrong" in first
    assert "epochs: expected a whole number; got 'many'." in told[0]
    assert told[1].endswith("there is no contender 'larg'. Did you mean large?")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("{mean_of: [small]}", "contenders.both.mean_of: expected the names of two or more"),
        ("{mean_of: [small, small]}", "contenders.both.mean_of: expected the names of two or more"),
        ("{mean_of: small}", "contenders.both.mean_of: expected a list"),
        ("{mean_of: [small, larg]}", "there is no contender 'larg'. Did you mean large?"),
        ("{mean_of: [small, both]}", "both.mean_of: both is a mean itself"),
        ("{mean_of: [small, large], lr: 0.1}", "contenders.both: lr has no effect beside mean_of"),
        ("{mean_off: [small, large]}", "mean_off: is not a setting. Did you mean mean_of?"),
        ("{mean_of: []}", "contenders.both.model: is missing"),
    ],
)
def test_other_means_are_refused_with_their_line(tmp_path: Path, changed: str, said: str) -> None:
    path = tmp_path / "means.yaml"
    path.write_text(BOTH.replace("{mean_of: [small, large], label: Both}", changed))
    with pytest.raises(ConfigError) as caught:
        load_study(path)
    assert said in str(caught.value)
    assert "line 8" in str(caught.value)
