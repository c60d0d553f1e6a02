"""What this machine offers: device, arithmetic, workers. Chosen once, then told to the user."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass

import torch
from torch import nn

from podium.config import Machine
from podium.errors import ConfigError

__all__ = ["Device", "agrees_with_fp32", "choose_device", "choose_precision", "choose_workers"]

# Fabric's names for what we call fp32, bf16 and fp16.
FABRIC_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


@dataclass(frozen=True)
class Device:
    """Where a run trains: `kind` is cpu, cuda or mps; `index` the first device's number."""

    kind: str
    index: int
    count: int

    @property
    def torch(self) -> torch.device:
        return (
            torch.device(self.kind, self.index) if self.kind == "cuda" else torch.device(self.kind)
        )

    def describe(self) -> str:
        """A name for the report, such as 'cpu' or 'NVIDIA A100 x 2'."""
        name = torch.cuda.get_device_name(self.index) if self.kind == "cuda" else self.kind
        return name if self.count == 1 else f"{name} x {self.count}"


def choose_device(machine: Machine) -> Device:
    """Pick the device that `machine` asks for, or the fastest kind that is there.

    Raises:
        ConfigError: the device is unknown, or this machine does not have it.
    """
    kind, _, number = machine.device.partition(":")
    have = {
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
        "cpu": os.cpu_count() or 1,
    }
    if kind == "auto":
        kind = next(name for name, count in have.items() if count)
    if kind not in have or (number and not number.isdigit()) or (number and kind != "cuda"):
        raise ConfigError(f"--device {machine.device!r}: expected auto, cpu, cuda, cuda:N or mps.")
    index = int(number or 0)
    # one process a core is the most that makes sense on a CPU; a GPU process needs its own GPU
    if not have[kind] or index + machine.devices > have[kind]:
        there = ", ".join(f"{count} x {name}" for name, count in have.items() if count)
        raise ConfigError(
            f"--device {machine.device} --devices {machine.devices}: this machine has {there}. "
            "Ask for fewer devices, or use --device cpu."
        )
    return Device(kind, index, machine.devices)


def choose_workers(machine: Machine, device: Device) -> int:
    """Number of decoding processes for each device: all cores but one, up to 8."""
    if machine.workers is not None:
        return machine.workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    # On a CPU the training step already uses every core. One worker then hides the decoding
    # behind it; more of them only take turns.
    if device.kind == "cpu":
        return 1 if (cores or 1) // device.count >= 2 else 0
    return max(1, min(8, (cores or 1) // device.count - 1))


def choose_precision(
    machine: Machine, device: Device, module: nn.Module, image_size: int
) -> tuple[str, str]:
    """Pick the arithmetic of training and say why.

    `auto` takes bf16 where the processor multiplies it in hardware and the model's own logits and
    gradients agree with fp32's; fp32 elsewhere.

    Returns:
        `(precision, reason)`: fp32, bf16 or fp16, and a sentence.

    Raises:
        ConfigError: the precision asked for does not exist on this device.
    """
    wanted = machine.precision
    if wanted == "fp16" and device.kind != "cuda":
        raise ConfigError(
            f"--precision fp16 needs a CUDA GPU, and this is {device.kind}. Use auto."
        )
    if wanted != "auto":
        return wanted, "as asked"
    if not _has_fast_bf16(device):
        return "fp32", f"no bf16 arithmetic on this {device.kind}"
    agrees, measured = agrees_with_fp32(module, device.torch, image_size)
    return ("bf16", measured) if agrees else ("fp32", f"bf16 refused: {measured}")


def _has_fast_bf16(device: Device) -> bool:
    if device.kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.kind == "cpu":
        # AVX-512 without these instructions emulates bf16, slower than fp32 is
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return False


def agrees_with_fp32(
    module: nn.Module, device: torch.device, image_size: int, *, batch: int = 8
) -> tuple[bool, str]:
    """Compare one training step's logits and gradient in bf16 with fp32, on noise.

    A kernel that computes wrong results is off by tens of percent, rounding by a few.

    Args:
        module: the model; a copy is used and the original is not touched.
        device: where to compute.
        image_size: side of the noise images, pixels.
        batch: images in the step.

    Returns:
        `(agrees, sentence)`.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(batch, 3, image_size, image_size, generator=generator)
    images = images.to(device, memory_format=torch.channels_last)
    found = []
    for low in (False, True):
        model = copy.deepcopy(module).to(device, memory_format=torch.channels_last).train()
        for part in model.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
        with torch.autocast(device.type, torch.bfloat16, enabled=low):
            logits = model(images).float()
        target = torch.arange(batch, device=device) % logits.shape[1]
        nn.functional.cross_entropy(logits, target).backward()
        gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        found.append((logits.detach(), torch.cat(gradients).float()))
    (logits, gradient), (low_logits, low_gradient) = found
    error = float((low_logits - logits).norm() / logits.norm().clamp_min(1e-12))
    cosine = float(nn.functional.cosine_similarity(low_gradient, gradient, dim=0))
    agrees = error < 0.15 and cosine > 0.9
    return agrees, f"logits within {100 * error:.1f} % of fp32, gradient's cosine {cosine:.3f}"
