"""Device, precision and number of workers on this machine: chosen once, then reported."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from podium.config.machine import Machine
from podium.errors import ConfigError, RunFolderError
from podium.runtime.cache import cache_root
from podium.runtime.files import read_json, write_json
from podium.runtime.threads import usable_cores

BF16_TOLERANCE = 0.05  # bf16 has 8 bits: sums are off by about 0.3 %, wrong kernels by 100 %

# Fabric's names for fp32, bf16 and fp16.
FABRIC_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


@dataclass(frozen=True)
class Device:
    """Where a run trains: `kind` is cpu, cuda or mps; `index` is the first device's number."""

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
    """Choose the device that `machine` asks for, or the fastest kind that is available.

    Args:
        machine: its `device`, `devices` and `precision` are used.

    Raises:
        ConfigError: the device is unknown or not available, or lacks the requested precision.
    """
    kind, _, number = machine.device.partition(":")
    have = {
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
        "cpu": usable_cores(),
    }
    if kind == "auto":
        kind = next(name for name, count in have.items() if count)
    if kind not in have or (number and not number.isdigit()) or (number and kind != "cuda"):
        raise ConfigError(f"--device {machine.device!r}: expected auto, cpu, cuda, cuda:N or mps.")
    if kind == "cuda" and not have[kind]:
        raise ConfigError(
            f"--device {machine.device}: PyTorch finds no CUDA device on {platform.node()} "
            f"({_why_no_cuda()}). Expected a GPU, its driver and PyTorch for CUDA. Else use "
            "--device cpu."
        )
    index = int(number or 0)
    # on a CPU at most one process per core makes sense; a GPU process needs its own GPU
    if not have[kind] or index + machine.devices > have[kind]:
        there = ", ".join(f"{count} x {name}" for name, count in have.items() if count)
        raise ConfigError(
            f"--device {machine.device} --devices {machine.devices}: this machine has {there}. "
            "Ask for fewer devices, or use --device cpu."
        )
    if machine.precision == "fp16" and kind != "cuda":
        raise ConfigError(f"--precision fp16 needs a CUDA GPU, and this is {kind}. Use auto.")
    if kind == "cuda":
        _let_fp32_be_fp32()
    return Device(kind, index, machine.devices)


def _why_no_cuda() -> str:
    """What PyTorch is, and what hides devices from it."""
    made_for = torch.version.cuda or torch.version.hip
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    told = f"PyTorch {torch.__version__}" + ("" if made_for else ", made for CPUs")
    return told if hidden is None else f"{told}; CUDA_VISIBLE_DEVICES is {hidden!r}"


def _let_fp32_be_fp32() -> None:
    """Keep cuDNN, in this process, from rounding fp32 and from choosing kernels at random.

    By default its convolutions multiply fp32 values as TF32, with 10 bits: a thousand times the
    error that a report's figures, the folding of batch norms and `--precision fp32` rely on. Some
    of its gradients also add up in an order that differs from run to run, so that no training
    could be resumed bit for bit.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def count_gpus() -> int:
    """Number of CUDA devices that this process sees."""
    return torch.cuda.device_count()


@contextlib.contextmanager
def thread_count(threads: int | None) -> Iterator[None]:
    """Compute with this number of threads, and afterwards with as many as before.

    Args:
        threads: number of threads of PyTorch's operations; None: as many as now.
    """
    before = torch.get_num_threads()
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        yield
    finally:
        torch.set_num_threads(before)


def choose_workers(machine: Machine, device: Device, *, decoding: bool = True) -> int:
    """Choose the number of processes that make batches for each device.

    Args:
        machine: its `workers`, if set, is the number.
        device: a GPU gets all cores but one, up to 8, since only decoding keeps it waiting.
        decoding: whether images are decoded from their files; False: they are cached.
    """
    if machine.workers is not None:
        return machine.workers
    cores = usable_cores()
    # On a CPU the training step already uses every core. One worker then hides the decoding
    # behind it; more would only compete with it. Cached images are augmented so fast that a
    # worker costs more, by holding up the step's threads, than it saves.
    if device.kind == "cpu":
        own = cores // device.count
        return min(own // 2, 1) if decoding else own // 8
    return max(1, min(8, cores // device.count - 1))


def choose_precision(
    machine: Machine, device: Device, module: nn.Module, image_size: int, channels: int = 3
) -> tuple[str, str]:
    """Choose the precision of training and give the reason.

    `auto` uses bf16 if the processor multiplies it in hardware and every layer of the model, at
    its own shapes, agrees with fp32; fp16 on GPUs without bf16; fp32 otherwise. The result of the
    check is cached for this model, machine, device and version of torch.

    Args:
        machine: its `precision` is the one asked for.
        device: where the model is trained.
        module: the model.
        image_size: side of its images, pixels.
        channels: of its images.

    Returns:
        `(precision, reason)`: fp32, bf16 or fp16, and a short phrase.
    """
    wanted = machine.precision
    if wanted != "auto":
        return wanted, "as asked"
    if not has_fast_bf16(device.kind):
        if device.kind == "cuda":
            return "fp16", "this GPU has no bf16"
        return "fp32", f"no bf16 arithmetic on this {device.kind}"
    error, layer = _known_bf16_error(module, device, image_size, channels)
    measured = f"its layers agree with fp32 within {100 * error:.2g} %"
    if error < BF16_TOLERANCE:
        return "bf16", measured
    return "fp32", f"bf16 is off by {100 * error:.2g} % in {layer} on this machine"


def has_fast_bf16(kind: str) -> bool:
    """Whether cpu, cuda or mps multiplies bf16 in hardware here.

    Emulated, it takes 20 to 65 times as long as fp32.
    """
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if kind == "cpu":
        # AVX-512 without these instructions emulates bf16, slower than fp32; so does a processor
        # that has them where ATEN_CPU_CAPABILITY=avx2 keeps PyTorch from using them
        if torch.backends.cpu.get_cpu_capability() == "AVX2":
            return False
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return False


def _known_bf16_error(
    module: nn.Module, device: Device, image_size: int, channels: int
) -> tuple[float, str]:
    """`worst_bf16_error`, which takes 0.3 to 0.8 s, or its cached result."""
    place = _bf16_record(module, device, image_size)
    try:
        known = read_json(place)
        return float(known["error"]), str(known["layer"])
    except (RunFolderError, KeyError, TypeError, ValueError):  # damaged or missing: check again
        error, layer = worst_bf16_error(module, device.torch, image_size, channels)
    with contextlib.suppress(OSError, ValueError):  # an error of nan is not JSON, and is not kept
        write_json(place, {"error": error, "layer": layer})
    return error, layer


def _bf16_record(module: nn.Module, device: Device, image_size: int) -> Path:
    """The file of a cached check, named by everything that decides which kernels run on what."""
    hardware: object = torch.cpu.get_capabilities()
    if device.kind == "cuda":
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        hardware = [torch.cuda.get_device_name(device.index), torch.version.cuda, cudnn]
    kernels = [torch.__version__, platform.node(), device.kind, hardware, torch.get_num_threads()]
    key = json.dumps([kernels, image_size, str(module)], sort_keys=True, default=str)
    return cache_root() / "bf16" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"


def worst_bf16_error(
    module: nn.Module, device: torch.device, image_size: int, channels: int = 3, *, batch: int = 4
) -> tuple[float, str]:
    """Run every convolution and linear layer in bf16 and in fp32, forward and backward.

    Each layer gets the fp32 input that it has in this model: over a whole network the rounding of
    a healthy processor is amplified until it looks like an error.

    Args:
        module: the model; a copy is used, the original is not changed.
        device: where to compute.
        image_size: side of the noise images used as input, pixels.
        channels: of the noise images.
        batch: number of noise images.

    Returns:
        `(error, layer)`: the largest relative error (L2) of an output, an input's gradient or a
        weight's gradient, and the name of its layer.
    """
    model = copy.deepcopy(module).to(device).to(memory_format=torch.channels_last).eval()
    inputs: dict[str, torch.Tensor] = {}
    seen: set[str] = set()

    def remember(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def hook(layer: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
            kind = f"{layer} {tuple(given[0].shape)}"  # check equal layers once
            if kind not in seen:
                seen.add(kind)
                inputs[name] = given[0].detach()

        return hook

    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_pre_hook(remember(name))
            layer.weight.requires_grad_(True)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(batch, channels, image_size, image_size, generator=generator).to(device)
    with torch.no_grad():
        model(images.contiguous(memory_format=torch.channels_last))
    worst = (0.0, "")
    for name, given in inputs.items():
        layer = model.get_submodule(name)
        layer._forward_pre_hooks.clear()
        exact, rounded = (_layer_step(layer, given, low) for low in (False, True))
        for a, b in zip(exact, rounded, strict=True):
            worst = max(worst, (float((a - b).norm() / a.norm().clamp_min(1e-12)), name))
    return worst


def _layer_step(layer: nn.Module, given: torch.Tensor, low: bool) -> list[torch.Tensor]:
    """Output, input's gradient and weight's gradient of one layer, as fp32."""
    x = given.clone().requires_grad_(True)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=low):
        y = layer(x)
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y)
    gradients = torch.autograd.grad(y, [x, layer.get_parameter("weight")], upstream)
    return [tensor.detach().float() for tensor in (y, *gradients)]
