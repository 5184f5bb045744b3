"""A batch that goes through a network part by part, so that the activations of one part alone are in memory.

The forward pass keeps each part's output; the backward pass, which begins with the loss of all of them, runs
each part again for its gradients (torch's checkpointing). So the loss is that of the whole batch, and the
gradients are its own, whatever the number of parts. Time: one more forward pass.

Shapes: B images in the batch, S parts.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from .heads import HeadOutput

__all__ = ["changed_output", "in_parts"]

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def in_parts(
    network: nn.Module, run: Callable[[dict[str, Any]], HeadOutput], batch: dict[str, Any], parts: int
) -> HeadOutput:
    """Return what ``run`` makes of a batch, whose consecutive parts go through the network one by one.

    Batch norms take a part for what a process takes of a batch: they normalise it by itself, or its chunks,
    and their running statistics move once, to the mean over the parts. Random draws of the network are the
    same when a part is run again.

    Args:
        network: has the batch norms.
        run: returns the head's output for a batch, in training.
        batch: tensors [B, ...] by name.
        parts: S.

    Raises:
        ValueError: if S does not divide B.
    """
    if parts == 1:
        return run(batch)
    images = len(next(iter(batch.values())))
    if images % parts:
        raise ValueError(f"parts must divide the {images} images of a batch, got {parts}")
    pieces = {key: value.split(images // parts) for key, value in batch.items()}
    statistics = _Statistics(network)
    outputs = []
    for number in range(parts):
        part = {key: piece[number] for key, piece in pieces.items()}
        with statistics.of_part():
            outputs.append(
                checkpoint(
                    run,
                    part,
                    use_reentrant=False,
                    context_fn=lambda: (nullcontext(), statistics.kept()),
                )
            )
    statistics.settle()
    return _joined(outputs)


def changed_output(change: Callable[[torch.Tensor], torch.Tensor], output: HeadOutput) -> HeadOutput:
    """Return a head's output with each of its tensors changed."""
    return _built({name: None if value is None else change(value) for name, value in vars(output).items()})


def _joined(outputs: list[HeadOutput]) -> HeadOutput:
    """Return the outputs of consecutive parts as that of the whole batch."""
    first = vars(outputs[0])
    return _built(
        {
            name: None if value is None else torch.cat([getattr(output, name) for output in outputs])
            for name, value in first.items()
        }
    )


def _built(values: dict[str, Any]) -> HeadOutput:
    return HeadOutput(**values)


class _Statistics:
    """The running statistics of a network's batch norms while parts of one batch go through it.

    The buffers' places are taken by copies, as a tensor that is changed in place may be one that a graph
    holds.
    """

    def __init__(self, network: nn.Module) -> None:
        self._places = [
            (module, name)
            for module in network.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
            for name in STATISTICS
        ]
        self._buffers = self._present()
        self._of_parts: list[list[torch.Tensor]] = []

    @contextmanager
    def of_part(self) -> Iterator[None]:
        """Let a part move copies of what the statistics were before the batch."""
        self._put([buffer.clone() for buffer in self._buffers])
        try:
            yield
        finally:
            self._of_parts.append(self._present())
            self._put(self._buffers)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Let a part that is run again move nothing."""
        present = self._present()
        self._put([buffer.clone() for buffer in present])
        try:
            yield
        finally:
            self._put(present)

    @torch.no_grad()
    def settle(self) -> None:
        """Move the statistics to the mean over the parts, and the counters by one batch."""
        for buffer, moved in zip(self._buffers, zip(*self._of_parts, strict=True), strict=True):
            if buffer.is_floating_point():
                first = moved[0].double()
                buffer.copy_(first + (torch.stack(moved).double() - first).mean(dim=0))
            else:
                buffer.copy_(moved[0])

    def _present(self) -> list[torch.Tensor]:
        return [getattr(module, name) for module, name in self._places]

    def _put(self, tensors: list[torch.Tensor]) -> None:
        for (module, name), tensor in zip(self._places, tensors, strict=True):
            setattr(module, name, tensor)
