"""The price of leakage: large where groups give the class away, none where they say nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from podium.auditing import index_data, leakage_price, read_audit
from podium.auditing.price import FOLDS, NEIGHBOURS, price_of
from podium.auditing.record import GroupHint
from podium.cli.app import main
from podium.config.data_settings import DataSpec
from podium.data.shares import fold_numbers
from podium.errors import DataError
from podium.features.scaling import standardised
from podium.reporting.page.audit_page import hint_sentence
from podium.reporting.words.labels import labels
from podium.runs.folder import StudyFolder
from podium.runtime.events import Event, WarningMessage
from podium.study.images import audit_study

Floats = npt.NDArray[np.float32]


def drawn(
    seed: int, marked: float, *, groups: int = 30, each: int = 8, classes: int = 3
) -> tuple[Floats, npt.NDArray[np.int64], list[str | None]]:
    """Features with a weak sign of the class, and `marked` times a sign of the group."""
    random = np.random.default_rng(seed)
    of = np.repeat(np.arange(groups), each)
    labels = (of % classes).astype(np.int64)
    sign = random.normal(size=(classes, 12))[labels]
    mark = random.normal(size=(groups, 12))[of]
    features = 0.5 * sign + marked * mark + random.normal(size=(len(of), 12))
    return features.astype(np.float32), labels, [f"g{one:02d}" for one in of]


def test_groups_that_give_the_class_away_are_priced() -> None:
    for price in price_of(*drawn(0, marked=3.0)):
        assert price.random > 0.7
        assert price.grouped < 0.6
        assert price.low > 0.2
        assert price.low < price.difference < price.high
        assert (price.groups, price.images, price.left_out) == (30, 240, 0)


def test_groups_that_say_nothing_cost_nothing() -> None:
    covered = [
        price.low <= 0 <= price.high
        for seed in range(8)
        for price in price_of(*drawn(seed, marked=0.0), draws=3)
    ]
    assert sum(covered) >= 14  # of 16 intervals of 95 %


def test_neighbours_are_scikit_learns() -> None:
    features, labels, groups = drawn(1, marked=1.0)
    (_, found) = price_of(features, labels, groups, draws=1)
    expected = []
    for units in (None, groups):
        folds = PredefinedSplit(fold_numbers(labels, units, FOLDS, 0))
        nearest = KNeighborsClassifier(NEIGHBOURS, metric="cosine", weights="distance")
        answers = cross_val_predict(nearest, standardised(features)[:], labels, cv=folds)
        expected.append((answers == labels).mean())
    assert [found.random, found.grouped] == pytest.approx(expected)


def test_a_class_of_one_group_is_left_out() -> None:
    features, labels, groups = drawn(2, marked=1.0)
    only = np.flatnonzero(labels == 2)
    for at in only:
        groups[at] = "one patient"
    for price in price_of(features, labels, groups, draws=2):
        assert (price.left_out, price.images, price.groups) == (len(only), 160, 20)
    with pytest.raises(DataError, match="needs two or more classes with images of two or more"):
        price_of(features, labels, [f"class {one}" for one in labels], draws=2)


def draw_set(root: Path, *, by_colour: bool, noise: float = 60, contrast: int = 150) -> Path:
    """Shapes on backgrounds; 6 groups of a class, each with a colour of its own or none."""
    random = np.random.default_rng(5)
    for label, shape in (("box", "rectangle"), ("disc", "ellipse")):
        for group in range(6):
            colour = random.integers(30, 220, 3)
            for number in range(6):
                if not by_colour:
                    colour = random.integers(30, 220, 3)
                canvas = random.normal(colour, noise, (48, 48, 3)).clip(0, 255).astype(np.uint8)
                image = Image.fromarray(canvas)
                left, top = (int(one) for one in random.integers(4, 26, 2))
                box = (left, top, left + 14, top + 14)
                getattr(ImageDraw.Draw(image), shape)(box, outline=(contrast,) * 3)
                place = root / label / f"scene{group}_{number}.png"
                place.parent.mkdir(parents=True, exist_ok=True)
                image.save(place)
    return root


def test_the_command_writes_the_price(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = draw_set(tmp_path / "set", by_colour=True)
    to = tmp_path / "audit"
    command: list[Any] = ["audit", str(root), "--no-labels", "--to", str(to), "--price-of-leakage"]
    assert main(command) == 2
    assert "--price-of-leakage: expected groups, found none." in capsys.readouterr().err
    assert main([*command, "--group", r"(?P<group>[^/]+/scene\d+)"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    audit = read_audit(to / "audit.json")
    assert [one.classifier for one in audit.price] == ["linear", "neighbours"]
    for price in audit.price:
        assert (price.groups, price.images) == (12, 72)
        assert 0 < price.low < price.difference < price.high
        assert price.difference > 0.2  # drawn so: 0.37 and 0.38 when this was written
        assert f"{100 * price.random:.1f} %" in told
    page = (to / "index.html").read_text(encoding="utf-8")
    assert "12 groups" in page
    assert audit.hints == ()  # the groups are known

    plain = json.loads((to / "audit.json").read_text(encoding="utf-8"))
    del plain["hints"], plain["price"]  # as an earlier version wrote it
    (to / "audit.json").write_text(json.dumps(plain), encoding="utf-8")
    assert read_audit(to / "audit.json").price == ()


def test_scenes_without_a_colour_of_their_own_cost_nothing(tmp_path: Path) -> None:
    root = draw_set(tmp_path, by_colour=False)
    index = index_data(DataSpec(path=str(root), group=r"(?P<group>[^/]+/scene\d+)"))
    for price in leakage_price(index):
        assert price.low < 0 < price.high < 0.25


def test_the_audit_hints_at_groups_in_both_languages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = draw_set(tmp_path / "set", by_colour=True)
    for lang, words in (("en", "look like 12 groups"), ("pt", "12 grupos de imagens")):
        to = tmp_path / lang
        assert main(["audit", str(root), "--no-labels", "--to", str(to), "--lang", lang]) == 0
        told = " ".join(capsys.readouterr().out.split())
        assert words in told
        assert "group: '(?P<group>[^/]+/[^-_. /]+)[-_. ][^/]*$'}" in told
        assert words in (to / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["names", "folders", "copies", "frames", "bursts", "features"])
@pytest.mark.parametrize(("lang", "count"), [("en", "3,210"), ("pt", "3.210")])
def test_every_hint_has_its_sentence_in_both_languages(kind: str, lang: str, count: str) -> None:
    hint = GroupHint(kind, "duplicates", 3210, 3210, ("a/1.jpg", "a/2.jpg"))
    told = hint_sentence(hint, labels(lang))
    assert "a/1.jpg" in told
    assert "a/2.jpg" in told
    assert (count in told) == (kind != "frames")  # nobody knows how many scenes there are
    left = told.replace("{group: duplicates}", "").replace("{group: 'duplicates'}", "")
    assert "{" not in left.replace("{group: ...}", "")


def test_a_study_warns_before_it_trains(tmp_path: Path) -> None:
    index = index_data(DataSpec(path=str(draw_set(tmp_path / "set", by_colour=True))))
    told: list[Event] = []
    audit_study(StudyFolder(tmp_path), index, told.append)
    warnings = [str(one) for one in told if isinstance(one, WarningMessage)]
    assert any("look like 12 groups" in one for one in warnings)
