"""timm's models by name; timm itself is imported only when one is requested."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from podium.config.text import did_you_mean
from podium.errors import ConfigError, WeightsUnavailableError
from podium.models import weights as w
from podium.models.built import BuiltModel, ModelInfo
from podium.runtime.network import hub_answers_fast


def build_timm(
    name: str,
    num_classes: int,
    pretrained: bool,
    weights: Path | None,
    *,
    channels: int = 3,
    ours: Iterable[str] = (),
) -> BuiltModel:
    """Build one of timm's models.

    Args:
        name: with or without the tag of its weights (`resnet50.a1_in1k`).
        num_classes: number of logits.
        pretrained: start from timm's weights for the name.
        weights: start from this local file instead; None: no file.
        channels: of the images; weights for RGB are adapted by timm's rule.
        ours: names that are suggested for a misspelt one, besides timm's.

    Raises:
        ConfigError: there is no such model, or it has no pre-trained weights.
        WeightsUnavailableError: its weights are not on this machine and cannot be downloaded.
        UserError: the local file does not fit the model.
    """
    import timm

    _refuse_unknown(name, pretrained and weights is None, ours)
    further: dict[str, Any] = {} if channels == 3 else {"in_chans": channels}
    try:
        with hub_answers_fast():
            module: Any = timm.create_model(
                name,
                pretrained=pretrained and weights is None,
                num_classes=num_classes,
                **further,
            )
    except TypeError as error:  # of a model without `in_chans`
        wanted = f" for {channels} channels (data.channels)" if further else ""
        raise ConfigError(f"timm cannot build {name!r}{wanted} ({error}).") from None
    except Exception as error:
        if not pretrained or weights is not None:
            raise ConfigError(f"timm cannot build {name!r} ({error}).") from None
        raise WeightsUnavailableError(
            f"The weights of timm's {name} are not on this machine and cannot be downloaded "
            f"({type(error).__name__}). Connect once, or give a file: weights: FILE. "
            "The weights of efficientnet_lite0 come with Podium and need no network."
        ) from None
    config = module.pretrained_cfg
    classifier = config.get("classifier")
    if not isinstance(classifier, str):
        raise ConfigError(f"{name!r} has no single classifier layer; Podium cannot use it.")
    size = int(config["input_size"][-1])
    mean, std, source = None, None, None
    if weights is not None:
        state = w.for_input(w.read_state(weights), module, channels)
        w.load_into(module, state, classifier, f"weights: {weights}")
        source = weights.name
    elif pretrained:
        source = f"timm {config.get('hf_hub_id') or config.get('url') or name}"
    if source is not None:
        mean, std = (w.over_channels(config[key], channels) for key in ("mean", "std"))
    return BuiltModel(name, module, size, classifier, mean, std, source, channels)


def _refuse_unknown(name: str, pretrained: bool, ours: Iterable[str]) -> None:
    import timm

    base, _, tag = name.partition(".")
    if timm.is_model(base):
        # checked before building: some models take a minute and gigabytes, and have no weights
        tags = [n.partition(".")[2] for n in timm.list_models(f"{base}.*", include_tags=True)]
        if tag and tag not in tags:
            raise ConfigError(
                f"model: timm's {base} has no weights {tag!r}; expected one of {', '.join(tags)}."
            )
        if pretrained and not timm.is_model_pretrained(name):
            raise ConfigError(
                f"pretrained: true, but no weights are published for timm's {name}. Use "
                "weights: FILE, or a model that `podium models` lists with weights."
            )
        return
    if ":" in name:
        raise ConfigError(
            f"model: {name!r} is not a module:name, such as my_networks:tiny for the function tiny "
            "in my_networks.py: only letters, digits and '_', and dots between folders."
        )
    known = dict.fromkeys([*ours, *timm.list_models()])
    hint = did_you_mean(name, known) or " `podium models` lists them."
    raise ConfigError(f"model: neither Podium nor timm has {name!r}.{hint}")


def list_timm(pattern: str) -> list[ModelInfo]:
    """List timm's models that match a pattern.

    Args:
        pattern: with `*` and `?`.

    Raises:
        ConfigError: no model matches.
    """
    import timm

    names = fnmatch.filter(timm.list_models(), pattern)
    if not names:
        raise ConfigError(f"--timm {pattern!r}: no timm model matches. Try '*{pattern}*'.")
    with_weights = set(timm.list_models(pretrained=True))
    bases = {name.partition(".")[0] for name in with_weights}
    found = []
    for name in names:
        config: Any = timm.get_pretrained_cfg(name)
        size = int(config.input_size[-1]) if config is not None else 224
        there = _availability(config) if name in bases else "none"
        found.append(ModelInfo(name, None, size, there, "timm"))
    return found


def timm_weight_files(name: str) -> dict[str, list[str]]:
    """Where the weights of one of timm's models are once they are downloaded.

    Args:
        name: of the model.

    Returns:
        A key of `weight_caches` -> patterns of the files' paths there.
    """
    import timm

    config: Any = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if config is not None and config.hf_hub_id:
        entry = f"models--{config.hf_hub_id.replace('/', '--')}"
        return {"hub": [f"{entry}/refs/*", f"{entry}/snapshots/*/*"]}
    url = config.url if config is not None else ""
    return {"torch": [url.rpartition("/")[2]]} if url else {}


def _availability(config: Any) -> str:
    from huggingface_hub import constants, try_to_load_from_cache

    if config is not None and config.hf_hub_id:
        for file in (config.hf_hub_filename, "model.safetensors", "pytorch_model.bin"):
            if file and isinstance(
                try_to_load_from_cache(config.hf_hub_id, file, cache_dir=constants.HF_HUB_CACHE),
                str,
            ):
                return "on this machine"
    return "download"
