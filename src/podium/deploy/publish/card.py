"""The model card: what a run is, its accuracy and uncertainty, its data, and its limits.

Hugging Face's format: YAML front matter for the Hub, and Markdown for people. Every figure comes
from the files of the run and its study, through `podium.reporting`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from podium.__about__ import __version__
from podium.config.settings import RunSpec
from podium.deploy.find.choose import choose_run
from podium.deploy.find.hub_errors import check_repo_id
from podium.deploy.publish import card_results as figures_of
from podium.deploy.publish.card_background import data, environment, limits, protocol, terms
from podium.deploy.publish.card_metadata import check_licence, dataset_of, metadata
from podium.deploy.publish.card_results import MOST_CLASSES, bullets, fence, folded
from podium.deploy.publish.card_subject import Subject, read_subject
from podium.reporting.markdown import escape_markdown
from podium.reporting.words.labels import Labels, labels
from podium.reporting.words.recipes import recipe_in_words, run_title
from podium.runs.folder import RunFolder


def card(
    run: RunFolder | str | Path,
    *,
    license: str | None = None,
    dataset: str | None = None,
    repo_id: str | None = None,
    lang: str = "en",
    exports: Sequence[str] = (),
    pictures: Mapping[str, str] | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> str:
    """Write the model card of a run, in Hugging Face's format.

    Args:
        run: folder of a run, or of a contender or study: the run with the best validation score;
            or the `hf://OWNER/NAME` address of a pushed run.
        license: licence of the weights, an id of the Hub such as `apache-2.0`; None: the card
            says that no licence is stated.
        dataset: id of the images on the Hub, or a built-in name; None: taken from the study.
        repo_id: future place of the files, `OWNER/NAME`; the card then says how to fetch them.
        lang: `en` or `pt`.
        exports: names of the exported models that lie beside the card.
        pictures: paths from the card of the figures `confusion`, `curves` and `reliability`.
        tell: called with a sentence on each choice or doubt.

    Returns:
        The text of README.md.

    Raises:
        RunFolderError: there is no run, or a file of it is damaged.
        ConfigError: the licence, data set or language is invalid.

    Examples:
        >>> import podium
        >>> podium.card("no-such-run")
        Traceback (most recent call last):
        ...
        podium.errors.RunFolderError: no-such-run does not exist: ...
    """
    say = labels(lang)
    if license is not None:
        check_licence(license)  # before the study is read
    if repo_id is not None:
        check_repo_id(repo_id)
    subject = read_subject(choose_run(run, tell), say)
    return compose(
        subject,
        say,
        license=license,
        dataset=dataset,
        repo_id=repo_id,
        exports=exports,
        pictures=pictures,
        tell=tell,
    )


def compose(
    subject: Subject,
    say: Labels,
    *,
    license: str | None = None,
    dataset: str | None = None,
    repo_id: str | None = None,
    exports: Sequence[str] = (),
    pictures: Mapping[str, str] | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> str:
    """Compose the card of a run whose files were already read.

    Args:
        subject: the run, and what is known of it.
        say: the language's labels.
        license: licence of the weights, an id of the Hub; None: none is stated.
        dataset: id of the images on the Hub, or a built-in name; None: taken from the study.
        repo_id: future place of the files, `OWNER/NAME`; None: not known.
        exports: names of the exported models that lie beside the card.
        pictures: paths from the card of the figures `confusion`, `curves` and `reliability`.
        tell: called with a sentence on each choice or doubt.

    Raises:
        ConfigError: the licence or data set is invalid.
    """
    from huggingface_hub import ModelCard

    stated = None
    if license is not None:
        stated, doubt = check_licence(license)
        if doubt:
            tell(doubt)
    images = dataset_of(subject, dataset)
    head = metadata(subject, licence=stated, dataset=images).to_yaml(line_break="\n")
    drawn = pictures or {}
    alt = {key: (say(f"card_{key}_alt"), path) for key, path in drawn.items()}
    parts = [
        f"# {escape_markdown(subject.label)}",
        *_lead(subject, say),
        *_use(subject, repo_id, exports, say),
    ]
    result, study = subject.result, subject.study
    if result is not None:
        parts += figures_of.results(result, study, _only(alt, "confusion", "curves"), say)
        if study is not None:
            parts += figures_of.rivals(result, study, say)
        parts += figures_of.calibration(result, _only(alt, "reliability"), say)
    else:
        parts.append(_class_names(subject.class_names, say))
    parts += [
        *data(subject, images, say),
        *protocol(subject, say),
        f"## {say('card_limits')}",
        bullets(limits(subject, say)),
        *terms(subject, stated, images, say),
        *environment(subject, say),
    ]
    body = "\n\n".join(parts)
    return str(ModelCard(f"---\n{head}\n---\n\n{body}\n"))


def front_matter(text: str) -> str:
    """The YAML at the head of a card, without its marks.

    Args:
        text: the card.
    """
    return text.split("\n---\n", 1)[0].removeprefix("---\n")


def _only(alt: Mapping[str, tuple[str, str]], *keys: str) -> list[tuple[str, str]]:
    return [alt[key] for key in keys if key in alt]


def _lead(subject: Subject, say: Labels) -> list[str]:
    run = subject.result
    recipe = recipe_in_words(run, say) if run is not None else _in_a_word(subject.recipe, say)
    version = str(subject.done.get("podium_version") or __version__)
    count = say.count(len(subject.class_names))
    parts = [escape_markdown(say("card_lead", classes=count, version=version, recipe=recipe))]
    if run is not None:
        headline = say(
            "headline_only",
            name=run_title(run, say),
            accuracy=say.percent(run.scores.accuracy),
            correct=say.count(run.scores.correct),
            n=say.count(run.scores.n),
            interval=say.interval(run.interval),
        )
        parts.append(f"**{escape_markdown(headline)}**")
        if run.stood_in_for:
            told = say(
                "stand_in", used=run.model, wanted=run.stood_in_for, name=run_title(run, say)
            )
            parts.append(escape_markdown(told))
    if subject.missing:
        told = " ".join([say("card_incomplete"), *(say(key) for key in subject.missing)])
        parts.append(f"> {escape_markdown(told)}")
    return parts


def _in_a_word(recipe: RunSpec, say: Labels) -> str:
    return say("mean_of", names=", ".join(recipe.mean_of)) if recipe.mean_of else recipe.model


def _use(subject: Subject, repo_id: str | None, exports: Sequence[str], say: Labels) -> list[str]:
    place = f"runs/{'/'.join(subject.folder.path.resolve().parts[-3:])}"
    where = f"hf://{repo_id}" if repo_id else place
    if repo_id:
        first = f'run = podium.fetch_run("{repo_id}")  # {say("card_use_once")}'
    else:
        first = f"run = {place!r}  # {say('card_use_run')}"
    code = (
        f"import podium\n\n{first}\n"
        'for found in podium.predict(run, ["photo.jpg"]):\n'
        "    for guess in found.guesses:\n"
        '        print(f"{guess.probability:.1%} {guess.name}")'
    )
    told = say("card_use_exported" if exports else "card_use_export")
    return [
        f"## {say('card_use')}",
        say("card_use_text"),
        fence(f"podium predict {shlex.quote(where)} photo.jpg", "sh"),
        fence(code, "python"),
        escape_markdown(say("card_use_files")),
        escape_markdown(told),
        *([bullets(exports)] if exports else []),
    ]


def _class_names(names: Sequence[str], say: Labels) -> str:
    listed = names[:MOST_CLASSES]
    key = "card_classes" if len(listed) == len(names) else "card_names_capped"
    summary = say(key, count=say.count(len(names)), shown=say.count(len(listed)))
    return folded(summary, bullets(listed))
