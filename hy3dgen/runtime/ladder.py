"""Running out of device memory in one stage: try the stage again with less, never the whole run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch

from hy3dgen.errors import OutOfMemoryError
from hy3dgen.runtime.memory import release_cached
from hy3dgen.runtime.stages import current

A = TypeVar("A")
T = TypeVar("T")

# torch's own class covers its allocator; libraries and other devices say it in words.
_SIGNS = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """True when the device could not give more memory."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def run_with_ladder(
    stage: str,
    attempts: Iterable[A],
    run: Callable[[A], T],
    *,
    device: torch.device,
    warn: Callable[[str], None] | None = None,
) -> T:
    """The result of ``run`` with the first of ``attempts`` that does not run out of device memory.

    stage: its name, for messages; attempts: leaner and leaner, asked for one at a time; warn: takes one sentence for
    each failure (default: the current stage's record). What a failed attempt held is given back before the next.
    Raises OutOfMemoryError when the last one fails; every other error passes through.
    """
    tell = warn or current().warn
    failure = ""
    for number, attempt in enumerate(attempts):
        if number:
            release_cached(device, collect=True)
            tell(f"stage {stage} ran out of device memory ({failure}); it is tried again with a leaner plan")
        try:
            return run(attempt)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            failure = str(error).split(". ")[0].splitlines()[0]
        # Here the error, whose traceback holds the failed attempt's tensors, is gone.
    release_cached(device, collect=True)
    raise OutOfMemoryError(
        f"stage {stage} ran out of device memory on its leanest plan ({failure or 'no plan was left to try'}); give it "
        "more with --vram, close other programs that use the GPU, or use a smaller --model"
    )
