"""Looking at what strangers send, in a process of its own: hostile files can waste that process, not the server.

``Checker`` is the server's side. The process opens pictures and meshes as the jobs will, and cuts out previews.
"""

from __future__ import annotations

import io
import logging
import re
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hy3dgen.errors import ImageError, MeshError
from hy3dgen.service.job import Input
from hy3dgen.service.problems import BAD_INPUT, BUSY, Problem, ServiceError, problem_of
from hy3dgen.service.process import ChildProcess, ProcessEndedError
from hy3dgen.service.settings import Limits

logger = logging.getLogger(__name__)
CUTOUT_S = 120.0
WAIT_S = 120.0
TOO_MUCH = "reading this file took more memory than the server allows; give a smaller one"
MAX_GIVEN_FACES = 2_000_000
_FAILED_ALLOCATION = re.compile(
    r"insufficient memory|out of memory|bad.?alloc|(?:failed|cannot|unable) to allocate", re.IGNORECASE
)


class Checker:
    """Asks the process; one question at a time, from any thread. It is started at the first and again after a death."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._process = ChildProcess("hy3dgen-checks", main, limits.check_bytes)
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the process now, so that the first question does not wait for it."""
        with self._lock:
            self._process.start()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._process.kill()

    def look_at(self, folder: Path, inputs: Sequence[Input]) -> list[Input]:
        """The inputs with the sizes of pictures and meshes. Raises ServiceError for one that cannot be used."""
        return self._ask("look_at", (str(folder), list(inputs), self._limits.pixels), self._limits.check_s)

    def cut_out(self, picture: bytes, rembg: str, max_size: int) -> tuple[bytes, str, list[str], tuple[int, int]]:
        """(PNG with alpha, method, warnings, size) of a picture. Raises ServiceError."""
        return self._ask("cut_out", (picture, rembg, max_size, self._limits.pixels), CUTOUT_S)

    def _ask(self, question: str, content: tuple[Any, ...], timeout_s: float) -> Any:
        if not self._lock.acquire(timeout=WAIT_S):
            raise ServiceError(BUSY, "the server is looking at too many other files; try again in a moment")
        try:
            answer = self._answer(question, content, timeout_s)
        finally:
            self._lock.release()
        if isinstance(answer, Problem):
            raise ServiceError(answer.kind, answer.detail, answer.errors)
        return answer

    def _answer(self, question: str, content: tuple[Any, ...], timeout_s: float) -> Any:
        """Whoever holds the lock asks. A process that is late or gone is ended, so that no answer goes astray."""
        late = threading.Event()

        def stop_waiting() -> None:
            late.set()
            self._process.interrupt()

        self._process.start()
        # Ending the process also frees who is stuck in sending to it.
        clock = threading.Timer(timeout_s, stop_waiting)
        clock.start()
        try:
            self._process.send((question, content))
            answer = None
            while answer is None:
                answer = self._process.receive(1.0)
        except ProcessEndedError as error:
            self._process.kill()
            if late.is_set():
                detail = f"reading this file took longer than {timeout_s:.0f} s; give a simpler one"
                raise ServiceError(BAD_INPUT, detail) from error
            logger.warning("the process that looks at uploads ended with %s", error.exit_code)
            raise ServiceError(BAD_INPUT, TOO_MUCH) from error
        finally:
            clock.cancel()
            clock.join()  # a clock that is just going off must not hit the next question
        return answer[1]


def main(pipe: Connection, memory_bytes: int) -> None:
    """The whole life of the process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _limit_memory(memory_bytes)
    questions: dict[str, Callable[..., Any]] = {"look_at": _look_at, "cut_out": _cut_out}
    try:
        while True:
            question, content = pipe.recv()
            try:
                answer: Any = questions[question](*content)
            except Exception as error:
                answer = Problem(BAD_INPUT, TOO_MUCH) if _ran_out(error) else problem_of(error)
                if answer.status >= 500:
                    logger.exception("while looking at an upload")
            pipe.send(("answer", answer))
    except (EOFError, OSError):
        return  # the server is gone


def _ran_out(error: BaseException) -> bool:
    """Whether this goes back to an allocation that failed: every library has its own words for one."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or _FAILED_ALLOCATION.search(str(cause)):
            return True
        cause = cause.__cause__
    return False


def _limit_memory(memory_bytes: int) -> None:
    """Memory of this size, where the system has such limits (Linux; macOS ignores them)."""
    if not sys.platform.startswith("linux"):
        return
    import resource

    # Not RLIMIT_AS: threads reserve address space for each core, which they never use.
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))


def _look_at(folder: str, inputs: list[Input], pixels: int) -> list[Input]:
    return [_look_at_one(Path(folder), entry, pixels) for entry in inputs]


def _look_at_one(folder: Path, entry: Input, pixels: int) -> Input:
    if entry.file is None:
        return entry
    path = folder / entry.file
    if entry.role == "mesh":
        return replace(entry, faces=_faces(path))
    width, height = _picture(path.read_bytes(), entry.role, pixels).size
    return replace(entry, width=width, height=height)


def _faces(path: Path) -> int:
    from hy3dgen.meshes.io import read_mesh

    try:
        faces = len(read_mesh(path).faces)
    except MeshError as error:
        raise MeshError(str(error).replace(str(path), "the mesh").replace(path.name, "the mesh")) from error
    if faces > MAX_GIVEN_FACES:
        raise MeshError(f"the mesh has {faces:,} faces, at most {MAX_GIVEN_FACES:,} can be coloured; reduce it first")
    return faces


def _picture(content: bytes, role: str, pixels: int) -> Any:
    from PIL import Image

    from hy3dgen.images.load import open_picture

    try:
        with Image.open(io.BytesIO(content)) as header:
            if header.width * header.height > pixels:
                raise ImageError(
                    f"the picture has {header.width} x {header.height} pixels; this server takes {pixels:,} at most"
                )
    except ImageError:
        raise
    except Exception:
        logger.debug("the header cannot be read", exc_info=True)
    try:
        return open_picture(content)
    except ImageError as error:
        raise ImageError(f"{role} view: {error}" if role != "front" else str(error)) from error


def _cut_out(picture: bytes, rembg: str, max_size: int, pixels: int) -> tuple[bytes, str, list[str], tuple[int, int]]:
    from hy3dgen.images.background import cut_out
    from hy3dgen.images.size import preprocess_image_size

    small = preprocess_image_size(_picture(picture, "front", pixels), max_size=max_size)
    result, method, warnings = cut_out(small, mode=rembg, offline=True)  # type: ignore[arg-type]
    buffer = io.BytesIO()
    result.save(buffer, "PNG")
    return buffer.getvalue(), method, warnings, result.size
