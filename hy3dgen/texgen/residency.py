"""Which networks of the texture stages are on the device, and when: each only while it runs.

The weights' home is their mapped file (or host memory); leaving copies nothing back. A memory engine can take over
with ``placer``. Knows no network by name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import nn

from hy3dgen.runtime.device import CPU
from hy3dgen.runtime.graphs import Step, replayed
from hy3dgen.runtime.memory import release_cached
from hy3dgen.runtime.stages import current
from hy3dgen.runtime.visits import Visit
from hy3dgen.weights.load import set_tensor
from hy3dgen.weights.residency import Residency


class Placer(Protocol):
    """A memory engine's side of the bargain: make ``network``, whose weights are in host memory, usable on the device.

    ``network`` is called with inputs on the device inside the block, and is not used after it.
    """

    def using(self, name: str, network: nn.Module) -> AbstractContextManager[object]: ...


class OnDemand:
    """Networks visit ``device`` as ``dtype`` while a ``visit`` block runs; both may be changed between visits.

    keep: leave networks where they are after a visit (fastest when memory is plentiful).
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, *, keep: bool = False) -> None:
        self.device, self.dtype, self.keep = device, dtype, keep
        self.placer: Placer | None = None
        self._residencies: dict[nn.Module, Residency] = {}
        self._homes: dict[nn.Module, dict[str, torch.Tensor]] = {}
        self._visiting: set[nn.Module] = set()

    @contextlib.contextmanager
    def visit(self, name: str, *modules: nn.Module) -> Iterator[None]:
        """Have these modules (parts of one network that run together) on the device inside the block.

        Those that are visiting already, by a block around this one, stay as they are.
        """
        modules = tuple(module for module in modules if module not in self._visiting)
        if not modules:
            yield
            return
        self._visiting.update(modules)
        try:
            with self._brought(name, *modules):
                yield
        finally:
            self._visiting.difference_update(modules)

    @contextlib.contextmanager
    def _brought(self, name: str, *modules: nn.Module) -> Iterator[None]:
        stays = self.keep and self.placer is None
        if not stays and self.placer is None:
            current().levers.append(f"{name} resident for its use only")
        visit = Visit(name, self.device)
        try:
            with contextlib.ExitStack() as stack:
                for module in modules:
                    place = self.device if self.placer is None else torch.device(CPU)
                    self._residency(module).enter(place, self.dtype)
                    if self.placer is not None:
                        stack.enter_context(self.placer.using(name, module))
                visit.mark("arrive_s")
                yield
                visit.mark("run_s")
        finally:
            if not stays:
                self.leave(*modules)
            visit.mark("leave_s")

    def recorded(self, step: Step, network: nn.Module, num_steps: int) -> AbstractContextManager[Step]:
        """``step`` for the calls inside the block, its kernels recorded once where that pays; see ``replayed``."""
        return replayed(step, network, self.device, num_steps)

    def release(self, *parts: nn.Module) -> None:
        """Send parts of a visiting network home early: nothing needs them until its next visit."""
        if self.placer is not None or self.keep:
            return
        for part in parts:
            for leaf, tensor in self._homes.get(part, {}).items():
                set_tensor(part, leaf, tensor)

    def leave(self, *modules: nn.Module) -> None:
        """Send these modules (all when none are named) home and give their memory back to the device."""
        for module in modules or tuple(self._residencies):
            self._residencies[module].leave()
        if self.device.type != CPU:  # there the memory is free already, and collecting garbage takes its time
            release_cached(self.device)

    def move(self, device: torch.device, dtype: torch.dtype) -> None:
        """Use another device and dtype from the next visit on."""
        self.leave()
        self.device, self.dtype = device, dtype

    def _residency(self, module: nn.Module) -> Residency:
        if module not in self._residencies:
            self._residencies[module] = Residency(module, has_home=True)
            for part in module.modules():
                held = {**part._parameters, **part._buffers}
                self._homes[part] = {leaf: tensor.detach() for leaf, tensor in held.items() if tensor is not None}
        return self._residencies[module]
