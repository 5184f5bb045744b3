"""The mixed-precision step, for the CPU too; import after the bridges of the toolbox's imports."""

import importlib
import time
from typing import Any

import torch
from fastreid.engine.train_loop import SimpleTrainer
from fastreid.utils.params import ContiguousParams
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

__all__ = ["AMPTrainer", "bridge_amp", "widest_half"]

SUPPORTED = (torch.float16, torch.bfloat16)


def widest_half(device_type: str) -> torch.dtype:
    """Return bfloat16, which has float32's range, where a device multiplies in it, else float16.

    The toolbox takes float16 everywhere. GPUs before Ampere (compute capability 8.0) have no bfloat16 units.
    """
    if device_type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16


class AMPTrainer(SimpleTrainer):
    """Training steps whose forward pass runs in mixed precision, on the device of the model.

    On CPUs with AMX units, torch 2.13's bfloat16 convolutions with stride 2 were seen to return garbage
    where their result is a single column wide: images must stay 64 x 32 or larger there.

    Args:
        model: returns a dictionary of losses; on one device, or wrapped in ``DistributedDataParallel``
            with one device a process.
        data_loader: batches, on the model's device.
        optimizer: steps the model's parameters.
        param_wrapper: the toolbox's contiguous parameters, or ``None``.
        grad_scaler: scales the loss against underflow; default: ``torch.amp.GradScaler`` for float16,
            and one that does nothing for bfloat16, which has float32's range.
        dtype: ``torch.float16`` or ``torch.bfloat16``; default: :func:`widest_half`.

    Raises:
        ValueError: for another dtype, float16 on the CPU, or a model on several devices.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Any,
        optimizer: Any,
        param_wrapper: Any,
        grad_scaler: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        on_several = isinstance(model, DataParallel) or (
            isinstance(model, DistributedDataParallel) and len(model.device_ids or ()) > 1
        )
        if on_several:
            raise ValueError(
                f"model must be on one device a process, got {type(model).__name__} over several"
            )
        self.device_type = next(model.parameters()).device.type
        if dtype is None:
            dtype = widest_half(self.device_type)
        if dtype not in SUPPORTED or (dtype == torch.float16 and self.device_type == "cpu"):
            raise ValueError(f"dtype must be torch.bfloat16, or torch.float16 on a GPU, got {dtype}")
        super().__init__(model, data_loader, optimizer, param_wrapper)
        self.dtype = dtype
        if grad_scaler is None:
            grad_scaler = torch.amp.GradScaler(self.device_type, enabled=dtype == torch.float16)
        self.grad_scaler = grad_scaler

    def run_step(self) -> None:
        """Take one batch and one step of the optimiser; losses are written to the event storage.

        Raises:
            RuntimeError: if the model is in evaluation mode.
            FloatingPointError: if a loss is infinite or not a number.
        """
        if not self.model.training:
            raise RuntimeError("the model must be in training mode, but was changed to evaluation mode")
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        with torch.amp.autocast(self.device_type, dtype=self.dtype):
            loss_dict = self.model(data)
            losses = sum(loss_dict.values())
        self.optimizer.zero_grad()
        self.grad_scaler.scale(losses).backward()
        self._write_metrics(loss_dict, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
        if isinstance(self.param_wrapper, ContiguousParams):
            self.param_wrapper.assert_buffer_is_valid()


def bridge_amp() -> None:
    """Replace ``AMPTrainer`` (``engine/train_loop.py``, ``engine/defaults.py``).

    The toolbox's asserts CUDA and goes through ``torch.cuda.amp``, which is deprecated and knows
    neither the CPU nor, as it is called there, bfloat16.
    """
    train_loop: Any = importlib.import_module("fastreid.engine.train_loop")
    defaults: Any = importlib.import_module("fastreid.engine.defaults")
    train_loop.AMPTrainer = defaults.AMPTrainer = AMPTrainer
