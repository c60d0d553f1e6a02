"""Learning curves in words: what more training images would bring, and who overtakes whom."""

from __future__ import annotations

from podium.config.text import listed
from podium.reporting.words.labels import Labels
from podium.results.curve import Curve, CurveResults, Rivals
from podium.statistics.learning_curve import FAR

GAIN = 0.02
"""The gain in accuracy whose price is told, 0..1."""


def lead(found: CurveResults, say: Labels) -> str:
    """What was trained, and on what it was scored.

    Args:
        found: the learning curves.
        say: the language.
    """
    points = [point for curve in found.curves for point in curve.points]
    values = {
        "runs": say.count(sum(point.seeds for point in points)),
        "seeds": say.count(min(point.seeds for point in points)),
        "n": say.count(found.n),
    }
    folds = found.study.spec.data.folds
    return (
        say("growth_lead", **values)
        if folds is None
        else say("growth_lead_folds", folds=folds, **values)
    )


def sentences(found: CurveResults, say: Labels, gain: float = GAIN) -> list[str]:
    """What follows from the curves, one sentence or two for each contender and pair.

    Args:
        found: the learning curves.
        say: the language.
        gain: in accuracy, whose price is told; 0..1.
    """
    told = [_price(curve, gain, say) for curve in found.curves]
    return told + [_order(one, found.curves, say) for one in found.rivals]


def _price(curve: Curve, gain: float, say: Labels) -> str:
    """What a gain would cost, or why that cannot be said; then how the law was checked."""
    fit, there = curve.fit, curve.points[-1].images
    values = {"name": curve.label, "gain": say.short(round(100 * gain, 4))}
    check = {}
    if fit.foretold is not None:
        one = fit.foretold
        low, high, measured = (say.percent(v, 1) for v in (one.low, one.high, one.measured))
        check = {"low": low, "high": high, "measured": measured}
    extra = fit.extra(gain)
    if extra is None:
        why = say(f"growth_why_{fit.silence}", **check)
        return say("growth_none", **values, why=why)
    values["there"] = say.count(there)
    if extra.low is None:
        told = say("growth_beyond", **values, far=say.short(FAR))
    elif extra.high is None:
        told = say("growth_least", **values, low=rounded(extra.low, say))
    else:
        bounds = {"low": rounded(extra.low, say), "high": rounded(extra.high, say)}
        told = say("growth_between", **values, **bounds)
    return f"{told} {say('growth_check', **check)}"


def _order(one: Rivals, curves: tuple[Curve, ...], say: Labels) -> str:
    """Who is ahead with how many images, and where the laws cross."""
    labels = {number: curves[number].label for number in (one.first, one.second)}
    images = {point.share: point.images for point in curves[one.first].points}
    by = {
        number: [say.count(images[share]) for share, ahead in one.leads if ahead == number]
        for number in labels
    }
    early = next((ahead for _, ahead in one.leads if ahead is not None), None)
    if early is None:
        told = say("growth_tied", a=labels[one.first], b=labels[one.second])
    else:
        late = one.second if early == one.first else one.first
        names = {"a": labels[early], "b": labels[late]}
        if by[late]:
            told = say("growth_turn", **names, few=listed(by[early]), most=listed(by[late]))
        elif len(by[early]) == len(one.leads):
            told = say("growth_ahead_all", **names)
        else:
            told = say("growth_ahead", **names, list=listed(by[early]))
    if one.crossing is None:
        return told
    ahead, behind = (one.first, one.second)[:: -1 if one.crossing.first else 1]
    places = {key: rounded(getattr(one.crossing, key), say) for key in ("size", "low", "high")}
    return f"{told} {say('growth_cross', a=labels[ahead], b=labels[behind], **places)}"


def rounded(images: int, say: Labels) -> str:
    """A number of images to two digits: a fit knows no more.

    Args:
        images: the number.
        say: the language.
    """
    return say.count(float(f"{images:.2g}"))
