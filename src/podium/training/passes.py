"""The forward and backward pass of a batch; on a GPU recorded once, then replayed.

At 32 images most kernels of a small network take less time than their launch, and a step has
hundreds of them. A CUDA graph launches them all at once: the same kernels in the same order, so
that the weights are the same to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from podium.config.registry import LOSSES, MODELS
from podium.config.settings import RunSpec
from podium.errors import one_line
from podium.models.ours import OURS
from podium.runtime.events import Notify, WarningMessage
from podium.training.losses import BoundLoss

Found = tuple[torch.Tensor, torch.Tensor]
"""Loss, summed over the batch, and logits; detached."""

Record = Callable[[Callable[[], None]], "Callable[[], None] | None"]
"""Records the work of a function, and returns what repeats it; None: better not."""

_BEFORE = 3
"""Steps before a recording, in which cuDNN and cuBLAS allocate what they keep."""

_ROOM = 0.4
"""Share of the device's memory: a graph keeps the activations of a step, beside those of the steps
that are not replayed."""


class _Batch(NamedTuple):
    """What a pass reads: a recorded one reads the same memory at every replay."""

    inputs: torch.Tensor
    targets: torch.Tensor
    share: float | torch.Tensor

    @property
    def kind(self) -> tuple[Any, ...]:
        """Whatever must be equal for a recording to fit."""
        fixed = None if isinstance(self.share, torch.Tensor) else self.share
        return self.inputs.shape, self.targets.shape, self.targets.dtype, fixed

    def clone(self) -> _Batch:
        share = self.share.clone() if isinstance(self.share, torch.Tensor) else self.share
        return _Batch(self.inputs.clone(), self.targets.clone(), share)

    def copy_(self, other: _Batch) -> None:
        self.inputs.copy_(other.inputs, non_blocking=True)
        self.targets.copy_(other.targets, non_blocking=True)
        if isinstance(self.share, torch.Tensor):
            self.share.copy_(torch.as_tensor(other.share), non_blocking=True)


class _Recording(NamedTuple):
    """A recorded pass."""

    model: Any
    batch: _Batch
    found: Found
    gradients: list[tuple[torch.nn.Parameter, torch.Tensor]]
    replay: Callable[[], None]

    def fits(self, model: Any, batch: _Batch) -> bool:
        return self.model is model and self.batch.kind == batch.kind

    def run(self, batch: _Batch) -> Found:
        self.batch.copy_(batch)
        self.replay()
        for parameter, gradient in self.gradients:  # a step without a replay has put its own there
            parameter.grad = gradient
        return self.found


def can_record(recipe: RunSpec, precision: str, device: torch.device, processes: int) -> bool:
    """Whether a training's passes may be recorded.

    A recording repeats what a pass did on the device, and nothing that Python decided: a user's
    model or loss may decide anew at every step, and is never recorded. In fp16 the factor of the
    loss changes, and with several processes gradients are exchanged during the pass.

    Args:
        recipe: its model and loss decide.
        precision: fp32, bf16 or fp16.
        device: where the training runs.
        processes: of the training.
    """
    ours = recipe.model in OURS or recipe.model not in MODELS  # or timm's
    return (
        device.type == "cuda"
        and processes == 1
        and precision != "fp16"
        and ours
        and recipe.loss in LOSSES.built_in
    )


class Passes:
    """Forward and backward passes of one training.

    Args:
        loss: of the recipe.
        backward: called with the batch's mean loss, as `Fabric.backward`.
        record: records a function of no arguments, such as `CudaGraphs`; None: nothing is recorded.
        batch_size: of the batches to record; the last one of an epoch may be smaller.
        name: of the contender, for a warning.
        notify: receives a warning if a pass cannot be recorded.
    """

    def __init__(
        self,
        loss: BoundLoss,
        backward: Callable[[torch.Tensor], None],
        *,
        record: Record | None,
        batch_size: int,
        name: str,
        notify: Notify,
    ) -> None:
        self.loss, self.backward, self.record = loss, backward, record
        self.batch_size, self.name, self.notify = batch_size, name, notify
        self.recording: _Recording | None = None
        self._kind: tuple[Any, ...] = ()
        self._seen = 0

    def __call__(
        self, model: Any, inputs: torch.Tensor, targets: torch.Tensor, share: float | torch.Tensor
    ) -> Found:
        """Compute the loss and the gradients; gradients must be None before.

        Args:
            model: from images to logits.
            inputs: float32 of shape (n, channels, size, size).
            targets: int64 of shape (n,), or float32 of shape (n, classes).
            share: divides the loss.

        Returns:
            `(loss, logits)`, detached: the sum over the batch, and shape (n, classes); valid until
            the next call.
        """
        batch = _Batch(inputs, targets, share)
        if self.record is None or len(inputs) != self.batch_size:
            return self._pass(model, batch)
        if self.recording is not None and self.recording.fits(model, batch):
            return self.recording.run(batch)
        kind = (id(model), *batch.kind)
        if kind != self._kind:  # as with images of another size: what was recorded is let go
            self._kind, self._seen, self.recording = kind, 0, None
        self._seen += 1
        if self._seen > _BEFORE and self._record(model, batch):
            assert self.recording is not None
            return self.recording.run(batch)
        return self._pass(model, batch)

    def _pass(self, model: Any, batch: _Batch) -> Found:
        logits = model(batch.inputs)
        loss = self.loss(logits, batch.targets)
        self.backward(loss / batch.share)
        return loss.detach(), logits.detach()

    def _record(self, model: Any, batch: _Batch) -> bool:
        """Record a pass, without running it; whether it worked."""
        assert self.record is not None
        own, found = batch.clone(), []
        try:
            replay = self.record(lambda: found.append(self._pass(model, own)))
        except RuntimeError as error:
            replay = None
            self.notify(
                WarningMessage(
                    f"{self.name}: its steps cannot be recorded as a CUDA graph "
                    f"({one_line(error)}). They run without one, to the same weights; with small "
                    "batches this takes longer."
                )
            )
        if replay is None:
            self.record = None
            for parameter in model.parameters():
                parameter.grad = None
            return False
        gradients = [(p, p.grad) for p in model.parameters() if p.grad is not None]
        self.recording = _Recording(model, own, found[0], gradients, replay)
        return True


class CudaGraphs:
    """Records the kernels that a function launches on the current CUDA device."""

    def __init__(self) -> None:
        torch.cuda.reset_peak_memory_stats()  # an earlier training may have taken more

    def __call__(self, work: Callable[[], None]) -> Callable[[], None] | None:
        """Record `work`, without running it.

        Args:
            work: must not wait for the device, and use the same memory at every replay.

        Returns:
            Launches all of it; None where so much memory is in use that kernels are long, and a
            graph with its own activations might not fit beside the rest.

        Raises:
            RuntimeError: `work` does what a graph cannot, or memory ran out.
        """
        if torch.cuda.max_memory_allocated() > _ROOM * torch.cuda.mem_get_info()[1]:
            return None
        graph = torch.cuda.CUDAGraph()
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
        before = generator.clone_state()
        try:
            # of this thread alone: another one pins batches meanwhile, which allocates
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                work()
        except RuntimeError:
            # the generator's own state still takes part in the recording, and would refuse to draw
            generator.graphsafe_set_state(before)
            raise
        return graph.replay
