"""The background parts of a model card: data, protocol, limits, licence, environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from podium.__about__ import __version__
from podium.auditing.record import LEAST_ACCURACY
from podium.config.settings import RunSpec
from podium.deploy.publish.card_metadata import Dataset, bases_of
from podium.deploy.publish.card_results import (
    bullets,
    class_interval,
    fence,
    folded,
    images_a_class,
)
from podium.deploy.publish.card_subject import Subject
from podium.models.ours import OURS
from podium.reporting.markdown import escape_markdown, markdown_table
from podium.reporting.words.cautions import final_model_words
from podium.reporting.words.labels import NOTHING, Labels
from podium.reporting.words.metric_words import say_by
from podium.reporting.words.protocol_words import leaks, looks
from podium.reporting.words.recipes import facts
from podium.reporting.words.tuning_words import settings_words
from podium.reporting.words.verdict_words import listed_names
from podium.statistics.scoring import noted

CITATION = """@software{podium,
  author = {{The Podium authors}},
  title = {Podium: which image classifier wins on your images, and how sure can you be?},
  version = {VERSION},
  year = {2026}
}"""


def public_recipe(recipe: RunSpec) -> dict[str, Any]:
    """A recipe as plain values, without paths of the machine that trained it.

    Args:
        recipe: of a contender.
    """
    if recipe.weights is not None:
        recipe = recipe.model_copy(update={"weights": Path(recipe.weights.name)})
    values = recipe.model_dump(mode="json", exclude_defaults=True)
    return {key: value for key, value in values.items() if value is not None}


def data(subject: Subject, images: Dataset, say: Labels) -> list[str]:
    """The training data, its size, and the findings of the audit."""
    parts = [f"## {say('card_data')}", escape_markdown(_origin(images, say))]
    study = subject.study
    if study is None or not study.data:
        return parts
    rows = []
    for name, counts in dict(study.data.get("splits") or {}).items():
        known = [int(n) for n in counts.values() if n]
        low, high = (min(known), max(known)) if known else (0, 0)
        span = say("data_range", low=say.count(low), high=say.count(high))
        title = say(name) if name in ("train", "valid", "test") else str(name)
        span = span if low != high else say.count(low)
        rows.append((title, say.count(sum(known)), say.count(len(known)), span))
    keys = ("data_split", "data_images", "data_classes", "data_per_class")
    parts.append(markdown_table([say(key) for key in keys], rows, numbers=3).strip())
    notes = [say("card_data_print", fingerprint=study.data.get("fingerprint") or NOTHING)]
    if unreadable := study.data.get("unreadable"):
        notes.append(say("card_data_unreadable", count=say.count(len(unreadable))))
    parts.append(escape_markdown(" ".join(notes)))
    return [*parts, *_audit(subject, say)]


def _origin(images: Dataset, say: Labels) -> str:
    if images.known is not None:
        known = images.known
        key = "card_data_known" if images.hub_id else "card_data_drawn"
        return say(key, title=known.title, id=images.hub_id, licence=known.licence)
    return say("card_data_given", id=images.hub_id) if images.hub_id else say("card_data_own")


def _audit(subject: Subject, say: Labels) -> list[str]:
    from podium.reporting.page.audit_page import audit_sections

    study, run = subject.study, subject.result
    if study is None or study.audit is None or run is None:
        return [escape_markdown(say("card_data_no_audit"))]
    found = [sentence for sentence, _ in audit_sections(study.audit, {}, say)["findings"]]
    told = leaks(study, say)
    if told is not None and told["rows"]:
        at = next(at for at, one in enumerate(study.runs) if one is run)
        _, _, without, leaked = told["rows"][at]
        found.append(say("card_data_leaked", without=without, leaked=leaked))
    return [escape_markdown(say("card_data_audit")), bullets(found)]


def protocol(subject: Subject, say: Labels) -> list[str]:
    """How it was trained and scored, in words and as a recipe."""
    parts, run = [f"## {say('card_protocol')}"], subject.result
    if run is not None and run.folds is not None:
        told = (say("note_folds", folds=run.folds), final_model_words(run, say))
        parts.append(escape_markdown(" ".join(told)))
    elif run is not None and run.members:
        names = listed_names(list(run.members), say)
        parts.append(escape_markdown(say("card_protocol_mean", names=names)))
    elif subject.recipe.is_probe_alone:
        probe = say(f"card_probe_{subject.recipe.probe_kind}")
        parts.append(escape_markdown(say("card_protocol_probe", probe=probe)))
    elif subject.done:
        best, epochs = (say.count(subject.done.get(key)) for key in ("best_epoch", "epochs"))
        text = say_by(
            "card_protocol_text", noted(subject.done).metric, say, best=best, epochs=epochs
        )
        parts.append(escape_markdown(text))
    if tuned := subject.done.get("tuned"):
        chosen = settings_words(tuned["settings"], say) or say("tuning_own")
        text = say("card_protocol_tuned", settings=chosen, trials=say.count(tuned["trials"]))
        parts.append(escape_markdown(text))
    if subject.study is not None:
        seen = looks(subject.study, say)
        parts.append(escape_markdown(f"{seen['text']} {seen['total']}".strip()))
    if run is not None:
        rows = [*facts(run, say), (say("col_seed"), str(subject.folder.seed))]
        table = markdown_table((say("card_col_measure"), say("card_col_value")), rows).strip()
        parts.append(folded(say("card_protocol_facts"), table))
    recipe = f"{_recipe_yaml(subject)}# seed: {subject.folder.seed}\n"
    parts.append(folded(say("card_protocol_yaml"), fence(recipe, "yaml")))
    return parts


def _recipe_yaml(subject: Subject) -> str:
    """The recipe; of a mean, with those of its members, as in a study."""
    values: dict[str, Any] = public_recipe(subject.recipe)
    if subject.recipe.mean_of:
        recipes = {name: public_recipe(one.recipe) for name, one in subject.networks.items()}
        values = {"contenders": {**recipes, subject.folder.contender: values}}
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def limits(subject: Subject, say: Labels) -> list[str]:
    """The model's limits, one sentence each."""
    run, study = subject.result, subject.study
    told = [say("card_limit_closed", classes=say.count(len(subject.class_names)))]
    if run is not None:
        class_n = images_a_class(run)
        told.append(
            say(
                "card_limit_small",
                interval=say.interval(run.interval),
                n=say.count(run.scores.n),
                class_n=say.count(class_n),
                class_interval=class_interval(class_n, say),
            )
        )
    audit = study.audit if study is not None else None
    if audit is not None and run is not None:
        leaked = len(set(audit.leaked("test")).intersection(run.test.paths))
        if leaked:
            told.append(say("card_limit_leaked", count=say.count(leaked), n=run.scores.n))
        labels = audit.labels
        if labels is not None and labels.estimated_errors and labels.accuracy >= LEAST_ACCURACY:
            told.append(
                say(
                    "card_limit_labels",
                    count=say.count(labels.estimated_errors),
                    n=say.count(audit.totals["images"]),
                )
            )
    told.append(say("card_limit_same"))
    size = subject.done.get("image_size") or subject.recipe.image_size
    if size:
        told.append(say("card_limit_squeezed", size=size))
    if study is None or len(study.spec.every_seed) == 1:
        told.append(say("card_limit_seed"))
    return [*told, say("card_limit_people")]


def terms(subject: Subject, licence: str | None, images: Dataset, say: Labels) -> list[str]:
    """The author's licence, or its absence, and known terms of weights and data."""
    told = [say("card_licence_given", licence=licence)] if licence else [say("card_licence_none")]
    bases = bases_of(subject)
    told += [say(base.note, source=base.source, licence=base.licence) for base in bases]
    if any(base.licence or "imagenet" in base.source.lower() for base in bases):
        told.append(say("card_licence_imagenet"))
    others = [one for one in subject.networks.values() if one.model not in OURS and one.about]
    licences = dict.fromkeys(one.about.licence for one in others if one.about)
    told += [say("card_licence_network", licence=licence) for licence in licences if licence]
    if images.known is not None:
        known = images.known
        told.append(say("card_licence_data", title=known.title, licence=known.licence))
    told.append(say("card_licence_podium"))
    return [f"## {say('card_licence')}", bullets(told)]


def environment(subject: Subject, say: Labels) -> list[str]:
    """The hardware and software of the training, the author of the card, and the citation."""
    done = subject.done
    parts = [f"## {say('card_environment')}"]
    if done:
        parts.append(
            escape_markdown(
                say(
                    "card_environment_mean" if subject.recipe.mean_of else "card_environment_text",
                    time=say.duration(done.get("seconds")),
                    device=str(done.get("device") or NOTHING),
                    podium=str(done.get("podium_version") or NOTHING),
                    torch=str(done.get("torch_version") or NOTHING),
                    precision=str(done.get("precision") or NOTHING),
                )
            )
        )
    parts.append(escape_markdown(say("card_made", version=__version__)))
    made_by = str(done.get("podium_version") or __version__)
    cited = [fence(CITATION.replace("VERSION", made_by), "bibtex")]
    works = {
        one.about.citation: "card_citation_paper" if one.model in OURS else "card_citation_model"
        for one in subject.networks.values()
        if one.about is not None and one.about.citation
    }
    for citation, key in works.items():
        cited += [escape_markdown(say(key)), fence(citation, "bibtex")]
    return [*parts, folded(say("card_citation"), "\n\n".join(cited))]
