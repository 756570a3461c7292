"""A step of a loop recorded once as a CUDA graph and replayed: the same kernels without the host's time to launch them.

A denoising step is a thousand small kernels; a fast GPU computes them sooner than Python can ask for them (measured on
an H100: 43 ms of launching for 9 ms of a UNet's kernels). Equal kernels on equal inputs give equal bits.
Knows neither networks nor schedulers. Where recording is not possible the step runs as it is.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hy3dgen.runtime.device import CUDA, synchronize
from hy3dgen.runtime.offload import Streaming, streams_of
from hy3dgen.runtime.stages import current
from hy3dgen.runtime.visits import Visit

logger = logging.getLogger(__name__)

Step = Callable[..., Tensor]
TECHNIQUE = "CUDA graph"
WARM_UP = 2  # calls that run as they are: libraries choose their kernels, caches of the conditions are filled
WORTH_IT = 8  # recording costs about two steps


class Replayed:
    """``step`` with its kernels recorded at the third call.

    step: tensors -> one tensor; no side effects, no randomness, no waiting for the device, and whatever else it reads
    stays where it is until ``close``. Inputs may change in value, not in shape, dtype or device.
    """

    def __init__(self, step: Step, streams: Sequence[Streaming] = (), visit: Visit | None = None) -> None:
        """streams: what brings the weights while the step runs; its copies are recorded with it. visit: takes times."""
        self._step, self._streams, self._visit = step, streams, visit
        self._calls = 0
        self._graph: Any = None
        self._inputs: tuple[Tensor, ...] = ()
        self._output: Tensor | None = None

    @property
    def is_recorded(self) -> bool:
        return self._graph is not None

    def __call__(self, *inputs: Tensor) -> Tensor:
        self._calls += 1
        if self._calls <= WARM_UP:
            self._mark("between_s")
            output = self._step(*inputs)
            self._mark(f"call_{self._calls}_s")
            return output
        if self._calls == WARM_UP + 1:
            self._mark("between_s")
            self._record(inputs)
            self._mark("record_s")
        if self._graph is None or not self._fits(inputs):
            return self._step(*inputs)
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._graph.replay()
        assert self._output is not None
        return self._output.clone()  # the next replay writes over it

    def close(self) -> None:
        """Give the recording's memory back."""
        if self._graph is not None:
            synchronize(self._inputs[0].device)  # the host is several replays ahead: this is their time
        self._mark("replays_s")
        if self._graph is not None:
            self._graph.reset()
        self._graph, self._inputs, self._output = None, (), None
        self._mark("close_s")

    def _mark(self, what: str) -> None:
        if self._visit is not None:
            self._visit.mark(what)

    def _fits(self, inputs: tuple[Tensor, ...]) -> bool:
        return len(inputs) == len(self._inputs) and all(
            own.shape == given.shape and own.dtype == given.dtype and own.device == given.device
            for own, given in zip(self._inputs, inputs, strict=True)
        )

    def _record(self, inputs: tuple[Tensor, ...]) -> None:
        """On any failure, out of memory too, the step goes on as it is."""
        device = inputs[0].device
        own = tuple(value.clone() for value in inputs)
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()  # the recording has its own pool; what the warm-up left would come on top of it
        try:
            with contextlib.ExitStack() as stack:
                for stream in self._streams:
                    stack.enter_context(stream.recording())
                with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                    output = self._step(*own)
                    for stream in self._streams:
                        stream.join()
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            logger.info("a step could not be recorded and runs as it is: %s", reason)
            current().decide(TECHNIQUE, False, f"recording failed: {reason}")
            with contextlib.suppress(RuntimeError):
                graph.reset()
            torch.cuda.synchronize(device)
            torch.cuda.empty_cache()
            return
        self._graph, self._inputs, self._output = graph, own, output
        current().decide(TECHNIQUE, True, "a step's kernels are recorded once and replayed")


@contextlib.contextmanager
def replayed(step: Step, network: nn.Module, device: torch.device, num_steps: int) -> Iterator[Step]:
    """``step`` for the calls inside the block, recorded where that is possible and worth it.

    network: what the step runs. On other devices than CUDA, for a few steps only, for a network with hooks of somebody
    who watches it and for one that is streamed from pageable memory the step is given back as it is.
    """
    if device.type != CUDA:
        yield step
        return
    streams = streams_of(network)
    reason = _against(streams, num_steps)
    if streams is None or reason:
        current().decide(TECHNIQUE, False, reason)
        yield step
        return
    recorded = Replayed(step, streams, Visit("steps", device))
    try:
        yield recorded
    finally:
        recorded.close()


def _against(streams: Sequence[Streaming] | None, num_steps: int) -> str:
    """Why a step is not recorded; empty when nothing speaks against it."""
    if num_steps < WORTH_IT:
        return f"recording costs about two steps and there are {num_steps}"
    if streams is None:
        return "the network has hooks that a replay would leave out"
    if not all(stream.is_recordable for stream in streams):
        return "its weights come from memory that is not pinned"
    return ""
