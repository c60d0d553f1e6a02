"""The subject of a model card: a run and its study, as far as their files describe them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from podium.config.settings import RunSpec
from podium.errors import RunFolderError
from podium.models.ours import OURS
from podium.reporting.words.labels import Labels
from podium.reporting.words.recipes import run_title
from podium.results.run import RunResult, read_run
from podium.results.study import StudyResults, gather
from podium.runs.folder import RunFolder


@dataclass(frozen=True)
class About:
    """A network: the licence of its code and weights, its citation, its id on the Hub."""

    licence: str
    citation: str
    hub_id: str


@dataclass(frozen=True)
class Network:
    """A network that was trained: the run's, or that of a member of a mean.

    Attributes:
        recipe: as trained, with the model that was actually used.
        done: the closing record, or what a mean's record says of this member.
    """

    recipe: RunSpec
    done: Mapping[str, Any]

    @property
    def model(self) -> str:
        """Its name."""
        return self.recipe.model

    @property
    def about(self) -> About | None:
        """What is known of it: built in, or from the run for a user's network."""
        found = self.done.get("about_model")
        if isinstance(found, Mapping):
            return About(*(str(found.get(key, "")) for key in ("licence", "citation", "hub_id")))
        if self.model in OURS:
            ours = OURS[self.model]
            return About(ours.licence, ours.citation, ours.hub_id)
        return None

    @property
    def pretrained_source(self) -> str | None:
        """Source of the initial weights; None: random, or not recorded."""
        source = self.done.get("pretrained_source")
        return str(source) if source else None


@dataclass(frozen=True)
class Subject:
    """A run, and what is known of it.

    Attributes:
        folder: folder of the run.
        label: its name in figures and tables.
        recipe: the recipe as trained, with the model that was actually used.
        done: the final record; empty: the training is not finished.
        class_names: names of the classes, in the order of the logits.
        result: results on the test images; None: no test predictions.
        study: results of the study; None: the run lies outside one.
        missing: keys of the sentences that say what could not be found.
    """

    folder: RunFolder
    label: str
    recipe: RunSpec
    done: Mapping[str, Any]
    class_names: tuple[str, ...]
    result: RunResult | None
    study: StudyResults | None
    missing: tuple[str, ...]

    @property
    def networks(self) -> dict[str, Network]:
        """The networks that were trained, by contender: one, or those of a mean's members."""
        if not self.recipe.mean_of:
            return {self.folder.contender: Network(self.recipe, self.done)}
        found = {}
        for one in self.done.get("members", []):
            recipe = _validated(one["recipe"], self.folder)
            used = recipe.model_copy(update={"model": str(one.get("model") or recipe.model)})
            found[str(one["contender"])] = Network(used, one)
        return found


def read_subject(run: RunFolder, say: Labels) -> Subject:
    """Read the files of a run and of its study.

    Args:
        run: folder of the run.
        say: the language's labels.

    Raises:
        RunFolderError: a required file is missing or damaged.
        ConfigError: the study's file is damaged.
    """
    study = _study_of(run)
    result = next((one for one in study.runs if _same(one.folder, run)), None) if study else None
    if result is None:
        study = None
    recipe = _recipe(run) if result is None else result.recipe
    done = run.read_done() if run.is_done() else {}
    if result is None and done and run.predictions("test").is_file():
        known = run.study.read_groups()
        result = read_run(run, recipe.label or run.contender, recipe, groups=known)
    missing = [
        key
        for key, there in (
            ("card_no_done", bool(done)),
            ("card_no_test", result is not None or not done),
            ("card_no_study", study is not None or not done),
            ("card_no_data", study is None or bool(study.data)),
        )
        if not there
    ]
    used = done.get("model")
    return Subject(
        folder=run,
        label=run_title(result, say) if result is not None else recipe.label or run.contender,
        recipe=recipe.model_copy(update={"model": str(used)}) if used else recipe,
        done=done,
        class_names=_class_names(run) if result is None else result.test.class_names,
        result=result,
        study=study,
        missing=tuple(missing),
    )


def _same(one: RunFolder, other: RunFolder) -> bool:
    return one.path.resolve() == other.path.resolve()


def _study_of(run: RunFolder) -> StudyResults | None:
    tested = run.is_done() and run.predictions("test").is_file()
    return gather(run.study) if tested and run.study.spec.is_file() else None


def _recipe(run: RunFolder) -> RunSpec:
    return _validated(run.read_config()["recipe"], run)


def _validated(recipe: Mapping[str, Any], run: RunFolder) -> RunSpec:
    try:
        return RunSpec.model_validate(recipe, context={"stored": True})
    except ValueError as error:  # settings of another version
        raise RunFolderError(
            f"{run.config} is not a recipe that this Podium can read "
            f"({str(error).splitlines()[0]}). "
            "Use the version that trained the run."
        ) from None


def _class_names(run: RunFolder) -> tuple[str, ...]:
    from podium.evaluation.description import read_description  # imports torch

    return tuple(read_description(run.model).class_names)
