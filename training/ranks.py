"""Several processes of one host that train one model: one GPU each, gradients averaged.

Started by ``launch`` or by torchrun; a process finds its place in RANK, WORLD_SIZE and LOCAL_RANK. Alone, every method
is the identity. Knows nothing of networks.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from torch import Tensor, distributed

from hy3dgen.errors import UsageError

STARTED = "HY3DGEN_TRAINING_STARTED"  # when the first process began, seconds since the epoch
GRACE_S = 20.0


class Ranks:
    """This process among ``world`` equals; number 0 is the main one, which logs and saves."""

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self.rank, self.world = rank, world

    @property
    def main(self) -> bool:
        return self.rank == 0

    def mean_(self, tensors: list[Tensor]) -> None:
        """Replace tensors (float32, one device) by their means over all processes."""
        if self.world == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        distributed.all_reduce(flat)
        flat /= self.world
        parts = flat.split([tensor.numel() for tensor in tensors])
        torch._foreach_copy_(tensors, [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)])

    def same_(self, tensors: list[Tensor]) -> None:
        """Give every process the main one's values."""
        if self.world == 1 or not tensors:
            return
        with torch.no_grad():
            flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
            distributed.broadcast(flat, 0)
            parts = flat.split([tensor.numel() for tensor in tensors])
            torch._foreach_copy_(tensors, [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)])

    def agreed(self, share: float, stop: bool) -> tuple[float, bool]:
        """The main process's share of the piece, and whether any process was asked to stop."""
        if self.world == 1:
            return share, stop
        both = torch.tensor([share if self.main else 0.0, float(stop)], dtype=torch.float64)
        distributed.all_reduce(both)
        return float(both[0]), bool(both[1] > 0)

    def wait(self) -> None:
        """Until every process is here."""
        self.agreed(0.0, False)

    def gathered(self, value: Any) -> list[Any]:
        """Every process's value (anything pickle can hold), in the order of ranks; for all of them."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        distributed.all_gather_object(found, value)
        return found


@contextmanager
def joined(device: torch.device) -> Iterator[tuple[Ranks, torch.device]]:
    """Join the other processes, if there are any. Yields the place among them and the device of this one.

    Numbers of the CPU go through gloo, tensors of CUDA through NCCL. Raises UsageError for more processes than GPUs.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Ranks(), device
        return
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", os.environ["RANK"]))
    backend = "gloo"
    if device.type == "cuda":
        if local >= torch.cuda.device_count():
            raise UsageError(
                f"process {local} has no GPU: there are {torch.cuda.device_count()}; use fewer --processes"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    distributed.init_process_group(backend, rank=rank, world_size=world)
    try:
        yield Ranks(rank, world), device
    finally:
        distributed.destroy_process_group()


def leave(code: int) -> NoReturn:
    """End this process with an exit code; one of several without taking libraries down.

    About once in forty times torch aborts there after gloo was used, with 'terminate called without an active
    exception' (2.13 on a CPU), when everything is written and the interpreter is gone.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    raise SystemExit(code)


def started_at() -> float:
    """When the command began, seconds since the epoch: the first process's start, or now."""
    return float(os.environ.setdefault(STARTED, str(time.time())))


def launch(arguments: list[str], processes: int) -> int:
    """Run ``python -m training ARGUMENTS`` in several processes. Returns the worst exit code.

    When one fails the others are ended; a signal to this process is passed on.
    """
    import signal

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    shared[STARTED] = str(started_at())
    if sys.platform == "linux":
        shared["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", "lo")  # a machine may have no other network
    children = []
    for rank in range(processes):
        environment = os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        children.append(subprocess.Popen([sys.executable, "-m", "training", *arguments], env=environment))

    def pass_on(number: int, _: Any) -> None:
        for child in children:
            child.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return _waited(children)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _waited(children: list[subprocess.Popen[bytes]]) -> int:
    while True:
        codes = [child.poll() for child in children]
        if all(code is not None for code in codes):
            return max(abs(code or 0) for code in codes)
        failed = [abs(code) for code in codes if code]
        if failed:
            _ended(children)
            return max(failed)  # not the codes of those that were ended for it
        time.sleep(0.2)


def _ended(children: list[subprocess.Popen[bytes]]) -> None:
    """Ask the others to end, and do not wait for ever: they may be waiting for the one that failed."""
    deadline = time.monotonic() + GRACE_S
    for child in children:
        if child.poll() is None:
            child.terminate()
    for child in children:
        try:
            child.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
