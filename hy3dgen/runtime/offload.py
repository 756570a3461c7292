"""The memory engine: puts a plain network's weights on a device from outside, as a plan says, and takes them off.

Resident and staged networks go there whole. A streamed network keeps on the device what stands beside its block
lists, and two slots as large as its largest unit: while one unit computes, the next one arrives in the other slot on
a side stream. The arithmetic is the network's own, so results are equal bit for bit.

diffusers' group offloading hooks were the first choice and are not used: they load everything outside the lists in
the root's ``forward``, but our networks are also entered by other methods (``prepare_condition``,
``geo_decoder.prepare``); without their lazy root hook the prefetch chain has to be rebuilt by hand, else copies race;
they pin a whole second copy or pin anew at every visit, where the mapped file should be read; they rebuild the
arguments of every hooked call, which breaks the dictionary that the paint network's reference stream fills in place;
and their import takes 56 modules of diffusers (6.6 s cold here) for runs that use no diffusers network.

A unit that is not in holds tensors on torch's meta device, so that code which reads weights without calling the
unit's ``forward`` fails at once, on every device, instead of computing with the wrong ones.
On devices without streams the same code runs and waits for each copy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from hy3dgen.runtime.device import CUDA
from hy3dgen.runtime.memory import MIB, can_pin, register_pinned, release_pinned, unregister_pinned
from hy3dgen.runtime.plan import Placement
from hy3dgen.runtime.units import UNIT_LIMIT_BYTES, units_of
from hy3dgen.runtime.uploads import Uploader

ALIGNMENT = 256  # bytes; what CUDA's own allocations guarantee
META = torch.device("meta")


class Memory(Protocol):
    """Where device memory comes from. Tests count it and let it run out."""

    def bytes(self, size: int) -> Tensor:
        """A one-dimensional uint8 tensor of this size on the device."""
        ...

    def copy_of(self, tensor: Tensor) -> Tensor:
        """The tensor on the device."""
        ...


class DeviceMemory:
    """torch's own allocator on one device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._upload = Uploader(device)

    def bytes(self, size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8, device=self.device)

    def copy_of(self, tensor: Tensor) -> Tensor:
        return self._upload(tensor)


class Handle(Protocol):
    """A network that the engine has in hand."""

    def detach(self) -> None:
        """Give the device memory back; the network has the tensors it had. Doing it twice is harmless."""
        ...


def attach(
    module: nn.Module,
    placement: Placement,
    device: torch.device,
    *,
    memory: Memory | None = None,
    limit_bytes: int = UNIT_LIMIT_BYTES,
) -> Handle:
    """Make ``module``, whose tensors are in host memory or a mapped file, usable with inputs on ``device``.

    placement: 'resident' and 'staged' put all of it there; 'streamed' brings units from pinned host memory, 'disk' from
    where they are. limit_bytes: see ``units.units_of``. A network without units is put there whole.
    Raises torch's out-of-memory error; the module is then as it was.
    """
    memory = memory or DeviceMemory(device)
    with torch.inference_mode(False), torch.no_grad():
        units = find_units(module, limit_bytes) if placement in ("streamed", "disk") else {}
        if not units:
            return _Whole(module, memory)
        return _Streamed(module, units, memory, device, pin=placement == "streamed")


def find_units(module: nn.Module, limit_bytes: int = UNIT_LIMIT_BYTES) -> dict[str, nn.Module]:
    """The parts that can be streamed, by name, in the order in which the network lists them.

    Modules without a ``forward`` of their own (lists) are never units; torch's multi-head attention is never taken
    apart, since it reads its output layer's weights directly.
    """
    sizes = {name: tensor.nbytes for name, tensor in named_tensors(module).items()}
    names = units_of(
        sizes, limit_bytes, whole=lambda name: isinstance(module.get_submodule(name), nn.MultiheadAttention)
    )
    found = {name: module.get_submodule(name) for name in names}
    return {name: unit for name, unit in found.items() if not isinstance(unit, (nn.ModuleList, nn.ModuleDict))}


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers by dotted name."""
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


@dataclass(frozen=True, eq=False)
class _Place:
    """Where a tensor sits: in ``held``, its module's parameters or buffers, under ``leaf``. ``home`` was there."""

    owner: nn.Module
    held: dict[str, Any]
    leaf: str
    home: Tensor

    @staticmethod
    def all_of(module: nn.Module) -> Iterator[_Place]:
        for part in module.modules():
            for held in (part._parameters, part._buffers):
                for leaf, tensor in held.items():
                    if tensor is not None:
                        yield _Place(part, held, leaf, tensor)

    def like_home(self, tensor: Tensor) -> Tensor:
        """This tensor as a parameter when the one at home is one."""
        is_parameter = isinstance(self.home, nn.Parameter)
        return nn.Parameter(tensor, requires_grad=False) if is_parameter else tensor

    def put(self, tensor: Tensor) -> None:
        self.held[self.leaf] = tensor

    def restore(self) -> None:
        """The very object that was here."""
        self.held[self.leaf] = self.home


class _Whole:
    """All tensors of a module on the device; shared ones stay shared."""

    def __init__(self, module: nn.Module, memory: Memory, skip: Sequence[nn.Module] = ()) -> None:
        inside = {id(part) for unit in skip for part in unit.modules()}
        self._places = [place for place in _Place.all_of(module) if id(place.owner) not in inside]
        moved: dict[int, Tensor] = {}
        try:
            for place in self._places:
                key = id(place.home)
                if key not in moved:
                    moved[key] = memory.copy_of(place.home.detach())
                place.put(place.like_home(moved[key]))
        except BaseException:
            self.detach()
            raise

    def detach(self) -> None:
        for place in self._places:
            place.restore()
        self._places = []


class _Unit:
    """A streamed part: its tensors' places, and their layout in a slot."""

    def __init__(self, name: str, module: nn.Module) -> None:
        self.name, self.module = name, module
        self.places = list(_Place.all_of(module))
        self.offsets: dict[int, int] = {}
        size = 0
        for place in self.places:
            if id(place.home) not in self.offsets:
                self.offsets[id(place.home)] = size
                size += -(-place.home.nbytes // ALIGNMENT) * ALIGNMENT
        self.size = size
        self.host: list[Tensor] = []
        self._registered: Tensor | None = None
        self._absent = [place.like_home(place.home.detach().to(META)) for place in self.places]
        self._present: dict[int, list[Tensor]] = {}

    def pin(self) -> None:
        """Copy the tensors once into pinned host memory; keep reading them at home where there is none to be had."""
        if not can_pin():
            return
        # numpy asks the system for large pages, which are sooner there and sooner pinned than many small ones.
        whole = torch.from_numpy(np.empty(self.size, dtype=np.uint8))
        for place in self.places:
            self.view(whole, place).copy_(place.home.detach())
        if register_pinned(whole):
            self.host, self._registered = [whole], whole
            return
        try:
            pieces = [torch.empty(size, dtype=torch.uint8, pin_memory=True) for size in pinned_pieces(self.size)]
        except RuntimeError:  # no more memory that can be pinned
            return
        for piece, start, stop in _parts(pieces, self.size):
            piece[: stop - start].copy_(whole[start:stop])
        self.host = pieces

    @property
    def is_pinned(self) -> bool:
        return bool(self.host) or not self.size

    def view(self, buffer: Tensor, place: _Place) -> Tensor:
        """The part of a slot that holds this place's tensor."""
        start = self.offsets[id(place.home)]
        part = buffer[start : start + place.home.nbytes]
        return part.view(place.home.dtype).view(place.home.shape)

    def fill(self, buffer: Tensor, upload: Uploader) -> None:
        """Copy the weights into a slot, without waiting where that is possible. upload: for those not pinned."""
        if self.host:
            for piece, start, stop in _parts(self.host, self.size):
                buffer[start:stop].copy_(piece[: stop - start], non_blocking=True)
            return
        seen: set[int] = set()
        for place in self.places:
            if id(place.home) not in seen:
                upload.into(self.view(buffer, place), place.home.detach())
                seen.add(id(place.home))

    def enter(self, buffer: Tensor) -> None:
        """Let the places show this slot's content; the tensors for it are made once."""
        present = self._present.get(id(buffer))
        if present is None:
            present = [place.like_home(self.view(buffer, place)) for place in self.places]
            self._present[id(buffer)] = present
        for place, tensor in zip(self.places, present, strict=True):
            place.put(tensor)

    def leave(self) -> None:
        for place, tensor in zip(self.places, self._absent, strict=True):
            place.put(tensor)

    def restore(self) -> None:
        """Everything as it was before the engine came."""
        for place in self.places:
            place.restore()
        if self._registered is not None:
            unregister_pinned(self._registered)
        self.host, self._present, self._registered = [], {}, None


def pinned_pieces(size: int) -> list[int]:
    """Sizes of the blocks to pin for this many bytes: powers of two from large to small, at most 1 MiB too much.

    torch rounds every pinned block up to a power of two, which would nearly double the memory of most units.
    """
    pieces, rest = [], size
    while rest > MIB:
        pieces.append(1 << (rest.bit_length() - 1))
        rest -= pieces[-1]
    return [*pieces, MIB] if rest else pieces


def _parts(pieces: Sequence[Tensor], size: int) -> Iterator[tuple[Tensor, int, int]]:
    """Each block with the range of a unit's bytes that it holds."""
    start = 0
    for piece in pieces:
        stop = min(start + len(piece), size)
        yield piece, start, stop
        start = stop


@dataclass(eq=False)
class _Slot:
    """Room for one unit. ready: its copy has been made; free: whoever computed with it is done."""

    buffer: Tensor
    unit: _Unit | None = None
    ready: Any = None
    free: Any = None


@dataclass
class _Lane:
    """The order of work between the stream that computes and the one that copies; nothing to do without streams."""

    device: torch.device
    side: Any = field(default=None)

    def __post_init__(self) -> None:
        self._upload = Uploader(self.device)
        if self.device.type == CUDA:
            self.side = torch.cuda.Stream(self.device)

    def copy(self, slot: _Slot, unit: _Unit) -> None:
        """Start bringing ``unit`` into ``slot``, behind whatever still computes there."""
        slot.unit = unit
        if self.side is None:
            unit.fill(slot.buffer, self._upload)
            return
        if slot.free is not None:
            self.side.wait_event(slot.free)
        else:  # a fresh slot: its memory may still be in use by what ran before on the computing stream
            self.side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.side):
            unit.fill(slot.buffer, self._upload)
            slot.ready = self.side.record_event()

    def await_copy(self, slot: _Slot) -> None:
        if self.side is not None:
            torch.cuda.current_stream(self.device).wait_event(slot.ready)

    def mark_used(self, slot: _Slot) -> None:
        if self.side is not None:
            slot.free = torch.cuda.current_stream(self.device).record_event()

    def join(self) -> None:
        """Let the computing stream wait for the copying one."""
        if self.side is not None:
            torch.cuda.current_stream(self.device).wait_stream(self.side)

    def finish(self) -> None:
        """Wait for both streams, so that slots can be given back."""
        if self.side is not None:
            self.side.synchronize()
            torch.cuda.current_stream(self.device).synchronize()


class _Streamed:
    """Units visit two slots; the rest of the module is on the device all the time.

    The next unit is the one that followed last time, at first the next in the list; a wrong guess costs a wait.
    """

    def __init__(
        self, module: nn.Module, units: Mapping[str, nn.Module], memory: Memory, device: torch.device, *, pin: bool
    ) -> None:
        self._units = [_Unit(name, unit) for name, unit in units.items()]
        self._hooks: list[Any] = []
        self._inside: list[_Slot] = []
        self._lane = _Lane(device)
        self._rest: _Whole | None = None
        self._last: _Unit | None = None
        self._first: _Unit | None = None
        self._is_recording = False
        try:
            for unit in self._units:
                if pin:
                    unit.pin()
            self._rest = _Whole(module, memory, skip=list(units.values()))
            room = max(unit.size for unit in self._units)
            self._slots = [_Slot(memory.bytes(room)) for _ in range(min(2, len(self._units)))]
            self._pinned = all(unit.is_pinned for unit in self._units)
            following = [*self._units[1:], self._units[0]]
            self._next = {unit.name: after for unit, after in zip(self._units, following, strict=True)}
            for unit in self._units:
                unit.leave()
                self._hooks.append(unit.module.register_forward_pre_hook(self._before(unit), prepend=True))
                self._hooks.append(unit.module.register_forward_hook(self._after(unit), always_call=True))
        except BaseException:
            self.detach()
            raise

    def detach(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._lane.finish()
        for unit in self._units:
            unit.restore()
        if self._rest is not None:
            self._rest.detach()
        self._hooks, self._units, self._slots, self._rest, self._last = [], [], [], None, None
        release_pinned()

    @property
    def is_recordable(self) -> bool:
        """Whether a CUDA graph can hold a pass: its copies must come from pinned memory."""
        return self._pinned and self._lane.side is not None

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """For the length of a recording: the pass starts with empty slots, as every replay will, and ends joined."""
        self._forget_slots()
        self._last, self._is_recording = None, True
        try:
            yield
        finally:
            self._is_recording = False
            self._forget_slots()

    def join(self) -> None:
        """The end of a recorded pass: its copies are part of what the computing stream waits for."""
        self._lane.join()

    def _forget_slots(self) -> None:
        for slot in self._slots:
            slot.unit = slot.ready = slot.free = None

    def _before(self, unit: _Unit) -> Any:
        def enter(module: nn.Module, given: Any) -> None:
            with torch.inference_mode(False), torch.no_grad():
                slot = self._slot_of(unit)
                self._lane.await_copy(slot)
                unit.enter(slot.buffer)
            self._inside.append(slot)
            if self._last is not None:
                self._next[self._last.name] = unit
            else:
                self._first = unit
            self._last = unit
            # Pinned copies start at once, beside the computing; from pageable memory a copy holds the host up, so
            # the unit's own kernels go first.
            if self._pinned:
                self._prefetch(unit)

        enter.streamed = self  # type: ignore[attr-defined]  # how ``streams_of`` finds what streams a network
        return enter

    def _after(self, unit: _Unit) -> Any:
        def leave(module: nn.Module, given: Any, result: Any) -> None:
            if not self._inside:  # its pre-hook failed, and with it the call
                return
            slot = self._inside.pop()
            self._lane.mark_used(slot)
            with torch.inference_mode(False), torch.no_grad():
                unit.leave()
            if not self._pinned:
                self._prefetch(unit)

        leave.streamed = self  # type: ignore[attr-defined]
        return leave

    def _slot_of(self, unit: _Unit) -> _Slot:
        """The slot that holds the unit; brings it in when the guess was wrong."""
        for slot in self._slots:
            if slot.unit is unit:
                return slot
        idle = next((s for s in self._slots if s not in self._inside), None)
        if idle is None:
            raise RuntimeError(f"unit {unit.name} runs inside other units; the network cannot be streamed")
        self._lane.copy(idle, unit)
        return idle

    def _prefetch(self, unit: _Unit) -> None:
        coming = self._next[unit.name]
        if self._is_recording and coming is self._first:
            return  # the next replay brings it itself
        if any(slot.unit is coming for slot in self._slots):
            return
        with torch.inference_mode(False), torch.no_grad():
            free = next((s for s in self._slots if s not in self._inside and s.unit is not unit), None)
            if free is not None:
                self._lane.copy(free, coming)


class Streaming(Protocol):
    """A network whose weights come and go while it runs, as seen by somebody who records a pass of it."""

    @property
    def is_recordable(self) -> bool: ...

    def recording(self) -> contextlib.AbstractContextManager[None]: ...

    def join(self) -> None: ...


def streams_of(module: nn.Module) -> list[Streaming] | None:
    """What streams parts of ``module``; None when it has hooks of anybody else."""
    found: list[Streaming] = []
    for part in module.modules():
        for hook in (*part._forward_pre_hooks.values(), *part._forward_hooks.values()):
            stream = getattr(hook, "streamed", None)
            if stream is None:
                return None
            if stream not in found:
                found.append(stream)
    return found


@contextlib.contextmanager
def attached(module: nn.Module, placement: Placement, device: torch.device, **options: Any) -> Iterator[nn.Module]:
    """``attach`` for the length of a block."""
    handle = attach(module, placement, device, **options)
    try:
        yield module
    finally:
        handle.detach()
