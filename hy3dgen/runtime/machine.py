"""What the planner has to know of this machine, and the two limits that hold torch's allocator to a plan."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import MutableMapping

import torch

from hy3dgen.errors import UsageError
from hy3dgen.runtime.costs import activation_data
from hy3dgen.runtime.device import CPU, CUDA, MPS, describe
from hy3dgen.runtime.memory import MIB, free_host_bytes
from hy3dgen.runtime.plan import GIB, Machine

ALLOCATOR_NAMES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
EXPANDABLE = "expandable_segments:True"
_DATACENTRE = re.compile(r"\b(B200|H\d{3}|GH\d{3}|A100|A30|A40|L40S?|V100|MI\d{3})")
_LAPTOP = re.compile(r"laptop|max-q|mobile|apple", re.IGNORECASE)


def prepare_allocator(environ: MutableMapping[str, str] | None = None) -> bool:
    """Ask torch for expandable segments, which leave fewer gaps; True when they were asked for here.

    Must come before the first CUDA tensor. Nothing happens when the user has settings of their own, when CUDA is in use
    already, and outside Linux, where torch does not have them.
    """
    settings = os.environ if environ is None else environ
    if any(name in settings for name in ALLOCATOR_NAMES) or not sys.platform.startswith("linux"):
        return False
    if torch.cuda.is_initialized():
        return False
    settings[ALLOCATOR_NAMES[0]] = EXPANDABLE
    return True


def machine_of(device: torch.device) -> Machine:
    """This machine with this device. The CPU has no device memory of its own."""
    if device.type == CUDA:
        free, total = torch.cuda.mem_get_info(device)
        free += torch.cuda.memory_reserved(device)  # of an earlier job of this process, and ours to use again
        speed = speed_of(describe(device))
        return make_machine(CUDA, total, free, speed, free_host_bytes(), context_bytes=_context_bytes(device))
    if device.type == MPS:
        total = torch.mps.recommended_max_memory()
        free = total - torch.mps.driver_allocated_memory()
        return make_machine(MPS, total, free, "laptop", free_host_bytes(), context_bytes=0)
    return make_machine(CPU, 0, 0, "desktop", free_host_bytes(), context_bytes=0)


def make_machine(
    kind: str, total_bytes: int, free_bytes: int, speed: str, host_bytes: int, *, context_bytes: int | None = None
) -> Machine:
    """A machine with the data's figures for its speed class; ``context_bytes`` None takes the data's."""
    data = activation_data()["machine"]
    return Machine(
        kind=kind,
        total_bytes=total_bytes,
        free_bytes=free_bytes,
        context_bytes=data["context_mb"] * MIB if context_bytes is None else context_bytes,
        free_host_bytes=host_bytes,
        speed=speed,
        h2d_bytes_s=data["h2d_gb_s"][speed] * 1e9,
        disk_bytes_s=data["disk_gb_s"] * 1e9,
        whole_bytes_s=data["whole_gb_s"][speed] * 1e9,
        pin_bytes_s=data["pin_gb_s"] * 1e9,
        host_margin_bytes=data["host_margin_mb"] * MIB,
        slowdown=data["slowdown"][speed],
        reserved_factor=data["reserved_factor"],
        reserved_fixed_bytes=data["reserved_fixed_mb"] * MIB,
    )


def speed_of(device_name: str) -> str:
    """'datacentre', 'desktop' or 'laptop', from a device's name."""
    if _DATACENTRE.search(device_name):
        return "datacentre"
    return "laptop" if _LAPTOP.search(device_name) else "desktop"


def ceiling_bytes(vram: str, machine: Machine) -> int:
    """What ``--vram`` means on this machine, in bytes of device memory for the whole process.

    vram: 'max' (all there is), 'auto' (what is free now, less a margin for others) or GiB as a number.
    Raises UsageError for anything else and for more than the device has.
    """
    if vram == "max":
        return machine.total_bytes
    if vram == "auto":
        margin = activation_data()["machine"]["auto_margin_mb"] * MIB
        # The context is part of the ceiling, and of what is not free any more.
        own = machine.context_bytes if machine.kind == CUDA else 0
        return max(0, min(machine.total_bytes, machine.free_bytes + own - margin))
    asked = round(gib(vram) * GIB)
    if asked > machine.total_bytes and machine.kind == MPS:
        return machine.total_bytes  # the system recommends no more, whatever the user says
    if asked > machine.total_bytes:
        raise UsageError(
            f"--vram is {vram} GiB, but the device has {machine.total_bytes / GIB:.1f} GiB; give less, 'max' or 'auto'"
        )
    return asked


def gib(vram: str) -> float:
    """The number in ``--vram``. Raises UsageError for what is no number above 0."""
    try:
        value = float(vram)
    except ValueError as error:
        raise UsageError(f"--vram is '{vram}'; give GiB as a number, 'auto' or 'max'") from error
    if not 0 < value < float("inf"):
        raise UsageError(f"--vram is {vram}; give GiB above 0, 'auto' or 'max'")
    return value


def enforce(ceiling: int, machine: Machine, device: torch.device) -> None:
    """Let torch's allocator refuse what would break the ceiling. CUDA only: MPS has no such limit per process."""
    if device.type == CUDA:
        _allow(allowed_fraction(ceiling, machine), device)


def let_go(device: torch.device) -> None:
    """Undo ``enforce``: the device's whole memory may be used again."""
    if device.type == CUDA:
        _allow(1.0, device)


def _allow(fraction: float, device: torch.device) -> None:
    # torch takes no plain 'cuda' here: the current device's number is asked for
    index = torch.cuda.current_device() if device.index is None else device.index
    torch.cuda.set_per_process_memory_fraction(fraction, index)


def allowed_fraction(ceiling: int, machine: Machine) -> float:
    """The share of the device's memory that tensors may take under a ceiling, context excluded; in (0, 1]."""
    tensors = max(ceiling - machine.context_bytes, MIB)
    return min(1.0, tensors / machine.total_bytes)


def _context_bytes(device: torch.device) -> int:
    """What this process takes beside tensors: read where nobody else uses the device, else the data's figure."""
    data = activation_data()["machine"]
    torch.cuda.init()
    torch.empty(1, device=device)  # makes the context
    free, total = torch.cuda.mem_get_info(device)
    held = total - free - torch.cuda.memory_reserved(device)
    if held < data["lone_context_limit_mb"] * MIB:
        return held + data["context_growth_mb"] * MIB
    return data["context_mb"] * MIB
