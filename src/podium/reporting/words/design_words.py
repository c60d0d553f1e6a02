"""What the design of a test means for its verdicts: groups of images, and folds."""

from __future__ import annotations

from podium.reporting.words.labels import Labels
from podium.statistics.fold_tests import FoldDesign
from podium.statistics.grouping import FEW_GROUPS
from podium.statistics.verdicts import Verdicts


def folds_claim(folds: FoldDesign, say: Labels) -> str:
    """Which claim a cross-validation supports.

    Args:
        folds: its design.
        say: the language.
    """
    design = say("v_folds_once", folds=folds.folds)
    if folds.repeats > 1:
        design = say("v_folds_repeated", folds=folds.folds, repeats=folds.repeats)
    claim = say("v_claim_folds", design=design, trained=say.count(folds.training_images))
    few = say("v_folds_few") if folds.repeats == 1 else ""
    return " ".join(filter(None, [claim, few]))


def groups_sentence(verdicts: Verdicts, say: Labels) -> str:
    """What groups of test images do to the figures; empty where images are independent.

    Args:
        verdicts: of the contenders.
        say: the language.
    """
    found = verdicts.grouping
    if found is None:
        return ""
    told = say(
        "v_groups",
        n=say.count(found.images),
        groups=say.count(found.groups),
        effect=say.number(found.design_effect, 1),
        effective=say.count(round(found.effective)),
    )
    few = ""
    if not found.can_claim:
        few = say("v_groups_none", p=say.number(found.least_p, 2))
    elif found.groups < FEW_GROUPS:
        few = say("v_groups_few", few=FEW_GROUPS)
    return f"{told} {few}".strip()
