"""What the process answers when it ends: the one table from error class to exit code."""

from __future__ import annotations

from hy3dgen.errors import (
    Cancelled,
    InputError,
    MemoryBudgetError,
    OutputError,
    UsageError,
    WeightsError,
)

DONE, BUG, USAGE, INPUT, WEIGHTS, MEMORY, OUTPUT, CANCELLED = 0, 1, 2, 3, 4, 5, 6, 130

EXIT_CODES: dict[type[BaseException], int] = {
    UsageError: USAGE,
    InputError: INPUT,
    WeightsError: WEIGHTS,
    MemoryBudgetError: MEMORY,
    MemoryError: MEMORY,
    OutputError: OUTPUT,
    Cancelled: CANCELLED,
    KeyboardInterrupt: CANCELLED,
}

WORST_FIRST = (CANCELLED, BUG, OUTPUT, MEMORY, WEIGHTS, INPUT, USAGE, DONE)


def exit_code(error: BaseException) -> int:
    """The exit code for ``error``; 1 for everything that was not raised on purpose."""
    for kind in type(error).__mro__:
        if kind in EXIT_CODES:
            return EXIT_CODES[kind]
    # torch's own error for a full device; torch is not imported here, so it is known by its name.
    return MEMORY if type(error).__name__ == "OutOfMemoryError" else BUG


def worst(codes: list[int]) -> int:
    """The exit code of a batch: the worst by 130 > 1 > 6 > 5 > 4 > 3 > 2 > 0; 0 for an empty list."""
    return min(codes, key=WORST_FIRST.index, default=DONE)
