"""Which networks of a pipeline are on the device, and when.

A pipeline asks for a network with ``with placement.using(name) as network:`` around its use. By default networks stay
once they are in; with offloading each is in for its stage only; a memory engine can take over with ``Placer``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import nn

from hy3dgen.runtime.compile import is_compiled
from hy3dgen.runtime.device import CPU
from hy3dgen.runtime.linear import fast_linears
from hy3dgen.runtime.memory import release_cached
from hy3dgen.runtime.stages import current
from hy3dgen.runtime.visits import Visit
from hy3dgen.weights.residency import Residency

_LARGEST_PACKED_BYTES = 3 << 30  # fast_linears holds a second copy of the weights


class Placer(Protocol):
    """A memory engine's side of the bargain: make ``network``, whose weights are in host memory, usable.

    ``network`` is called with inputs on the pipeline's device inside the block, and is not used after it.
    """

    def using(self, name: str, network: nn.Module) -> AbstractContextManager[object]: ...


class Placement:
    """The networks of one pipeline and where each of them is."""

    def __init__(self, networks: Mapping[str, nn.Module], *, from_file: bool) -> None:
        """from_file: the networks' tensors lie in a mapped file, which stays their home."""
        self._residencies = {name: Residency(network, has_home=from_file) for name, network in networks.items()}
        self.device = torch.device(CPU)
        self.dtype: torch.dtype | None = None
        self.by_stage = False
        self.placer: Placer | None = None

    def put(self, name: str, network: nn.Module, *, from_file: bool = False) -> None:
        """Replace a network; the old one's memory is given back first."""
        if name in self._residencies:
            self._residencies[name].leave()
        self._residencies[name] = Residency(network, has_home=from_file)

    def raw(self, name: str) -> nn.Module:
        """The network wherever it is."""
        return self._residencies[name].module

    def ready(self, name: str) -> nn.Module:
        """The network as its user expects it: on the device, unless somebody else does the placing."""
        if not self.by_stage and self.placer is None:
            self._residencies[name].enter(self.device, self.dtype)
        return self.raw(name)

    def move(self, device: torch.device, dtype: torch.dtype | None) -> None:
        """Use another device and dtype from now on. Networks without a file go there at once, the others when used."""
        self.device, self.dtype = device, dtype
        for name, residency in self._residencies.items():
            if residency.has_home:
                residency.leave()
            else:
                self.ready(name)

    def release(self) -> None:
        """Take every network off the device."""
        for residency in self._residencies.values():
            residency.leave()
        release_cached(self.device)

    @contextlib.contextmanager
    def using(self, name: str, dtype: torch.dtype | None = None) -> Iterator[nn.Module]:
        """The network, usable on the device inside the block. dtype: another one than the pipeline's, for this use."""
        residency, dtype = self._residencies[name], dtype or self.dtype
        leaves = self.by_stage or self.placer is not None
        if leaves and self.placer is None:
            current().levers.append(f"{name} resident for its stage only")
        visit = Visit(name, self.device)
        try:
            if self.placer is not None:
                network = residency.enter(torch.device(CPU), dtype)
                with self.placer.using(name, network):
                    visit.mark("arrive_s")
                    yield network
                    visit.mark("run_s")
            else:
                network = residency.enter(self.device, dtype)
                with fast_linears(*self._worth_packing(network, dtype)):
                    visit.mark("arrive_s")
                    yield network
                    visit.mark("run_s")
        finally:
            if leaves:
                residency.leave()
                release_cached(self.device)
            visit.mark("leave_s")

    def _worth_packing(self, network: nn.Module, dtype: torch.dtype | None) -> list[nn.Module]:
        # Compiled blocks have their own kernels, and cannot be compiled with packed weights in them.
        if self.device.type != CPU or dtype != torch.float32 or is_compiled(network):
            return []
        size = sum(parameter.nbytes for parameter in network.parameters())
        return [network] if size <= _LARGEST_PACKED_BYTES else []
