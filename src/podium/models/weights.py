"""Pre-trained weights: from a package, a download, or a local file. Never unpickled freely."""

from __future__ import annotations

import contextlib
import hashlib
import io
import socket
import urllib.error
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from podium.errors import UserError, WeightsUnavailableError
from podium.models.stages import network_state

State = dict[str, torch.Tensor]


def checkpoint_folder() -> Path:
    """Where PyTorch keeps downloaded weights; `TORCH_HOME` moves it."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def read_state(path: Path) -> State:
    """Tensors by name from a `.safetensors` file or one that `torch.save` wrote.

    Raises:
        UserError: the file is missing, damaged, or holds more than tensors. Such a file is not
            opened any further: loading it could run code.
    """
    if not path.is_file():
        raise UserError(f"weights: {path} is no file. Expected a .pth or .safetensors file.")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError) as error:
        raise UserError(f"weights: {path} cannot be read ({error}).") from None
    except Exception as error:  # torch has no common class for what a hostile file may cause
        raise UserError(
            f"weights: {path} is not a plain file of tensors ({type(error).__name__}). Podium "
            "loads no pickled code. Save model.state_dict(), not the model."
        ) from None
    for key in ("state_dict", "model"):  # how training scripts commonly wrap it
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not found:
        raise UserError(f"weights: {path} holds no state dict (tensors by name).")
    if not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise UserError(f"weights: {path} holds values that are no tensors.")
    return {str(name).removeprefix("module."): value for name, value in found.items()}


def load_into(module: nn.Module, state: State, classifier: str, source: str) -> None:
    """Load `state`, but for a classifier of another shape: that one stays as it is.

    Args:
        module: changed in place.
        state: tensors by name.
        classifier: name of the module's last part, such as `fc`.
        source: what to call the weights in a message.

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
    # checkpoints of old PyTorch versions lack this counter; training does not use it
    missing = {n for n in wanted - offered if not n.endswith("num_batches_tracked")}
    unknown = offered - wanted
    misfit = {n for n in wanted & offered if own[n].shape != state[n].shape}
    if missing or unknown or misfit:
        told = [
            f"{len(names)} {what} ({', '.join(sorted(names)[:3])}{', ...' * (len(names) > 3)})"
            for names, what in (
                (missing, "missing"),
                (unknown, "unknown"),
                (misfit, "of another shape"),
            )
            if names
        ]
        raise UserError(
            f"{source} does not fit the model: of {len(wanted)} tensors, {'; '.join(told)}. "
            "Give the weights of this very architecture."
        )
    module.load_state_dict({n: state[n] for n in wanted & offered}, strict=False)


def download_state(url: str, model: str) -> State:
    """The weights at `url`, from PyTorch's cache or the network, checked against their hash.

    Raises:
        WeightsUnavailableError: they are not in the cache and cannot be downloaded; the message
            says where to put the file.
    """
    name = url.rpartition("/")[2]
    cached = checkpoint_folder() / name
    if cached.is_file():
        digest = hashlib.sha256(cached.read_bytes()).hexdigest()
        if digest.startswith(name.rpartition("-")[2].partition(".")[0]):
            return read_state(cached)
        raise WeightsUnavailableError(
            f"{cached} is damaged: its SHA-256 begins with {digest[:8]}, its name says otherwise. "
            "Remove it and try again."
        )
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(15)  # torch.hub sets none, and would wait for ever
    try:
        # it announces even what then fails, on either stream as its version has it
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            torch.hub.load_state_dict_from_url(
                url, map_location="cpu", check_hash=True, weights_only=True, progress=False
            )
    except (OSError, urllib.error.URLError, RuntimeError) as error:
        raise WeightsUnavailableError(
            f"The ImageNet weights of {model} ({name}) are not on this machine and cannot be "
            f"downloaded ({error}). Put {name} into {checkpoint_folder()}, or give its path: "
            "--set contenders.NAME.weights=FILE. efficientnet_lite0 has its weights without a "
            "network."
        ) from None
    finally:
        socket.setdefaulttimeout(before)
    return read_state(cached)
