"""``--compile``: the repeated blocks of a network through torch.compile, one by one, from outside.

Blocks of one kind share a compiled graph, so the first step costs seconds instead of minutes. Only a block's
``forward`` is compiled and not its call, so the hooks of streaming stay outside the graph. Compiled kernels are kept
in the user's cache folder between runs.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hy3dgen.errors import MissingExtraError
from hy3dgen.runtime.device import CPU, CUDA
from hy3dgen.runtime.offload import find_units
from hy3dgen.runtime.stages import current
from hy3dgen.runtime.units import UNIT_LIMIT_BYTES

CACHE_NAME = "TORCHINDUCTOR_CACHE_DIR"
OLDEST_CAPABILITY = (7, 0)  # what Triton generates code for


def unavailable(device: torch.device) -> str | None:
    """Why torch.compile cannot work on this device, None where it can."""
    if device.type == CUDA:
        if importlib.util.find_spec("triton") is None:
            package = "triton-windows" if sys.platform == "win32" else "triton"
            return f"torch.compile needs Triton on NVIDIA GPUs; install it with: pip install {package}"
        if torch.cuda.get_device_capability(device) < OLDEST_CAPABILITY:
            return "torch.compile needs an NVIDIA GPU of compute capability 7.0 or newer"
        return None
    if device.type != CPU:
        return f"torch.compile is not reliable on {device.type} yet; leave out --compile"
    names = [os.environ.get("CXX") or "", "g++", "clang++", "cl"]
    if not any(name and shutil.which(name) for name in names):
        return "torch.compile needs a C++ compiler for the CPU (g++, clang++ or cl), and none was found"
    return None


def ensure_available(device: torch.device) -> None:
    """Raises MissingExtraError with a sentence where compiling cannot work."""
    reason = unavailable(device)
    if reason is not None:
        raise MissingExtraError(f"--compile cannot be used: {reason}", package="triton")


def keep_cache(folder: Path, environ: MutableMapping[str, str] | None = None) -> None:
    """Keep compiled kernels below ``folder``, unless the user has named another place."""
    settings = os.environ if environ is None else environ
    settings.setdefault(CACHE_NAME, str(folder / "inductor"))


def compile_blocks(
    module: nn.Module, *, limit_bytes: int = UNIT_LIMIT_BYTES, compiler: Callable[..., Any] = torch.compile
) -> int:
    """Compile the blocks of ``module`` at their first use; returns how many. A second call changes nothing.

    A block whose compilation fails runs as it is, with a warning in the stage's record. ``plain_blocks`` undoes it.
    """
    count = 0
    for unit in find_units(module, limit_bytes).values():
        if next(unit.children(), None) is None or "forward" in unit.__dict__:
            continue  # a single layer gains nothing, and a forward of its own is somebody else's
        unit.__dict__["forward"] = _Compiled(unit, compiler)
        count += 1
    return count


def plain_blocks(module: nn.Module) -> None:
    """Run every block as it is again."""
    for part in module.modules():
        if isinstance(part.__dict__.get("forward"), _Compiled):
            del part.__dict__["forward"]


def is_compiled(module: nn.Module) -> bool:
    """True when blocks of ``module`` run compiled."""
    return any(isinstance(part.__dict__.get("forward"), _Compiled) for part in module.modules())


class _Compiled:
    """A block's forward, compiled; the plain one once compiling has failed."""

    def __init__(self, unit: nn.Module, compiler: Callable[..., Any]) -> None:
        self._plain = unit.forward
        self._run = compiler(self._plain)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._run is self._plain:
            return self._plain(*args, **kwargs)
        from torch._dynamo.exc import TorchDynamoException

        try:
            return self._run(*args, **kwargs)
        except TorchDynamoException as error:
            self._run = self._plain
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            current().warn(f"--compile: a block could not be compiled and runs as it is ({reason})")
            return self._plain(*args, **kwargs)
