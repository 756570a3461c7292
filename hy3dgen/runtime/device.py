"""Which device and which dtype a run uses: the only place that names devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hy3dgen.errors import UsageError

if TYPE_CHECKING:
    import torch

CUDA, MPS, CPU = "cuda", "mps", "cpu"
DTYPE_NAMES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def is_available(kind: str) -> bool:
    """True when torch can use this kind of device ('cuda', 'mps' or 'cpu') here."""
    import torch

    if kind == CUDA:
        return torch.cuda.is_available()
    if kind == MPS:
        return torch.backends.mps.is_available()
    return kind == CPU


def pick_device(requested: str | torch.device | None = None) -> torch.device:
    """The device to run on: what was asked for, else CUDA, else MPS, else the CPU.

    requested: None or 'auto' to choose, else 'cuda', 'cuda:N', 'mps' or 'cpu'.
    Raises UsageError for an unknown name and for a device that this machine or this torch build lacks.
    """
    import torch

    if requested is None or str(requested) == "auto":
        return torch.device(next(kind for kind in (CUDA, MPS, CPU) if is_available(kind)))
    try:
        device = torch.device(requested)
    except RuntimeError as error:
        raise UsageError(f"unknown device '{requested}'; use auto, cuda, cuda:N, mps or cpu") from error
    if device.type not in (CUDA, MPS, CPU):
        raise UsageError(f"device '{requested}' is not supported; use auto, cuda, cuda:N, mps or cpu")
    if not is_available(device.type):
        raise UsageError(
            f"device '{requested}' was asked for but torch {torch.__version__} cannot use it here; "
            "run 'python -m hy3dgen doctor' to see why, or use --device cpu"
        )
    if device.type == CUDA and device.index is not None and device.index >= torch.cuda.device_count():
        raise UsageError(
            f"device '{requested}' does not exist; this machine has {torch.cuda.device_count()} CUDA device(s)"
        )
    return device


def pick_dtype(device: torch.device, requested: str | torch.dtype | None = None) -> torch.dtype:
    """float16 on CUDA and MPS, float32 on the CPU, unless a dtype or one of 'fp32', 'fp16', 'bf16' is given.

    Raises UsageError for an unknown name.
    """
    import torch

    if isinstance(requested, torch.dtype):
        return requested
    if requested is None or requested == "auto":
        return torch.float32 if device.type == CPU else torch.float16
    name = DTYPE_NAMES.get(requested, requested)
    if name not in DTYPE_NAMES.values():
        raise UsageError(f"unknown dtype '{requested}'; use one of {', '.join(DTYPE_NAMES)}")
    return getattr(torch, name)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that was asked of it; nothing to do on the CPU."""
    import torch

    if device.type == CUDA:
        torch.cuda.synchronize(device)
    elif device.type == MPS:
        torch.mps.synchronize()


def describe(device: torch.device) -> str:
    """The device in words, for reports: 'NVIDIA H200 (cuda:0)', 'CPU, 2 cores'."""
    import os

    import torch

    if device.type == CUDA:
        return f"{torch.cuda.get_device_name(device)} ({device})"
    if device.type == MPS:
        return "Apple GPU (mps)"
    return f"CPU, {os.cpu_count()} cores"
