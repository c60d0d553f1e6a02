"""The commands that need no runs: power before a study, claim for what others published."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from podium.cli.terminal import err, out
from podium.errors import ConfigError

if TYPE_CHECKING:
    from podium.statistics.assumptions import Assumptions
    from podium.statistics.power import Plan
    from podium.statistics.published import Claim

app = typer.Typer()


@app.command()
def power(
    n: Annotated[int, typer.Option("--n", help="Test images.")],
    difference: Annotated[
        float, typer.Option(help="Difference in accuracy to find, in percentage points.")
    ],
    seeds: Annotated[
        int, typer.Option(help="Seeds per contender; 1: two trained models are compared.")
    ] = 1,
    accuracy: Annotated[
        float | None,
        typer.Option(help="Mean accuracy of the two, in %.", show_default="85"),
    ] = None,
    disagreement: Annotated[
        float | None,
        typer.Option(
            help="Images that exactly one classifies correctly, in %.",
            show_default="usual at that accuracy",
        ),
    ] = None,
    contenders: Annotated[
        int, typer.Option(help="Number of contenders; all pairs are compared.")
    ] = 2,
    wanted: Annotated[float, typer.Option("--power", help="Desired power, 0 to 1.")] = 0.8,
    seed_sd: Annotated[
        float | None,
        typer.Option(
            help="Standard deviation over seeds of the difference, in points.", show_default="1"
        ),
    ] = None,
    image_share: Annotated[
        float | None,
        typer.Option(
            help="Share of the image variance that persists across seeds, 0 to 1.",
            show_default="0.5",
        ),
    ] = None,
    groups: Annotated[
        int | None,
        typer.Option(
            help="Groups of images that belong together, such as patients.",
            show_default="images are independent",
        ),
    ] = None,
    design_effect: Annotated[
        float | None,
        typer.Option(
            help="How many images of a group count as one: 1 to the images per group.",
            show_default="from --like",
        ),
    ] = None,
    like: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="RUN", help="Runs to take missing values from (as for compare); repeatable."
        ),
    ] = None,
) -> None:
    """Compute what difference a test set can show, and how many images or seeds it takes."""
    from podium.statistics.assumptions import Assumptions, observed
    from podium.statistics.power import plan
    from podium.statistics.table import read_table

    measured = Assumptions()
    if like:
        sheet = read_table(like)
        measured = observed(sheet)
        for notice in sheet.notices:
            err.tell(notice)
    if disagreement is not None:
        apart: float | None = disagreement / 100
    else:  # the runs' disagreement belongs to their accuracy
        apart = measured.disagreement if accuracy is None else None
    given = replace(
        measured,
        disagreement=apart,
        accuracy=measured.accuracy if accuracy is None else accuracy / 100,
        contenders=contenders,
        target=wanted,
        seed_sd=measured.seed_sd if seed_sd is None else seed_sd / 100,
        image_share=measured.image_share if image_share is None else image_share,
    )
    if groups is not None:
        given = given.in_groups(n, groups, design_effect)
    elif design_effect is not None:
        raise ConfigError("--design-effect: it is about images in groups; give --groups as well.")
    else:
        given = given.for_images(n)
    with err.status("Counting outcomes"):
        found = plan(n, difference / 100, seeds, given)
    for line in _plan_lines(found, given):
        out.tell(line)


def _plan_lines(found: Plan, given: Assumptions) -> list[str]:
    from podium.statistics.grouping import FEW_GROUPS

    gap, wanted = f"{100 * found.difference:g}", f"{100 * given.target:g}"
    who = "two trained models" if found.seeds == 1 else f"two recipes, {found.seeds} seeds each"
    pairs = given.contenders * (given.contenders - 1) // 2
    images = f"{found.n:,} test images"
    if found.groups is not None:
        images += f" in {found.groups:,} groups"
    lines = [
        f"{images}, {who}, a true difference of {gap} points:",
        f"  power {100 * found.power:.0f} %: chance that a study finds it (5 % level"
        + (f" over {pairs} pairs)" if pairs > 1 else ")"),
    ]
    lines.append(
        f"  smallest difference found with {wanted} % power: {100 * found.smallest:.1f} points"
        if found.smallest is not None
        else f"  no difference is found with {wanted} % power"
    )
    if found.images is not None:
        lines.append(f"  test images for {gap} points: {_needed(found, given)}")
    else:
        lines.append(
            f"  no number of test images finds {gap} points with {wanted} % power and "
            f"{found.seeds} seed{'s' * (found.seeds > 1)}: the seeds alone vary too much"
        )
    if found.needed_seeds is not None:
        lines.append(f"  seeds on {found.n:,} images to compare recipes: {found.needed_seeds}")
    else:
        lines.append(
            f"  no number of seeds up to 100 finds it on {found.n:,} images: the images alone "
            "vary too much"
        )
    if found.groups is not None:
        lines.append(
            f"Images of a group are alike: {given.design_effect:.1f} of them count as one (design "
            f"effect), so these are worth {found.effective:,.0f} independent images."
        )
        if found.groups < FEW_GROUPS:
            lines.append(f"With fewer than {FEW_GROUPS} groups hardly anything can be claimed.")
    lines.append(
        f"Assumed: exactly one of the two is right on {100 * found.disagreement:.1f} % of the "
        f"images; over seeds the difference varies by {100 * given.seed_sd:.1f} points; "
        f"{100 * given.image_share:.0f} % of the image variance persists across seeds."
    )
    return lines


def _needed(found: Plan, given: Assumptions) -> str:
    def told(images: int) -> str:
        groups = f" in {max(2, round(images / given.group_size)):,} groups"
        return f"{images:,}{groups if found.groups is not None else ''}"

    assert found.images is not None
    more = f" ({told(found.images_90)} for 90 %)" if found.images_90 is not None else ""
    return f"{told(found.images)}{more}"


@app.command()
def claim(
    accuracies: Annotated[
        list[str],
        typer.Argument(metavar="ACCURACY...", help="In %, as published; with a name: ours=87.4."),
    ],
    n: Annotated[int, typer.Option("--n", help="Test images, the same for all models.")],
) -> None:
    """Judge published accuracies: does "A is better than B" hold, and for which overlap?

    Two accuracies on the same images do not tell on how many of them exactly one model is right,
    which decides whether a difference is significant. Every possible number is tried.
    """
    from podium.statistics.published import claim as claims, counts_of

    named = [one.rpartition("=") for one in accuracies]
    names = [name for name, _, _ in named if name]
    if names and len(names) < len(named):
        raise ConfigError("name all accuracies (ours=87.4 theirs=84.6), or none of them.")
    counts = [counts_of(value, n) for _, _, value in named]
    found = claims(n, counts, names or None)
    for one in found:
        for line in _claim_lines(one):
            out.tell(line)
    adjusted = f", adjusted by Holm over the {len(found)} pairs" if len(found) > 1 else ""
    out.tell(
        f"p by McNemar's test with mid-p{adjusted}. It takes the test images for independent, and "
        "is about these trained models: another seed of the same recipe may score differently.",
        style="dim",
    )


def _claim_lines(found: Claim) -> list[str]:
    first, second = found.names
    lines = [
        f"{first} against {second}: {_right(found.right[0])} against {_right(found.right[1])} of "
        f"{found.n:,} test images right"
    ]
    for word, one in (("least", found.least), ("usual", found.typical), ("most", found.most)):
        share = f"{one.discordant:>5,} images ({100 * one.discordant / found.n:4.1f} %)"
        lines.append(f"  {word:<6} {share} that only one gets right: p {_p(one.p)}")
    if found.holds is False:
        told = "cannot hold, whatever the overlap: too few images, or too small a difference."
    elif found.holds:
        told = "holds at the 5 % level, whatever the overlap."
    elif found.holds_up_to is None:
        told = "depends on the overlap, on the other pairs and on how the accuracies were rounded."
    else:
        told = (
            "depends on the overlap: it holds at the 5 % level if exactly one of the two is right "
            f"on {found.holds_up_to:,} images or fewer ({100 * found.holds_up_to / found.n:.1f} %)."
        )
    return [*lines, f'"{first} is better than {second}" {told}']


def _right(counts: range) -> str:
    return f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"


def _p(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else f"= {value:.{2 if value >= 0.1 else 4}f}"
