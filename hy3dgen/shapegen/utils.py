"""Old path of small tools: ``get_logger``, ``logger``, ``synchronize_timer``, ``smart_load_model``.

``smart_load_model`` lives in ``hy3dgen.weights.locate``, the stopwatch in ``hy3dgen.runtime``; our own code uses those.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import ContextDecorator
from typing import Any

from hy3dgen.runtime.clock import Stopwatch
from hy3dgen.runtime.device import pick_device, synchronize
from hy3dgen.weights.locate import locate_model

__all__ = ["get_logger", "logger", "synchronize_timer", "smart_load_model"]


def get_logger(name: str) -> logging.Logger:
    """The logger of this name; where its records go is the application's choice."""
    return logging.getLogger(name)


logger = get_logger("hy3dgen.shapegen")


class synchronize_timer(ContextDecorator):
    """Times a block or a function when the environment variable ``HY3DGEN_DEBUG`` is 1, and logs the milliseconds.

    ``with synchronize_timer('name') as ms:`` gives a callable that returns them after the block, None when inactive.
    Waits for the device first, whichever it is.
    """

    def __init__(self, name: str | None = None) -> None:
        self.name = name

    def _recreate_cm(self) -> synchronize_timer:
        """A decorated function gets a new timer for every call, so that it may call itself and run in threads."""
        return synchronize_timer(self.name)

    def __enter__(self) -> Callable[[], float] | None:
        self._watch: Stopwatch | None = None
        if os.environ.get("HY3DGEN_DEBUG") != "1":
            return None
        synchronize(pick_device())
        self._elapsed_ms = 0.0
        self._watch = Stopwatch()
        return lambda: self._elapsed_ms

    def __exit__(self, *_exc: object) -> None:
        if self._watch is None:
            return
        synchronize(pick_device())
        self._elapsed_ms = self._watch.elapsed_s * 1000
        logger.info("%s takes %.1f ms", self.name or "block", self._elapsed_ms)


def smart_load_model(
    model_path: str, subfolder: str, use_safetensors: bool | None, variant: str | None, **options: Any
) -> tuple[str, str]:
    """(config path, checkpoint path) of a model; see ``hy3dgen.weights.locate.locate_model``."""
    found = locate_model(model_path, subfolder, use_safetensors=use_safetensors, variant=variant, **options)
    return str(found.config), str(found.weights)
