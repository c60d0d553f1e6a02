"""A run in words: its title, recipe, calibration and cost."""

from __future__ import annotations

from collections.abc import Mapping

from podium.config.settings import RunSpec
from podium.config.titles import AUGMENTATION_TITLES, model_title
from podium.reporting.words.labels import NOTHING, Labels
from podium.reporting.words.tuning_words import tuned_words
from podium.results.run import RunResult
from podium.results.study import Unfinished
from podium.statistics.calibration import Calibration
from podium.statistics.calibration_error import Estimate
from podium.statistics.conformal import Coverage
from podium.statistics.metrics import ClassScores

MOST_NAMED = 8  # classes in a line; the rest is counted


def run_title(run: RunResult | Unfinished, say: Labels) -> str:
    """The contender's label, with the seed where the study has several.

    Args:
        run: finished or not.
        say: the language.
    """
    return ", ".join(filter(None, [run.label, seed_name(run, say)]))


def seed_name(run: RunResult | Unfinished, say: Labels) -> str:
    """`seed 3`; empty where the study has one seed.

    Args:
        run: finished or not.
        say: the language.
    """
    return "" if run.named_seed is None else f"{say('col_seed').lower()} {run.named_seed}"


def recipe_in_words(run: RunResult, say: Labels) -> str:
    """The model, and its augmentation and pre-training if it has any.

    Args:
        run: the run.
        say: the language.
    """
    parts = [model_words(run, say)]
    if run.recipe.augmentation != "none" or run.recipe.mixup or run.recipe.cutmix:
        parts.append(augmentation(run, say))
    if run.recipe.pretrained or run.recipe.weights is not None:
        parts.append(pretraining(run.recipe, say))
    return " · ".join(parts)


def model_words(run: RunResult, say: Labels) -> str:
    """The display name of the model, or what a mean averages.

    Args:
        run: the run.
        say: the language.
    """
    return say("mean_of", names=_members(run, say)) if run.members else run.model


def _members(run: RunResult, say: Labels) -> str:
    shown = list(run.members[:MOST_NAMED])
    if len(run.members) > MOST_NAMED:
        shown.append(say("v_others", count=say.count(len(run.members) - MOST_NAMED)))
    return ", ".join(shown)


def calibration_rows(run: RunResult, say: Labels) -> list[tuple[str, str, str]]:
    """Rows of the calibration table: name, value as trained, value with the temperature.

    Args:
        run: the run.
        say: the language.
    """

    def share(estimate: Estimate) -> str:
        bounds = say.interval((estimate.low, estimate.high))
        return f"{say.percent(estimate.value, 1)} ({bounds})"

    def number(estimate: Estimate) -> str:
        low, high = say.number(estimate.low, 3), say.number(estimate.high, 3)
        return f"{say.number(estimate.value, 3)} ({low}–{high})"

    def perfect(found: Calibration) -> str:
        expected = found.expected_if_perfect
        return say.interval((expected.low, expected.high))

    before, after = run.calibration
    return [
        (say("cal_row_ece"), share(before.ece), share(after.ece)),
        (say("cal_row_perfect"), perfect(before), perfect(after)),
        (say("cal_row_nll"), number(before.nll), number(after.nll)),
        (say("cal_row_brier"), number(before.brier), number(after.brier)),
    ]


def coverage_rows(run: RunResult, say: Labels) -> list[tuple[str, str, str, str]]:
    """Rows on the sets of classes: promised, kept, mean size, share of sets of one class.

    Args:
        run: the run.
        say: the language.
    """
    return [
        (
            say("sets_by_class" if one.by_class else "sets_of_all", share=_level(one, say)),
            f"{say.percent(one.covered.value, 1)} "
            f"({say.interval((one.covered.low, one.covered.high))})",
            say.number(one.size),
            say.percent(one.single, 0),
        )
        for one in run.coverages
    ]


def _level(one: Coverage, say: Labels) -> str:
    return f"{say.short(100 * one.promised)} %"


def coverage_hint(run: RunResult, say: Labels) -> str:
    """What the sets of classes are and when their promise holds, or why there are none.

    Args:
        run: the run.
        say: the language.
    """
    if not run.coverages:
        return say("sets_none", n=say.count(run.valid_n))
    told = [say("sets_hint", n=say.count(run.valid_n)), say("sets_exchangeable")]
    told += [say("sets_folds")] * (run.folds is not None)
    told += [say("sets_groups")] * (run.groups is not None)
    return " ".join(told)


def recall_interval(one: ClassScores, say: Labels) -> tuple[str, float]:
    """The 95 % interval of a class's recall in %, and its lower bound as sort key.

    Args:
        one: the class.
        say: the language.
    """
    if not one.support:
        return NOTHING, -1.0
    bounds = one.interval
    return say.interval(bounds, 0).removesuffix(" %"), bounds[0]


def _learning_rate(recipe: RunSpec, say: Labels) -> str:
    """The learning rate and its schedule."""
    if recipe.lr_schedule == "one_cycle":
        return f"{say.short(recipe.lr)} ({say('fact_one_cycle')})"
    reached = recipe.lr_drop == "plateau" or (recipe.lr_drop or recipe.epochs) < recipe.epochs
    if recipe.lr_drop is None or not reached:
        return say.short(recipe.lr)
    when = "plateau" if recipe.lr_drop == "plateau" else f"{say('epoch').lower()} {recipe.lr_drop}"
    return f"{say.short(recipe.lr)} → {say.short(recipe.lr * recipe.lr_drop_factor)} ({when})"


def _input_size(recipe: RunSpec, size: int | None, say: Labels) -> str:
    """The input size for scoring, and the training sizes where they differ."""
    if not size:
        return NOTHING
    text = say("fact_input_value", size=size)
    if recipe.progressive_sizes:
        steps = " → ".join(str(side) for side in dict.fromkeys(recipe.progressive_sizes))
        text += f" ({say('fact_input_trained', sizes=steps)})"
    return text


def _fitting(recipe: RunSpec, say: Labels) -> list[tuple[str, str]]:
    """How the weights were fitted, without settings that are off."""
    head = []
    if recipe.linear_probe:
        probe = say(f"fact_probe_{recipe.probe_kind}")
        head.append(probe if recipe.is_probe_alone else say("fact_probe_first", probe=probe))
    if recipe.pooling == "stages":
        head.append(say("fact_stages"))
    facts = [(say("fact_head"), "; ".join(head))] if head else []
    weights = []
    if recipe.class_weights != "none":
        weights.append((say("fact_class_weights"), _class_weighting(recipe, say)))
    if recipe.is_probe_alone:  # no optimizer is used
        return facts + weights
    facts += [
        (say("fact_optimizer"), recipe.optimizer),
        (say("fact_lr"), _learning_rate(recipe, say)),
    ]
    if recipe.layer_decay < 1:
        facts.append((say("fact_layer_decay"), say.number(recipe.layer_decay, 2)))
    if recipe.weight_decay:
        spared = "" if recipe.decay_norm_bias else f" ({say('fact_decay_spared')})"
        facts.append((say("fact_weight_decay"), f"{recipe.weight_decay:g}{spared}"))
    if recipe.loss != "cross_entropy":
        facts.append((say("fact_loss"), _loss(recipe, say)))
    facts += weights
    if recipe.sampler != "shuffle":
        facts.append((say("fact_sampler"), say(f"fact_sampler_{recipe.sampler}")))
    if recipe.label_smoothing:
        facts.append((say("fact_label_smoothing"), say.number(recipe.label_smoothing, 2)))
    return facts


def class_weights(weights: Mapping[str, float], say: Labels) -> str:
    """Weights by class, the heaviest first: 'cat: 3, dog: 0.5'; of many, the first are named.

    Args:
        weights: by class.
        say: the language.
    """
    ordered = sorted(weights.items(), key=lambda item: -item[1])
    told = [f"{name}: {say.short(weight)}" for name, weight in ordered[:MOST_NAMED]]
    if len(ordered) > MOST_NAMED:
        told.append(say("v_others", count=say.count(len(ordered) - MOST_NAMED)))
    return ", ".join(told)


def _class_weighting(recipe: RunSpec, say: Labels) -> str:
    if isinstance(recipe.class_weights, Mapping):
        return class_weights(recipe.class_weights, say)
    beta = say.short(recipe.effective_beta)
    return say(f"fact_class_weights_{recipe.class_weights}", beta=beta)


def _loss(recipe: RunSpec, say: Labels) -> str:
    if recipe.loss == "focal":
        return say("fact_loss_focal", gamma=say.short(recipe.focal_gamma))
    if recipe.loss == "logit_adjusted":
        return say("fact_loss_logit_adjusted", tau=say.short(recipe.logit_tau))
    return recipe.loss


def facts(run: RunResult, say: Labels) -> list[tuple[str, str]]:
    """Names and values of a run's properties.

    Args:
        run: the run.
        say: the language.
    """
    done = run.done
    device = str(done.get("device") or NOTHING)
    if done.get("precision"):
        device += f", {done['precision']}"
    speed = say.number(done.get("images_per_second"), 1)
    return [
        *(_averaged(run, say) if run.members else _trained(run, say)),
        (say("fact_top5"), say.percent(run.scores.top5_accuracy)),
        (say("fact_nll"), say.number(run.scores.nll, 3)),
        (say("fact_temperature"), say.number(run.temperature, 2)),
        (say("fact_time"), say.duration(done.get("seconds"))),
        *([] if run.members else [(say("fact_speed"), speed)]),
        (say("fact_device"), device),
        (say("fact_scored"), str(done.get("test_scored_at") or NOTHING)),
        (say("fact_finished"), str(done.get("finished_at") or NOTHING)),
    ]


def _averaged(run: RunResult, say: Labels) -> list[tuple[str, str]]:
    """What there is to say of a mean, of which nothing was trained."""
    size = run.done.get("image_size")
    return [
        (say("fact_mean_of"), _members(run, say)),
        (say("fact_input"), NOTHING if size is None else say("fact_input_members", size=size)),
        (say("fact_parameters_all"), say.count(run.done.get("parameters"))),
    ]


def _trained(run: RunResult, say: Labels) -> list[tuple[str, str]]:
    """What was trained, and how."""
    done, recipe = run.done, run.recipe
    size = done.get("image_size") or recipe.image_size
    trained = done.get("trainable_parameters")
    parameters = say.count(done.get("parameters"))
    if trained is not None:
        parameters += f" ({say.count(trained)})"
    source = done.get("pretrained_source")
    if not source:
        source = say("scratch") if not (recipe.pretrained or recipe.weights) else NOTHING
    return [
        (say("col_augmentation"), augmentation(run, say)),
        (say("fact_weights"), str(source)),
        (say("fact_input"), _input_size(recipe, size, say)),
        (say("fact_parameters"), parameters),
        *_fitting(recipe, say),
        *(
            [(say("fact_train_share"), say.percent(recipe.train_share, 1))]
            if recipe.train_share < 1
            else []
        ),
        *([(say("fact_ema"), f"{recipe.ema:g}")] if recipe.ema else []),
        *([(say("fact_tuned"), tuned_words(done["tuned"], say))] if done.get("tuned") else []),
        *([(say("fact_flip_test"), say("fact_flip_test_value"))] if recipe.flip_test else []),
        (say("fact_batch"), say.count(recipe.batch_size)),
    ]


def augmentation(run: RunResult, say: Labels) -> str:
    """The augmentation in words, with mixup and CutMix if they are on; empty for a mean.

    Args:
        run: the run.
        say: the language.
    """
    if run.members:
        return ""
    recipe, name = run.recipe, run.recipe.augmentation
    # the title of a user's augmentation was recorded in training: its code is not needed here
    title = AUGMENTATION_TITLES.get(name) or str(run.done.get("augmentation") or name)
    names = {"none": say("aug_none"), "crop_flip": say("aug_crop_flip")}
    parts = [names.get(name, title)] if name != "none" else []
    for word, alpha in (("mixup", recipe.mixup), ("CutMix", recipe.cutmix)):
        if alpha:
            parts.append(f"{word} {say.number(alpha, 1 if round(alpha, 1) == alpha else 2)}")
    return " + ".join(parts) or names["none"]


def pretraining(recipe: RunSpec, say: Labels) -> str:
    """The source of the initial weights, in a word; empty for a mean.

    Args:
        recipe: of the run.
        say: the language.
    """
    if recipe.mean_of:
        return ""
    source = say("pre_none")
    if recipe.pretrained:
        source = say("pre_imagenet")
    if recipe.weights is not None:
        source = say("pre_file")
    return say("pre_frozen", source=source) if recipe.freeze == "backbone" else source


def setting_words(key: str, say: Labels) -> str:
    """A setting in prose: in words where its name alone would mislead, else its name.

    Args:
        key: name of the setting in a study.
        say: the language.
    """
    return say(f"v_set_{key}") if key in ("pretrained", "freeze") else key


def setting_value(recipe: RunSpec, key: str, say: Labels, titles: Mapping[str, str]) -> str:
    """The value of a setting in prose.

    Args:
        recipe: the contender's recipe.
        key: name of the setting.
        say: the language.
        titles: display names of models that are not built in.
    """
    found = getattr(recipe, key)
    if found is None:
        return "–"
    if key == "model":
        return titles.get(str(found)) or model_title(str(found))
    if key == "freeze":
        return say(f"v_set_freeze_{found}")
    if isinstance(found, bool):
        return say(f"v_set_{str(found).lower()}")
    if isinstance(found, float):
        return say.short(found)
    return class_weights(found, say) if isinstance(found, Mapping) else str(found)
