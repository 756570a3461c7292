"""First uses paid for while a GPU waits anyway: libraries, kernels and compilers wake up beside the loading of a model.

The first product, attention and convolution of a process load libraries of hundreds of megabytes, which takes seconds
on the host, and a stage that pays for it looks slow. Knows neither networks nor jobs: what to wake up comes as a list.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cache

import torch
from torch import nn

from hy3dgen.runtime.attention import attend
from hy3dgen.runtime.device import CUDA, synchronize
from hy3dgen.runtime.memory import release_cached, release_workspaces
from hy3dgen.runtime.stages import check_cancelled

logger = logging.getLogger(__name__)

Waking = Callable[[], object]
LOOK_S = 0.1  # between two looks at whether the run has been cancelled
LEAVE_S = 10.0  # the interpreter must not be taken down under a thread that is inside a library


class WarmUp:
    """Calls that run one after another in a thread of their own, on CUDA only; elsewhere nothing happens.

    Nothing depends on them: one that fails is logged and leaves its work to the stage that needs it. Device memory that
    they took is given back before ``wait`` returns. Start one only after the ceiling of the allocator has been set.
    """

    def __init__(self, device: torch.device, calls: Sequence[Waking]) -> None:
        self._device, self._calls = device, calls
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()

    def start(self) -> WarmUp:
        if self._device.type == CUDA and self._calls:
            self._thread = threading.Thread(target=self._run, name="warm-up", daemon=True)
            self._thread.start()
            atexit.register(self._leave)
        return self

    @property
    def is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def wait(self) -> None:
        """Return when all calls are done. Raises Cancelled as soon as the run is."""
        while self.is_running:
            assert self._thread is not None
            self._thread.join(LOOK_S)
            check_cancelled()

    def stop(self) -> None:
        """Begin no further call."""
        self._stopped.set()

    def _leave(self) -> None:
        self.stop()
        if self._thread is not None:
            self._thread.join(LEAVE_S)

    def _run(self) -> None:
        with torch.no_grad():  # no inference mode: libraries that are imported here make tensors of their own
            for call in self._calls:
                if self._stopped.is_set():
                    break
                with _only_logged(str(call)):
                    call()
        with _only_logged("giving memory back"):
            synchronize(self._device)
            release_workspaces()
            release_cached(self._device)
        atexit.unregister(self._leave)


@contextlib.contextmanager
def warmed(device: torch.device, calls: Sequence[Waking]) -> Iterator[None]:
    """Run ``calls`` beside the block, on CUDA; its end waits for them."""
    warm_up = WarmUp(device, calls).start()
    try:
        yield
        warm_up.wait()
    finally:
        warm_up.stop()


@cache
def first_kernels(device: torch.device, dtype: torch.dtype) -> None:
    """One small use of each library that transformers need: product, attention, norm, convolution. Once a process."""
    with torch.cuda.device(device):
        x = torch.zeros(2, 64, 256, device=device, dtype=dtype)
        weight = torch.zeros(256, 256, device=device, dtype=dtype)
        y = nn.functional.gelu(nn.functional.linear(x, weight, weight[0]))
        y = nn.functional.layer_norm(y.float(), (256,)).to(dtype)
        heads = y.unflatten(-1, (4, 64)).transpose(1, 2)
        attend(heads, heads, heads)
        first_convolutions(device, dtype)


@cache
def first_convolutions(device: torch.device, dtype: torch.dtype) -> None:
    """One small use of what UNets and VAEs need beside that. Once a process."""
    with torch.cuda.device(device):
        picture = torch.zeros(1, 64, 16, 16, device=device, dtype=dtype)
        for size, padding in ((3, 1), (1, 0)):
            kernel = torch.zeros(64, 64, size, size, device=device, dtype=dtype)
            picture = nn.functional.conv2d(picture, kernel, kernel[:, 0, 0, 0], padding=padding)
        picture = nn.functional.silu(nn.functional.group_norm(picture, 32))
        nn.functional.interpolate(picture, scale_factor=2.0, mode="nearest")


@contextlib.contextmanager
def _only_logged(what: str) -> Iterator[None]:
    try:
        yield
    except Exception:  # whatever it is, the stage that needs the same will say so
        logger.debug("warming up failed: %s", what, exc_info=True)
