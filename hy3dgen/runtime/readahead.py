"""Mapped weights brought into memory before they are needed: beside the stage that works, not inside the next one.

A weight file is mapped, not read, so the first copy of a network to the device waits for every page: for the disk,
and where the system has the file in memory already, for a fault each few pages.
Knows addresses and sizes, no networks. Nothing depends on it: where the system does not help, the copy waits as before.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import mmap
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from hy3dgen.runtime.device import CPU
from hy3dgen.runtime.memory import MIB, free_host_bytes

SLICE_BYTES = 32 * MIB  # asked for at once: a thread that must end, and others that change mappings, wait no longer
GAP_BYTES = MIB  # ranges closer than this are one
LARGEST_SHARE = 0.5  # of the free host memory: pages read ahead must not push out what is in use
_POPULATE_READ, _WILL_NEED = 22, 3  # madvise: have the pages mapped (Linux 5.14); begin to read them


class ReadAhead:
    """Reads the pages of networks whose tensors are in host memory, in their order, in a thread of its own.

    On Linux only. ``stop`` it when the networks are not used any more.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        self._networks = list(networks)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> ReadAhead:
        if sys.platform.startswith("linux") and self._networks:
            # Collected here: by the time the thread runs, the first network may be on its way to the device.
            asked = ranges(map(_host_tensors, self._networks), round(LARGEST_SHARE * free_host_bytes()))
            self._thread = threading.Thread(target=self._run, args=(asked,), name="read-ahead", daemon=True)
            self._thread.start()
        return self

    def stop(self) -> None:
        """End after the present slice."""
        self._stopped.set()

    def wait(self) -> None:
        """Return when everything has been read, or the reading was stopped."""
        if self._thread is not None:
            self._thread.join()

    def _run(self, asked: Sequence[tuple[int, int]]) -> None:
        for start, size in asked:
            for first in range(start, start + size, SLICE_BYTES):
                if self._stopped.is_set() or not _advise(first, min(SLICE_BYTES, start + size - first)):
                    return


@contextlib.contextmanager
def reading_ahead(networks: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    """Read ahead beside the block what will be copied to ``device``; nothing where weights are used in place."""
    reading = ReadAhead(networks if device.type != CPU else []).start()
    try:
        yield
    finally:
        reading.stop()


def _host_tensors(network: nn.Module) -> list[Tensor]:
    """In the order of their addresses, which is that of the file."""
    tensors = [*network.parameters(), *network.buffers()]
    return sorted((t.detach() for t in tensors if t.device.type == CPU), key=Tensor.data_ptr)


def ranges(networks: Iterable[Sequence[Tensor]], limit_bytes: int) -> list[tuple[int, int]]:
    """(address, bytes) of whole pages that hold the networks' tensors, at most ``limit_bytes`` of tensors in all.

    networks: each with its tensors in the order of their addresses; those that follow one another come as one range.
    """
    page = mmap.PAGESIZE
    found: list[tuple[int, int]] = []
    taken = 0
    for tensor in itertools.chain.from_iterable(networks):
        taken += tensor.nbytes
        if taken > limit_bytes:
            break
        if not tensor.nbytes:
            continue
        first = tensor.data_ptr() // page * page
        last = -(-(tensor.data_ptr() + tensor.nbytes) // page) * page
        if found and found[-1][0] <= first <= found[-1][0] + found[-1][1] + GAP_BYTES:
            start = found[-1][0]
            found[-1] = (start, max(found[-1][1], last - start))
        else:
            found.append((first, last - first))
    return found


def _advise(address: int, size: int) -> bool:
    """Have these pages in memory; False when the system does not take such advice."""
    advise = _madvise()
    return advise is not None and (advise(address, size, _POPULATE_READ) == 0 or advise(address, size, _WILL_NEED) == 0)


@cache
def _madvise() -> Any:
    """The system's ``madvise``; calling it leaves the interpreter to others. None where there is none."""
    try:
        found = ctypes.CDLL(None).madvise
    except (AttributeError, OSError):
        return None
    found.argtypes, found.restype = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int], ctypes.c_int
    return found
