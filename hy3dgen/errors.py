"""Every error this package raises on purpose, as one tree.

    Hy3dgenError
    ├── UsageError               an option, name or argument that makes no sense            (exit 2)
    │   └── MissingExtraError    an optional package or back end that is not installed       (exit 2)
    ├── InputError               what the user gave cannot be used                           (exit 3)
    │   ├── ImageError           a picture: missing, unreadable, empty, too large
    │   │   └── ImageNotFoundError   its path leads nowhere
    │   ├── MeshError            a mesh: missing, unreadable, empty
    │   └── NoSurfaceError       the field has no surface, so there is no mesh
    ├── WeightsError             (exit 4)
    │   ├── WeightsNotFoundError neither on this machine nor reachable
    │   ├── WeightsDamagedError  a file is there but truncated, or its keys do not fit
    │   ├── DownloadError        the hub could not be reached, or broke off
    │   └── LicenceError         the owner's licence has not been accepted
    ├── MemoryBudgetError        (exit 5)
    │   ├── OutOfMemoryError     a stage ran out of device memory on its leanest plan
    │   └── NoPlanError          no plan fits the ceiling that was asked for
    ├── OutputError              the result cannot be written                                (exit 6)
    ├── NumericalError           NaN or Inf where there must be none                         (exit 1)
    └── Cancelled                the user stopped the run                                    (exit 130)

Messages are for the user: what was given, what was expected, what to do next. Some classes also derive
from the built-in error that callers of the reference catch. The table from class to exit code
lives in ``hy3dgen/cli``; this module knows nothing of the rest of the package.
"""

from __future__ import annotations


class Hy3dgenError(Exception):
    """Base of everything raised on purpose."""


class UsageError(Hy3dgenError, ValueError):
    """An option, name or argument that makes no sense."""


class MissingExtraError(UsageError, ImportError):
    """An optional package or back end was asked for and is not installed.

    ``package`` is what is missing, ``command`` the line that installs it.
    """

    def __init__(self, message: str, *, package: str = "", command: str = "") -> None:
        super().__init__(message)
        self.package = package
        self.command = command


class InputError(Hy3dgenError, ValueError):
    """What the user gave cannot be used."""


class ImageError(InputError):
    """A picture that is missing, unreadable, empty or unsuitable."""


class ImageNotFoundError(ImageError, FileNotFoundError):
    """The path of a picture leads nowhere."""


class MeshError(InputError):
    """A mesh that is missing, unreadable, empty or unsuitable."""


class NoSurfaceError(InputError):
    """The decoded field never crosses its level, so there is no mesh."""


class WeightsError(Hy3dgenError):
    """Weights cannot be used."""


class WeightsNotFoundError(WeightsError, FileNotFoundError):
    """Weights are neither on this machine nor reachable; the message lists the places tried."""


class WeightsDamagedError(WeightsError, RuntimeError):
    """A weight file is truncated or its keys do not fit the network; the message names key and file."""


class DownloadError(WeightsError, RuntimeError):
    """The hub could not be reached or the transfer broke off."""


class LicenceError(WeightsError):
    """The licence of the weights has not been accepted."""


class MemoryBudgetError(Hy3dgenError):
    """The run does not fit the memory it may use."""


class OutOfMemoryError(MemoryBudgetError, MemoryError):
    """A stage ran out of device memory on its leanest plan."""


class NoPlanError(MemoryBudgetError):
    """No plan fits the ceiling that was asked for."""


class OutputError(Hy3dgenError, OSError):
    """The result cannot be written."""


class NumericalError(Hy3dgenError, ArithmeticError):
    """NaN or Inf where there must be none."""


class Cancelled(Hy3dgenError):
    """The user stopped the run."""
