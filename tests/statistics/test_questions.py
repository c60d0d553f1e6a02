"""Which pairs answer what a study asks."""

from __future__ import annotations

from typing import Any

import pytest

from podium.config.settings import RunSpec
from podium.config.studyfile import load_study
from podium.statistics.questions import Question, questions

PAPER = load_study("sports100", data="photographs").contenders
VALID = {
    "simple_resnet": 0.79,
    "simple_resnet-autoaugment": 0.87,
    "inception_resnet": 0.75,
    "inception_resnet-autoaugment": 0.84,
    "resnet18-finetuned": 0.97,
}


def recipe(model: str, **values: Any) -> RunSpec:
    return RunSpec(model=model, epochs=values.pop("epochs", 10), **values)


def asked(recipes: dict[str, RunSpec], **valid: float) -> list[tuple[str, str, str]]:
    return [(one.kind, one.first, one.second) for one in questions(recipes, valid)]


def test_the_papers_five_contenders_ask_five_things() -> None:
    assert questions(PAPER, VALID) == [
        Question(
            "augmentation", "simple_resnet-autoaugment", "simple_resnet", ("epochs", "lr_drop")
        ),
        Question(
            "augmentation",
            "inception_resnet-autoaugment",
            "inception_resnet",
            ("epochs", "lr_drop"),
        ),
        Question("architecture", "inception_resnet", "simple_resnet", ("epochs",)),
        Question(
            "architecture",
            "inception_resnet-autoaugment",
            "simple_resnet-autoaugment",
            ("epochs", "lr_drop"),
        ),
        Question(
            "transfer",
            "resnet18-finetuned",
            "simple_resnet-autoaugment",
            ("model", "image_size", "epochs", "lr_drop"),
        ),
    ]


def test_transfer_is_set_against_the_best_on_validation_images_of_the_same_augmentation() -> None:
    better = {**VALID, "inception_resnet-autoaugment": 0.9, "simple_resnet": 0.99}
    assert questions(PAPER, better)[-1].second == "inception_resnet-autoaugment"
    unknown = questions(PAPER)[-1]  # without validation figures: the study's first
    assert unknown.second == "simple_resnet-autoaugment"
    assert questions(PAPER, dict.fromkeys(VALID))[-1] == unknown


def test_transfer_prefers_the_same_model_and_names_what_else_differs() -> None:
    recipes = {
        "plain": recipe("resnet18"),
        "other": recipe("simple_resnet", augmentation="autoaugment"),
        "tuned": recipe("resnet18", pretrained=True, augmentation="autoaugment", freeze="backbone"),
    }
    found = questions(recipes, {"plain": 0.5, "other": 0.9, "tuned": 0.95})
    assert found == [Question("transfer", "tuned", "plain", ("augmentation", "freeze"))]


def test_transfer_takes_any_contender_where_none_is_alike() -> None:
    recipes = {
        "a": recipe("simple_resnet"),
        "b": recipe("inception_resnet"),
        "tuned": recipe("resnet18", weights="own.pth", augmentation="augmix"),
    }
    assert ("transfer", "tuned", "b") in asked(recipes, a=0.6, b=0.7)
    assert asked({"tuned": recipes["tuned"]}) == []


def test_every_pretrained_contender_asks_for_its_transfer_and_their_architectures() -> None:
    recipes = {
        "scratch": recipe("simple_resnet"),
        "r18": recipe("resnet18", pretrained=True),
        "r50": recipe("resnet50", pretrained=True),
    }
    assert asked(recipes) == [
        ("architecture", "r50", "r18"),
        ("transfer", "r18", "scratch"),
        ("transfer", "r50", "scratch"),
    ]


def test_of_many_models_each_is_set_against_the_first() -> None:
    recipes = {name: recipe(name) for name in ("simple_resnet", "resnet18", "resnet50", "vit")}
    assert asked(recipes) == [
        ("architecture", "resnet18", "simple_resnet"),
        ("architecture", "resnet50", "simple_resnet"),
        ("architecture", "vit", "simple_resnet"),
    ]


@pytest.mark.parametrize("policy", [{"augmentation": "augmix"}, {"mixup": 0.2}, {"cutmix": 1.0}])
def test_every_policy_is_set_against_none_whatever_the_order(policy: dict[str, Any]) -> None:
    recipes = {
        "varied": recipe("simple_resnet", **policy),
        "plain": recipe("simple_resnet"),
        "crop": recipe("simple_resnet", augmentation="crop_flip"),
    }
    assert asked(recipes) == [
        ("augmentation", "varied", "plain"),
        ("augmentation", "crop", "plain"),
    ]


def test_settings_are_asked_for_only_where_nothing_else_differs() -> None:
    recipes = {
        "slow": recipe("simple_resnet", lr=1e-4, label="Slow"),
        "fast": recipe("simple_resnet", lr=1e-3, batch_size=64, label="Fast"),
    }
    assert questions(recipes) == [Question("settings", "fast", "slow", ("batch_size", "lr"))]
    twins = {"a": recipe("simple_resnet", label="A"), "b": recipe("simple_resnet", label="B")}
    assert questions(twins) == []


def test_every_remedy_for_unequal_classes_is_set_against_none_whatever_the_order() -> None:
    recipes = {
        "weighted": recipe("simple_resnet", class_weights="balanced"),
        "plain": recipe("simple_resnet"),
        "own": recipe("simple_resnet", class_weights={"cat": 3}),
        "drawn": recipe("simple_resnet", sampler="balanced", lr=1e-3),
        "adjusted": recipe("simple_resnet", loss="logit_adjusted", logit_tau=0.5),
        "gentle": recipe("simple_resnet", class_weights="effective", effective_beta=0.9),
    }
    assert questions(recipes) == [
        Question("imbalance", "weighted", "plain", ()),
        Question("imbalance", "own", "plain", ()),
        Question("imbalance", "drawn", "plain", ("lr",)),
        Question("imbalance", "adjusted", "plain", ()),
        Question("imbalance", "gentle", "plain", ()),
    ]


def test_another_loss_beside_the_remedy_is_named() -> None:
    recipes = {
        "focal": recipe("simple_resnet", loss="focal"),
        "adjusted": recipe("simple_resnet", loss="logit_adjusted"),
    }
    assert questions(recipes) == [Question("imbalance", "adjusted", "focal", ("loss",))]
    recipes = {name: recipe("simple_resnet", loss=name) for name in ("cross_entropy", "focal")}
    assert questions(recipes) == [Question("settings", "focal", "cross_entropy", ("loss",))]
    both = {
        name: recipe("simple_resnet", class_weights="balanced", lr=lr)
        for name, lr in (("slow", 1e-4), ("fast", 1e-3))
    }
    assert questions(both) == [Question("settings", "fast", "slow", ("lr",))]


def test_names_and_stand_ins_are_no_settings() -> None:
    recipes = {
        "a": recipe("resnet18", pretrained=True, label="A", if_unavailable="efficientnet_lite0"),
        "b": recipe("resnet50", pretrained=True, label="B"),
    }
    assert questions(recipes) == [Question("architecture", "b", "a", ())]


def test_kinds_come_in_one_order() -> None:
    recipes = {
        "tuned": recipe("simple_resnet", pretrained=True),
        "slow": recipe("simple_resnet", lr=1e-5),
        "plain": recipe("simple_resnet"),
        "varied": recipe("simple_resnet", augmentation="autoaugment"),
        "wide": recipe("inception_resnet"),
    }
    kinds = [kind for kind, _, _ in asked(recipes)]
    ranks = [("augmentation", "architecture", "transfer", "settings").index(kind) for kind in kinds]
    assert ranks == sorted(ranks)
    assert set(kinds) == {"augmentation", "architecture", "transfer", "settings"}
