"""The front matter of a model card, and known licences, base models and data sets.

A licence is never chosen here: only the author can grant it. The known licences of pre-trained
weights and of the images are stated beside it.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from podium.config.text import words
from podium.data.fetch import DATASETS, KnownDataset
from podium.deploy.publish.card_subject import Network, Subject
from podium.errors import ConfigError
from podium.models.ours import OURS

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,60}")
COMMON_LICENCES = words(
    "apache-2.0 mit bsd-2-clause bsd-3-clause cc0-1.0 cc-by-4.0 cc-by-sa-4.0 cc-by-nc-4.0 "
    "cc-by-nd-4.0 cc-by-nc-sa-4.0 cc-by-nc-nd-4.0 gpl-3.0 agpl-3.0 lgpl-3.0 mpl-2.0 openrail "
    "unlicense unknown other"
)
TIMM_SOURCE = re.compile(r"timm (timm/[A-Za-z0-9._-]+)")


@dataclass(frozen=True)
class Base:
    """Pre-trained weights that a training started from.

    Attributes:
        source: as recorded by the run.
        model_id: id on the Hugging Face Hub; empty string: not known.
        licence: as stated by the publisher; empty string: not known.
        note: key of the sentence about the licence.
    """

    source: str
    model_id: str = ""
    licence: str = ""
    note: str = "card_licence_base_unknown"


@dataclass(frozen=True)
class Dataset:
    """The images; `known` for a data set that Podium knows, `hub_id` for one on the Hub."""

    hub_id: str = ""
    known: KnownDataset | None = None


def check_licence(licence: str) -> tuple[str, str]:
    """Normalise a licence id to the Hub's spelling, and doubt it if it looks misspelt.

    Args:
        licence: the id.

    Returns:
        `(id, doubt)`: the id, and a sentence; empty string: no doubt.

    Raises:
        ConfigError: it cannot be an id.
    """
    found = licence.strip().lower()
    if not LICENCE.fullmatch(found):
        raise ConfigError(
            f"--license {licence!r}: expected an id such as apache-2.0, mit, cc-by-4.0 or other "
            "(the Hub lists them all: https://huggingface.co/docs/hub/repositories-licenses)."
        )
    close = difflib.get_close_matches(found, COMMON_LICENCES, n=1, cutoff=0.75)
    if found in COMMON_LICENCES or not close:
        return found, ""
    return (
        found,
        f"--license {found}: did you mean {close[0]}? The Hub refuses ids that it does not know.",
    )


def bases_of(subject: Subject) -> list[Base]:
    """The pre-trained weights that the run, or the members of a mean, started from, each once;
    none: random initial weights."""
    found = [_base_of(network) for network in subject.networks.values()]
    return list(dict.fromkeys(base for base in found if base is not None))


def _base_of(network: Network) -> Base | None:
    source, recipe = network.pretrained_source, network.recipe
    if not source:
        if not (recipe.pretrained or recipe.weights):
            return None
        return Base(recipe.weights.name if recipe.weights else network.model)
    if recipe.weights is not None:  # the author's own file, of any network
        return Base(source)
    if about := network.about:
        ours = OURS.get(network.model)
        torchvision = ours is not None and ours.source.startswith("torchvision ")
        note = "card_licence_torchvision" if torchvision else "card_licence_base"
        return Base(source, about.hub_id, about.licence, note if about.licence else Base.note)
    hosted = TIMM_SOURCE.fullmatch(source)
    return Base(source, hosted[1]) if hosted else Base(source)


def dataset_of(subject: Subject, given: str | None) -> Dataset:
    """The images that the run was trained on.

    Args:
        subject: the run.
        given: an id on the Hub, or a built-in name; None: taken from the study, if it names a
            built-in data set and has the same number of images.

    Raises:
        ConfigError: `given` is not such an id.
    """
    if given is not None:
        for name, known in DATASETS.items():
            if given in (name, known.huggingface):
                return Dataset(known.huggingface, known)
        return Dataset(_hub_id(given))
    study = subject.study
    if study is None or study.spec.data.path not in DATASETS:
        return Dataset()
    known_set = DATASETS[study.spec.data.path]
    splits = study.data.get("splits") or {}
    counts = tuple(sum(splits.get(one, {}).values()) for one in ("train", "valid", "test"))
    if known_set.images[0] and counts != known_set.images:
        return Dataset()  # a folder of the same name with other images
    return Dataset(known_set.huggingface, known_set)


def _hub_id(text: str) -> str:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(text)
    except HFValidationError:
        raise ConfigError(
            f"--dataset {text!r}: expected an id on the Hub such as OWNER/NAME, or one of "
            f"{', '.join(DATASETS)}."
        ) from None
    return text


def metadata(subject: Subject, *, licence: str | None, dataset: Dataset) -> ModelCardData:
    """What the Hub reads from a card: tags, licence, base model, data set, results."""
    from huggingface_hub import ModelCardData

    bases = [base.model_id for base in bases_of(subject) if base.model_id]
    results = _results(subject, dataset)
    return ModelCardData(
        license=licence,
        library_name="podium",
        pipeline_tag="image-classification",
        tags=["image-classification", "podium", "pytorch", "safetensors"],
        datasets=[dataset.hub_id] if dataset.hub_id else None,
        base_model=bases[0] if len(bases) == 1 else bases or None,
        metrics=["accuracy", "f1"] if results else None,
        model_name=subject.label if results else None,
        eval_results=results or None,
    )


def _results(subject: Subject, dataset: Dataset) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    run = subject.result
    if run is None:
        return []
    name = dataset.known.title if dataset.known else dataset.hub_id
    low, high = run.interval
    figures = (
        ("accuracy", "Accuracy", run.scores.accuracy, {"low": low, "high": high}),
        ("f1", "Macro F1", run.scores.macro_f1, {"average": "macro"}),
    )
    return [
        EvalResult(
            task_type="image-classification",
            task_name="Image Classification",
            dataset_type=dataset.hub_id or "imagefolder",
            dataset_name=name or (subject.study.title if subject.study else "imagefolder"),
            dataset_split="test",
            metric_type=kind,
            metric_name=title,
            metric_value=value,
            metric_args={"images": run.scores.n, **more},
            verified=False,
        )
        for kind, title, value, more in figures
    ]
