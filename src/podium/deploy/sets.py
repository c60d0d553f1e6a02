"""What is wanted of a model beside probabilities: sets of classes, and "none of these"."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from podium.config.text import listed
from podium.errors import ConfigError, RunFolderError
from podium.evaluation.description import Conformity, read_description
from podium.results.run import conformity_scores
from podium.runs.folder import RunFolder
from podium.statistics.conformal import ConformityScores, KnownRule, SetRule, fewest


@dataclass(frozen=True)
class Wanted:
    """What a user asks for.

    Attributes:
        coverage: probability that a set contains the true class, 0.5 to below 1; None: no sets.
        by_class: whether it is promised for the images of each class.
        keep: share of images like the validation images that are not called "none of these", 0.5
            to below 1; None: no image is.
    """

    coverage: float | None = None
    by_class: bool = False
    keep: float | None = None

    @classmethod
    def of(cls, coverage: float | None, by_class: bool, keep: float | None) -> Wanted | None:
        """From the settings of a command; None: nothing is wanted.

        Args:
            coverage: None: no sets.
            by_class: needs a coverage.
            keep: None: no image is "none of these".

        Raises:
            ConfigError: `by_class` is given without a coverage.
        """
        if coverage is None and by_class:
            raise ConfigError("--by-class applies to sets of classes: also give --coverage.")
        return None if coverage is None and keep is None else cls(coverage, by_class, keep)

    def rule(self, run: RunFolder) -> SetRule | None:
        """The rule by which a run's model makes sets; None: none are wanted.

        Args:
            run: a finished run, or one fetched from the Hub.

        Raises:
            ConfigError: the coverage is not in its range, or the run's validation images are too
                few to promise it.
            RunFolderError: the run has no predictions of validation images.
        """
        if self.coverage is None:
            return None
        return stored_scores(run).rule(self.coverage, by_class=self.by_class)

    def refuse_another(self, sets: SetRule | None, known: KnownRule | None, place: object) -> None:
        """Check that an export answers what is wanted.

        Args:
            sets: the export's rule; None: it makes no sets.
            known: the same of "none of these".
            place: its path, for the message.

        Raises:
            ConfigError: it does not, or at another level.
        """
        again = "Export the run again with that setting, or give the run."
        if self.coverage is not None and (
            sets is None or (sets.coverage, sets.by_class) != (self.coverage, self.by_class)
        ):
            made = "no sets of classes" if sets is None else f"sets with {described(sets)}"
            raise ConfigError(
                f"--coverage {100 * self.coverage:g}{' --by-class' * self.by_class}: {place} was "
                f"exported with {made}. {again}"
            )
        if self.keep is not None and (known is None or known.keep != self.keep):
            made = "without --keep" if known is None else f"with --keep {100 * known.keep:g}"
            raise ConfigError(f"--keep {100 * self.keep:g}: {place} was exported {made}. {again}")


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


def kept(rule: KnownRule) -> str:
    """What a rule for "none of these" promises, in a sentence.

    Args:
        rule: of a model.
    """
    return (
        f"None of these: images less similar to training images than {100 * rule.keep:g} % of the "
        f"{rule.images:,} validation images."
    )
