"""The verdict of a study in sentences for a paper, with method and references.

The sentences follow what was computed: which test a pair had, what its interval is from, what all
pairs together were adjusted for. A reference stands in them as `[@key]`, and becomes names and year
in plain text and a \\cite in LaTeX.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from podium.__about__ import __version__
from podium.config.seeds import FIRST_SEEDS, MOST_SEEDS
from podium.reporting.latex import escape_latex
from podium.reporting.references import REFERENCES, Reference
from podium.reporting.words.labels import Labels
from podium.reporting.words.metric_words import metric_title, metric_value, signed, sized
from podium.reporting.words.verdict_words import listed_names, p_words
from podium.results.tuning import StudyTuning
from podium.statistics.influence import MOST_UNITS
from podium.statistics.scoring import Metric
from podium.statistics.stopping import LEAST_CHANCE, Look
from podium.statistics.together import MOST_PARTITIONED
from podium.statistics.verdicts import Pair, Verdicts

MARK = re.compile(r"\[@([a-z0-9,]+)\]")


@dataclass(frozen=True)
class PaperText:
    """Sentences for a paper."""

    marked: str
    """With a mark such as `[@mcnemar1947,lancaster1961]` where publications are cited."""

    @property
    def references(self) -> list[Reference]:
        """The publications that are cited, by the authors' names."""
        cited = {key for keys in MARK.findall(self.marked) for key in keys.split(",")}
        return [one for key, one in REFERENCES.items() if key in cited]

    @property
    def plain(self) -> str:
        """The sentences with names and years."""

        def cited(mark: re.Match[str]) -> str:
            return f"({'; '.join(REFERENCES[key].cited for key in mark[1].split(','))})"

        return MARK.sub(cited, self.marked).replace(" %", "\u00a0%")

    @property
    def latex(self) -> str:
        """The same for LaTeX, with the keys of `references`."""
        parts = re.split(rf" {MARK.pattern}", self.marked)
        return "".join(
            rf"~\cite{{{part}}}" if at % 2 else escape_latex(part).replace(r" \%", r"\,\%")
            for at, part in enumerate(parts)
        )


def paper_text(
    verdicts: Verdicts | None,
    say: Labels,
    tuning: StudyTuning | None = None,
    looks: Sequence[Look] = (),
) -> PaperText | None:
    """What was compared, what it showed, and how.

    Args:
        verdicts: of the contenders; None: they were not compared.
        say: the language.
        tuning: how the contenders were tuned; None: they were not.
        looks: of a study with `seeds: auto`; empty: the seeds were listed.

    Returns:
        The sentences; None where there are no pairs.
    """
    if verdicts is None or not verdicts.pairs:
        return None
    parts = [
        _compared(verdicts, say),
        *_tuned(tuning, say),
        *_found(verdicts, say),
        *_methods(verdicts, say, looks),
        _claim(verdicts, say),
        say("paper_software", version=__version__),
    ]
    return PaperText(" ".join(parts))


def _compared(verdicts: Verdicts, say: Labels) -> str:
    """The design: how many contenders, images, groups, seeds and folds."""
    grouping, folds = verdicts.grouping, verdicts.folds
    counts = sorted({one.seeds for one in verdicts.standings})
    seeds = str(counts[0])
    if len(counts) > 1:
        seeds = say("paper_seeds_range", fewest=counts[0], most=counts[-1])
    values = {
        "count": say.count(len(verdicts.standings)),
        "n": say.count(verdicts.n),
        "groups": say("paper_in_groups", groups=say.count(grouping.groups)) if grouping else "",
    }
    if folds is None:
        key = "paper_trained_once" if counts == [1] else "paper_trained_seeds"
        return say("paper_compared", trained=say(key, seeds=seeds), **values)
    design = say("v_folds_once", folds=folds.folds)
    if folds.repeats > 1:
        design = say("v_folds_repeated", folds=folds.folds, repeats=folds.repeats)
    more = say("paper_fold_seeds", seeds=seeds) if counts != [1] else ""
    return say("paper_compared_folds", design=design, seeds=more, **values)


def _tuned(tuning: StudyTuning | None, say: Labels) -> Iterator[str]:
    """What was searched, how, and how many trials each contender got."""
    if tuning is None or not tuning.contenders:
        return
    tune, by_count = tuning.tune, dict[int, list[str]]()
    for one in tuning.contenders:
        by_count.setdefault(len(one.trials), []).append(one.label)
    counts = [
        say("paper_trials", trials=say.count(count))
        if len(by_count) == 1
        else say("paper_trials_of", trials=say.count(count), names=listed_names(names, say))
        for count, names in sorted(by_count.items(), reverse=True)
    ]
    yield say(
        "paper_tuned",
        space=", ".join(tune.space),
        sampler=say(f"paper_{tune.sampler}"),
        trials=f" {say('and')} ".join(counts),
        metric=metric_title(tuning.metric, say),
    )
    if tuning.untuned:
        yield say("paper_untuned", names=listed_names(tuning.untuned, say))
    if tune.prune == "median":
        ended = sum(one.count("pruned") for one in tuning.contenders)
        every = sum(len(one.trials) for one in tuning.contenders)
        yield say("paper_pruned", count=say.count(ended), trials=say.count(every))


def _found(verdicts: Verdicts, say: Labels) -> Iterator[str]:
    """Who may be the best, the two best with their difference, and how many pairs are decided."""
    standings, leaders = verdicts.standings, verdicts.leaders
    if len(standings) > 2:
        names = [one.label for one in leaders]
        if len(leaders) == 1:
            yield say("paper_winner", name=names[0])
        elif len(leaders) == len(standings):
            yield say("paper_leaders_all")
        else:
            yield say("paper_leaders", names=listed_names(names, say))
    yield _two_best(verdicts, say)
    if len(standings) > 2:
        decided = sum(pair.winner is not None for pair in verdicts.pairs)
        yield say("paper_decided", pairs=len(verdicts.pairs), decided=decided)


def _two_best(verdicts: Verdicts, say: Labels) -> str:
    first, second = verdicts.standings[:2]
    metric, pair = verdicts.metric, verdicts.pair(first.name, second.name)
    several = len(verdicts.pairs) > 1
    value, ends = pair.judged.value, (pair.joint.low, pair.joint.high)
    difference, (low, high) = signed(metric, value, say), (signed(metric, e, say) for e in ends)
    p = p_words(pair.p_adjusted, say)
    key = "paper_tied"
    if pair.winner is not None:
        key = "paper_better"  # which gives the direction, so that only an end beyond 0 has a sign
        difference = sized(metric, value, say)
        if ends[0] * ends[1] > 0:
            low, high = (sized(metric, end, say) for end in sorted(ends, key=abs))
    elif pair.equivalent and verdicts.margin.chosen:
        key = "paper_equivalent"
    return say(
        key,
        first=first.label,
        second=second.label,
        metric=metric_title(metric, say),
        a=metric_value(metric, first.judged.value, say),
        b=metric_value(metric, second.judged.value, say),
        difference=_with_unit(metric, difference, say),
        interval=say("paper_interval_joint" if several else "paper_interval", low=low, high=high),
        p=say("paper_adjusted_p", p=p.removeprefix("p ")) if several else p,
        within=_with_unit(metric, sized(metric, pair.within, say), say),
        margin=_with_unit(metric, sized(metric, verdicts.margin.size, say), say),
    )


def _with_unit(metric: Metric, value: str, say: Labels) -> str:
    return say("paper_points", value=value) if metric.percent else value


def _methods(verdicts: Verdicts, say: Labels, looks: Sequence[Look]) -> Iterator[str]:
    """The tests, what a metric's values are, the adjustment for pairs and looks, the margin."""
    count = len(verdicts.pairs)
    tests = f" {say('and')} ".join(_tests(verdicts, say))
    yield say("paper_tests" if count > 1 else "paper_tests_two", tests=tests)
    yield from _intervals(verdicts, say)
    metric = verdicts.metric
    if not metric.is_accuracy:
        yield say(f"paper_metric_{_values_of(verdicts)}", metric=metric_title(metric, say))
    if count > 1:
        few = len(verdicts.standings) <= MOST_PARTITIONED
        logical = say("paper_logical") if few else ""
        yield say("paper_adjusted", pairs=count, logical=logical)
    if verdicts.seed_level < 1:
        probed = any(len(one.judged) < len(one.pairs) for one in looks[-1:])
        yield say(
            "paper_looks",
            but=say("paper_but_shortcuts") if probed else "",
            first=FIRST_SEEDS,
            most=MOST_SEEDS,
            chance=say.percent(LEAST_CHANCE, 0),
            level=say.percent(verdicts.seed_level),
        )
    if verdicts.margin.chosen:
        size = sized(metric, verdicts.margin.size, say)
        yield say("paper_margin", margin=_with_unit(metric, size, say))


def _values_of(verdicts: Verdicts) -> str:
    """What an image's value is, for a metric other than accuracy."""
    metric = verdicts.metric
    if verdicts.folds is not None:
        return "folds"
    if metric.per_image is not None:
        return "mean"
    if metric.per_image_of_class is not None:
        return "classes"
    return "jackknife" if metric.contributions is None else "area"


def _units(verdicts: Verdicts) -> str:
    """What is drawn at random: images, groups, or blocks where a metric has too many of them."""
    grouping = verdicts.grouping
    units = verdicts.n if grouping is None else grouping.groups
    if (
        not verdicts.metric.is_accuracy
        and _values_of(verdicts) == "jackknife"
        and units > MOST_UNITS
    ):
        return "blocks"
    return "images" if grouping is None else "groups"


def _tests(verdicts: Verdicts, say: Labels) -> list[str]:
    """Each test that some pair had, where there are two with the pairs that each was for."""
    units, pairs = _units(verdicts), verdicts.pairs
    if verdicts.folds is not None:
        keys = "nadeau2003,bouckaert2004" if verdicts.folds.repeats > 1 else "nadeau2003"
        of_units = say("paper_of_groups" if verdicts.grouping else "paper_of_images")
        return [say("paper_test_folds", reference=f"[@{keys}]", of_units=of_units)]
    counted, over_seeds = _is_counted(verdicts), _over_seeds(pairs)
    both = 0 < len(over_seeds) < len(pairs)
    found = [say("paper_test_mcnemar")] if any(counted) else []
    if len(pairs) > sum(counted) + len(over_seeds):
        where = say("paper_where_single") if both else ""
        found.append(say("paper_test_flips", of_units=say(f"paper_of_{units}"), where=where))
    if over_seeds:
        where = say("paper_where_seeds") if both else ""
        welch = say("paper_welch") if _by_own_seeds(over_seeds) else ""
        found.append(say("paper_test_seeds", units=say(f"paper_{units}"), welch=welch, where=where))
    return found


def _intervals(verdicts: Verdicts, say: Labels) -> Iterator[str]:
    """What the intervals of differences are from; for folds, the test has said it."""
    if verdicts.folds is not None:
        return
    counted = _is_counted(verdicts)
    if any(counted):
        yield say("paper_intervals_tango")
    if not all(counted):
        key = "seeds" if _over_seeds(verdicts.pairs) else "units"
        bounded = all(map(math.isfinite, verdicts.metric.bounds))
        pseudo = say("paper_pseudo") if bounded else ""
        units = say(f"paper_{_units(verdicts)}")
        yield say(f"paper_intervals_{key}", units=units, pseudo=pseudo)


def _over_seeds(pairs: Sequence[Pair]) -> list[Pair]:
    return [pair for pair in pairs if pair.claim == "methods"]


def _is_counted(verdicts: Verdicts) -> list[bool]:
    """Of each pair, whether its test is McNemar's: right and wrong images of two trainings."""
    by_images = verdicts.metric.is_accuracy and verdicts.grouping is None
    return [by_images and pair.seed_counts == (1, 1) for pair in verdicts.pairs]


def _by_own_seeds(pairs: Sequence[Pair]) -> bool:
    """Whether a test used each contender's own seed variance: as soon as the seeds of the two
    differ, or the variance is pooled over several pairs."""
    seeds = [pair.seeds for pair in pairs]
    return any(a != b for one in seeds for a, b in one) or len(set(seeds)) < len(seeds)


def _claim(verdicts: Verdicts, say: Labels) -> str:
    """What the verdicts are about: models, recipes, or either."""
    if verdicts.folds is not None:
        return say("paper_claim_folds", trained=say.count(verdicts.folds.training_images))
    kinds = {pair.claim for pair in verdicts.pairs}
    if kinds == {"methods"}:
        return say("paper_claim_methods")
    every_once = all(pair.seed_counts == (1, 1) for pair in verdicts.pairs)
    return say("paper_claim_models" if every_once else "paper_claim_mixed")
