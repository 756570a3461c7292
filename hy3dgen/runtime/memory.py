"""Memory figures of a device and of this process, in bytes."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

from hy3dgen.runtime.device import CUDA, MPS

if TYPE_CHECKING:
    import torch

MIB = 1 << 20
GIB = 1 << 30


def release_cached(device: torch.device, *, collect: bool = False) -> None:
    """Give memory that nothing uses back to the device.

    collect: look for unreachable cycles first, which takes 0.3 s and more once the libraries of a run are loaded (half
    a million objects); for the moments when memory has run out or models are given up.
    """
    import torch

    if collect:
        gc.collect()
    if device.type == CUDA:
        torch.cuda.empty_cache()
    elif device.type == MPS:
        torch.mps.empty_cache()


def release_workspaces() -> None:
    """Give back what matrix products keep for themselves, some tens of megabytes for each thread that made one.

    Only while no product runs; the next one takes its workspace again.
    """
    import torch

    clear = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)  # has no public name yet
    if clear is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        clear()


def release_pinned() -> None:
    """Give pinned host memory that nothing uses back to the system; torch keeps it otherwise."""
    import torch

    empty_cache = getattr(torch._C, "_host_emptyCache", None)  # has no public name yet
    if empty_cache is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        empty_cache()


def can_pin() -> bool:
    """Whether this machine has an accelerator to pin host memory for."""
    import torch

    try:
        torch.empty(1, pin_memory=True)
    except RuntimeError:
        return False
    return True


def register_pinned(tensor: torch.Tensor) -> bool:
    """Pin memory that exists already, ten times as fast as asking for pinned memory; False where that is not possible.

    tensor: flat, on the host, of a mebibyte or more; smaller ones may share a page with others. Must be given back with
    ``unregister_pinned`` when no copy reads it any more and before it is freed.
    """
    import torch

    if not (torch.cuda.is_available() and torch.cuda.is_initialized()) or tensor.nbytes < MIB:
        return False
    return int(torch.cuda.cudart().cudaHostRegister(tensor.data_ptr(), tensor.nbytes, 0)) == 0


def unregister_pinned(tensor: torch.Tensor) -> None:
    """Undo ``register_pinned``."""
    import torch

    torch.cuda.cudart().cudaHostUnregister(tensor.data_ptr())


def reset_peaks(device: torch.device) -> None:
    """Start the device's peak counters afresh (CUDA only; elsewhere nothing counts)."""
    import torch

    if device.type == CUDA:
        torch.cuda.reset_peak_memory_stats(device)


def peak_allocated_bytes(device: torch.device) -> int:
    """Most bytes torch had allocated since the last reset; what is held now on MPS, 0 on the CPU."""
    import torch

    if device.type == CUDA:
        return torch.cuda.max_memory_allocated(device)
    return torch.mps.current_allocated_memory() if device.type == MPS else 0


def peak_reserved_bytes(device: torch.device) -> int:
    """Most bytes torch had reserved from the driver since the last reset; 0 on the CPU."""
    import torch

    if device.type == CUDA:
        return torch.cuda.max_memory_reserved(device)
    return torch.mps.driver_allocated_memory() if device.type == MPS else 0


def held_bytes(device: torch.device) -> int:
    """Bytes that this process's torch has reserved from the driver now; 0 on the CPU."""
    import torch

    if device.type == CUDA:
        return torch.cuda.memory_reserved(device)
    return torch.mps.driver_allocated_memory() if device.type == MPS else 0


def host_bytes() -> int:
    """Resident memory of this process now; 0 where neither psutil nor the system says."""
    try:
        import psutil
    except ImportError:
        return _resident_by_proc()
    return int(psutil.Process().memory_info().rss)


def peak_host_bytes() -> int:
    """Most resident memory this process has had so far; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows has no resource module
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def free_host_bytes() -> int:
    """Host memory that can be had without swapping; 0 where the system does not say."""
    try:
        import psutil
    except ImportError:
        return _free_by_sysconf()
    return int(psutil.virtual_memory().available)


def _resident_by_proc() -> int:
    import os

    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return 0


def _free_by_sysconf() -> int:
    import os

    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return 0
