"""Whether an optional attention package can be used here."""

from __future__ import annotations

import importlib
from functools import cache


@cache
def reason_not_importable(module: str, command: str) -> str | None:
    """None when ``module`` imports, else a sentence with the command that installs it or the package's own error."""
    try:
        importlib.import_module(module)
    except ModuleNotFoundError:
        return f"{module.split('.', maxsplit=1)[0]} is not installed: {command}"
    except (ImportError, OSError, RuntimeError) as error:
        # Built for another CUDA or torch: the loader's own words say which library is missing.
        return f"{module.split('.', maxsplit=1)[0]} is installed but cannot be loaded here: {error}"
    return None
