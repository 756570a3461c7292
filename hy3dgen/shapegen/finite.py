"""Half precision that overflows: repeat the stage in a wider dtype instead of handing on NaN."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from hy3dgen.errors import NumericalError
from hy3dgen.runtime.stages import StageRecord, ensure_finite

T = TypeVar("T")

# bfloat16 has float32's range in half its memory, so it is tried before float32.
WIDER: dict[torch.dtype, tuple[torch.dtype, ...]] = {
    torch.float16: (torch.bfloat16, torch.float32),
    torch.bfloat16: (torch.float32,),
}


def first_finite(
    what: str, dtype: torch.dtype, record: StageRecord, run: Callable[[torch.dtype], tuple[Tensor, T]]
) -> T:
    """The second result of ``run(dtype)`` once its first, the tensor to check, is finite.

    A run with NaN or Inf is repeated in wider dtypes, with a warning in the stage's record.
    Raises NumericalError when the widest is not finite either.
    """
    attempts = (dtype, *WIDER.get(dtype, ()))
    for attempt, wider in zip(attempts, (*attempts[1:], None)):
        checked, result = run(attempt)
        try:
            ensure_finite(checked, what)
        except NumericalError as error:
            if wider is None:
                raise
            record.warn(f"{error}; repeated in {str(wider)[6:]}")
            continue
        return result
    raise AssertionError("unreachable: the last attempt returns or raises")
