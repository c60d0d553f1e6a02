"""Sets of classes that are wanted of a model, and the validation images they come from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from podium.config.text import listed
from podium.errors import ConfigError, RunFolderError
from podium.evaluation.description import Conformity, read_description
from podium.results.run import conformity_scores
from podium.runs.folder import RunFolder
from podium.statistics.conformal import ConformityScores, SetRule, fewest


@dataclass(frozen=True)
class WantedSets:
    """The sets that a user asks for.

    Attributes:
        coverage: probability that a set contains the true class, 0.5 to below 1.
        by_class: whether it is promised for the images of each class.
    """

    coverage: float
    by_class: bool = False

    @classmethod
    def of(cls, coverage: float | None, by_class: bool) -> WantedSets | None:
        """From the settings of a command; None: no sets are wanted.

        Args:
            coverage: None: none.
            by_class: needs a coverage.

        Raises:
            ConfigError: `by_class` is given without a coverage.
        """
        if coverage is None:
            if by_class:
                raise ConfigError("--by-class applies to sets of classes: also give --coverage.")
            return None
        return cls(coverage, by_class)

    def rule(self, run: RunFolder) -> SetRule:
        """The rule of a run's model.

        Args:
            run: a finished run, or one fetched from the Hub.

        Raises:
            ConfigError: the coverage is not in its range, or the run's validation images are too
                few to promise it.
            RunFolderError: the run has no predictions of validation images.
        """
        return stored_scores(run).rule(self.coverage, by_class=self.by_class)

    def refuse_another(self, rule: SetRule | None, place: object) -> None:
        """Check that an export makes these sets.

        Args:
            rule: the export's; None: it makes none.
            place: its path, for the message.

        Raises:
            ConfigError: it makes none, or others.
        """
        if rule is not None and (rule.coverage, rule.by_class) == (self.coverage, self.by_class):
            return
        made = "no sets of classes" if rule is None else f"sets with {described(rule)}"
        raise ConfigError(
            f"--coverage {100 * self.coverage:g}{' --by-class' * self.by_class}: {place} was "
            f"exported with {made}. Export the run again with that coverage, or give the run."
        )


def stored_scores(run: RunFolder) -> ConformityScores:
    """What a run's sets are calibrated with, from its predictions or, if published, `model.json`.

    Args:
        run: a finished run, or one fetched from the Hub.

    Raises:
        RunFolderError: it has neither.
    """
    if run.predictions("valid").is_file() and run.is_done():
        return conformity_scores(run)
    described = read_description(run.model)
    if described.conformity is None:
        raise RunFolderError(
            f"{run.path} has no predictions of validation images, from which sets of classes get "
            "their coverage. Give a finished run, or omit --coverage."
        )
    found = described.conformity
    return ConformityScores(
        np.asarray(found.probabilities), np.asarray(found.labels), len(described.class_names)
    )


def published(scores: ConformityScores) -> Conformity:
    """The scores as `model.json` holds them, rounded to seven digits.

    Args:
        scores: of a run.
    """
    values = [float(f"{one:.7g}") for one in scores.probabilities]
    return Conformity(labels=scores.labels.tolist(), probabilities=values)


def described(rule: SetRule) -> str:
    """A rule in words, such as `95 % coverage`."""
    return f"{100 * rule.coverage:g} % coverage{' of each class' if rule.by_class else ''}"


def promise(rule: SetRule, class_names: tuple[str, ...]) -> str:
    """What a rule promises, in one or two sentences.

    Args:
        rule: of a model.
        class_names: names of the model's classes.
    """
    of = " of each class" if rule.by_class else ""
    told = (
        f"Sets: {100 * rule.coverage:g} % or more of them contain the true class, for images{of} "
        f"like the {rule.images:,} validation images; for others nothing is promised."
    )
    if len(rule.unlimited):
        names = listed([class_names[at] for at in rule.unlimited.tolist()])
        told += (
            f" In every set, since they have fewer than {fewest(rule.coverage)} validation images "
            f"of their own: {names}."
        )
    return told
