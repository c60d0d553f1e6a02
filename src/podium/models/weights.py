"""Pre-trained weights from a package, a download, or a local file; never unpickled as code."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import socket
import urllib.error
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from podium.errors import UserError, WeightsUnavailableError
from podium.models.stages import network_state

State = dict[str, torch.Tensor]

LENT = "PODIUM_LENT_WEIGHTS"
"""Environment variable: a folder with the files that a study names, on nodes that lack them."""


def checkpoint_folder() -> Path:
    """The folder of PyTorch's downloaded weights; `TORCH_HOME` moves it."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def weight_caches() -> dict[str, Path]:
    """The folders that keep downloaded weights on this machine: `torch` and `hub`."""
    from huggingface_hub import constants

    return {"torch": checkpoint_folder(), "hub": Path(constants.HF_HUB_CACHE)}


def read_state(path: Path) -> State:
    """Read tensors by name from a `.safetensors` file or one that `torch.save` wrote.

    Args:
        path: the file; if it is missing, the one of this name in the folder that `LENT` names.

    Raises:
        UserError: the file is missing, damaged, or holds more than tensors. Such a file is not
            read any further: loading it could run code.
    """
    if not path.is_file() and (folder := os.environ.get(LENT)):
        lent = Path(folder, path.name)
        path = lent if lent.is_file() else path
    if not path.is_file():
        raise UserError(f"weights: {path} is not a file. Expected a .pth or .safetensors file.")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError) as error:
        raise UserError(f"weights: {path} cannot be read ({error}).") from None
    except Exception as error:  # torch has no common class for errors from hostile files
        raise UserError(
            f"weights: {path} is not a plain file of tensors ({type(error).__name__}). Podium does "
            "not load pickled code. Save model.state_dict(), not the model."
        ) from None
    for key in ("state_dict", "model"):  # how training scripts commonly wrap it
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not found:
        raise UserError(f"weights: {path} holds no state dict (tensors by name).")
    if not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise UserError(f"weights: {path} holds values that are not tensors.")
    return {str(name).removeprefix("module."): value for name, value in found.items()}


def load_into(module: nn.Module, state: State, classifier: str, source: str) -> None:
    """Load `state`, except for a classifier of another shape, which is left unchanged.

    Args:
        module: changed in place.
        state: tensors by name.
        classifier: name of the module's classifier, such as `fc`.
        source: name of the weights in messages.

    Raises:
        UserError: tensors are missing, unknown, or of another shape.
    """
    state = network_state(state)
    own = module.state_dict()

    def is_head(name: str) -> bool:
        return name == classifier or name.startswith(f"{classifier}.")

    head = {name: value.shape for name, value in own.items() if is_head(name)}
    given = {name: value.shape for name, value in state.items() if is_head(name)}
    keep_head = head != given
    wanted = {name for name in own if not (keep_head and is_head(name))}
    offered = {name for name in state if not (keep_head and is_head(name))}
    # checkpoints of old PyTorch versions lack this counter, which training does not use
    missing = {n for n in wanted - offered if not n.endswith("num_batches_tracked")}
    unknown = offered - wanted
    misfit = {n for n in wanted & offered if own[n].shape != state[n].shape}
    if missing or unknown or misfit:
        problems = [
            f"{len(names)} {what} ({', '.join(sorted(names)[:3])}{', ...' * (len(names) > 3)})"
            for names, what in (
                (missing, "missing"),
                (unknown, "unknown"),
                (misfit, "of another shape"),
            )
            if names
        ]
        raise UserError(
            f"{source} does not fit the model: of {len(wanted)} tensors, {'; '.join(problems)}. "
            "Use weights of exactly this architecture."
        )
    module.load_state_dict({n: state[n] for n in wanted & offered}, strict=False)


def for_input(state: State, module: nn.Module, channels: int) -> State:
    """Adapt weights of RGB images to a module of other channels, by timm's rule.

    The first convolution's weights are repeated over the channels (red, green, blue, red...) and
    scaled, so that its outputs keep their size; for one channel, they are summed.

    Args:
        state: tensors by name.
        module: of the same architecture.
        channels: of the module's input.
    """
    if channels == 3:
        return state
    from timm.models import adapt_input_conv

    own = module.state_dict()

    def is_of_rgb(name: str, value: torch.Tensor) -> bool:
        wanted = own[name].shape if name in own else ()
        return value.ndim == 4 and wanted == (value.shape[0], channels, *value.shape[2:])

    return {
        name: adapt_input_conv(channels, value)
        if is_of_rgb(name, value) and value.shape[1] == 3
        else value
        for name, value in state.items()
    }


def over_channels(values: Sequence[float] | None, channels: int) -> tuple[float, ...] | None:
    """Means or deviations of RGB for other channels, to match `for_input`.

    Args:
        values: one per channel; None: not normalised.
        channels: of the images.

    Returns:
        The values, repeated; for one channel, their mean.

    Examples:
        >>> over_channels((1.0, 2.0, 3.0), 5), over_channels((1.0, 2.0, 3.0), 1)
        ((1.0, 2.0, 3.0, 1.0, 2.0), (2.0,))
    """
    if values is None:
        return None
    if channels == 1:
        return (sum(values) / len(values),)
    return tuple(values[at % len(values)] for at in range(channels))


def download_state(url: str, model: str) -> State:
    """Get the weights at `url` from PyTorch's cache or the network, and check their hash.

    Args:
        url: of the file; its name ends in the beginning of its SHA-256.
        model: its name, for messages.

    Raises:
        WeightsUnavailableError: they are damaged, or not in the cache and cannot be downloaded;
            the message names the folder to put the file into.
    """
    name = url.rpartition("/")[2]
    cached = checkpoint_folder() / name
    if cached.is_file():
        digest = hashlib.sha256(cached.read_bytes()).hexdigest()
        if digest.startswith(name.rpartition("-")[2].partition(".")[0]):
            return read_state(cached)
        raise WeightsUnavailableError(
            f"{cached} is damaged: its SHA-256 starts with {digest[:8]}, which does not match its "
            "name. Remove it and try again."
        )
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(15)  # torch.hub sets none, and would wait forever
    try:
        # it announces the download before it fails; the stream depends on its version
        discarded = io.StringIO()
        with contextlib.redirect_stdout(discarded), contextlib.redirect_stderr(discarded):
            torch.hub.load_state_dict_from_url(
                url, map_location="cpu", check_hash=True, weights_only=True, progress=False
            )
    except (OSError, urllib.error.URLError, RuntimeError) as error:
        raise WeightsUnavailableError(
            f"The ImageNet weights of {model} ({name}) are not on this machine and cannot be "
            f"downloaded ({error}). Put {name} into {checkpoint_folder()}, or give its path: "
            "--set contenders.NAME.weights=FILE. The weights of efficientnet_lite0 come with "
            "Podium and need no network."
        ) from None
    finally:
        socket.setdefaulttimeout(before)
    return read_state(cached)
