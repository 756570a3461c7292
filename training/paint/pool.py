"""Scenes in the device's memory: worker processes trace them on the CPU while the device trains.

Tracing does not touch the device, so it costs training nothing but the copy. Blocks travel as files, in shared memory
where the system has it: pipes would keep the training process busy.
"""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hy3dgen.texgen.config import VIEWS_DEG
from training.generator.draw import deaf_to_signals
from training.generator.orthographic import MAP_CHANNELS
from training.paint.trace import VIEW_PX, held_out_scene, training_scene

BLOCK = 16
NUM_VIEWS = len(VIEWS_DEG)
CHANNELS = NUM_VIEWS * MAP_CHANNELS + 4
SHARED = Path("/dev/shm")


@dataclass(frozen=True)
class Batch:
    """B scenes, float32 in [0, 1]. albedo, normals, positions: (B, 6, 3, S, S); picture: (B, 4, S, S) RGBA."""

    albedo: Tensor
    normals: Tensor
    positions: Tensor
    picture: Tensor

    def __len__(self) -> int:
        return len(self.picture)

    def __getitem__(self, index: slice) -> Batch:
        return Batch(self.albedo[index], self.normals[index], self.positions[index], self.picture[index])


def unpacked(packed: Tensor) -> Batch:
    """(B, CHANNELS, S, S) uint8 as a batch."""
    values = packed.float() / 255
    maps = values[:, :-4].unflatten(1, (NUM_VIEWS, MAP_CHANNELS))
    return Batch(maps[:, :, :3], maps[:, :, 3:6], maps[:, :, 6:], values[:, -4:])


def traced_block(seed: int, first: int, count: int, size_px: int) -> np.ndarray:
    """(count, CHANNELS, S, S) uint8: scenes number ``first`` and on of a seed."""
    out = np.empty((count, CHANNELS, size_px, size_px), np.uint8)
    for index in range(count):
        scene = training_scene(seed, first + index, size_px)
        out[index, :-4], out[index, -4:] = scene.maps.reshape(-1, size_px, size_px), scene.picture
    return out


def held_out_block(names: list[tuple[str, int]], size_px: int) -> np.ndarray:
    """The same of these benchmark shapes, (category, index)."""
    from benchmarks.shapes import shape

    out = np.empty((len(names), CHANNELS, size_px, size_px), np.uint8)
    for index, (name, number) in enumerate(names):
        scene = held_out_scene(shape(name, number), size_px)
        out[index, :-4], out[index, -4:] = scene.maps.reshape(-1, size_px, size_px), scene.picture
    return out


def _written(path: Path, seed: int, first: int, count: int, size_px: int) -> Path:
    np.save(path, traced_block(seed, first, count, size_px))
    return path


def _worker() -> None:
    """Deaf to signals, which are for the trainer. The workers are as many as the cores; threads of their own would only
    wait for each other."""
    deaf_to_signals()
    import numba

    numba.set_num_threads(1)
    torch.set_num_threads(1)


def home_of_blocks(count: int, size_px: int) -> Path | None:
    """Where ``count`` blocks wait to be read: shared memory when twice of them have room there, else None, for the
    system's folder of temporary files. A container often has 64 MB of shared memory, four blocks of 128 px."""
    needed = count * BLOCK * CHANNELS * size_px**2
    return SHARED if SHARED.is_dir() and shutil.disk_usage(SHARED).free > 2 * needed else None


class Pool:
    """The last ``capacity`` scenes of an endless stream, on the device. Use ``opened``."""

    def __init__(
        self, device: torch.device, seed: int, *, first: int = 0, capacity: int, size_px: int = VIEW_PX
    ) -> None:
        self._seed, self._next, self.size_px = seed, first, size_px
        self._scenes = torch.empty((capacity, CHANNELS, size_px, size_px), dtype=torch.uint8, device=device)
        self._uses = torch.zeros(capacity, dtype=torch.int64, device=device)
        self._counting = True
        self.uses_now = torch.zeros((), device=device)  # mean uses of what was drawn last, that draw included
        self.traced = 0
        self._failed: BaseException | None = None
        self._room = threading.Condition()

    def __len__(self) -> int:
        return min(self.traced, len(self._scenes))

    def place(self) -> dict[str, int]:
        """The number of the scene to go on from, as ``block``; named as the shape model's streams name it."""
        return {"block": self._next, "offset": 0}

    def figures(self) -> dict[str, float]:
        """For the log: scenes so far and, of those kept, the mean and the highest number of uses."""
        uses = self._uses[: max(len(self), 1)]
        mean, most = float(uses.float().mean()), int(uses.max())
        return {"scenes": self.traced, "kept": len(self), "mean_uses": mean, "most_uses": most}

    @contextmanager
    def unnoticed(self) -> Iterator[None]:
        """Inside, drawing leaves no trace: it is not counted and makes nothing new."""
        self._counting = False
        try:
            yield
        finally:
            self._counting = True

    def add(self, block: np.ndarray | Tensor) -> None:
        """Put scenes in, over the oldest when the pool is full."""
        at = ((self.traced + torch.arange(len(block))) % len(self._scenes)).to(self._scenes.device)
        self._scenes[at] = torch.as_tensor(block).to(self._scenes.device)
        self._uses[at] = 0
        with self._room:
            self.traced += len(block)
            self._next += len(block)
            self._room.notify_all()

    def fill_here(self, count: int) -> None:
        """Trace in this process; for tests and machines without cores to spare."""
        while self.traced < count:
            self.add(traced_block(self._seed, self._next, min(BLOCK, count - self.traced), self.size_px))

    def wait_for(self, count: int, timeout_s: float = 600.0) -> None:
        """Until so many scenes are there. Raises what a worker raised, and TimeoutError."""
        with self._room:
            ready = self._room.wait_for(lambda: self.traced >= count or self._failed is not None, timeout_s)
        if self._failed is not None:
            raise self._failed
        if not ready:
            raise TimeoutError(f"{self.traced} of {count} scenes after {timeout_s:.0f} s; give more --workers")

    def take(self, count: int, generator: torch.Generator) -> Batch:
        """Scenes at random."""
        if self._failed is not None:
            raise self._failed
        if self._counting:
            self._renew(count)
        index = self._chosen(count, generator)
        if self._counting:
            self._uses.index_add_(0, index, torch.ones_like(index))
            self.uses_now = self._uses[index].float().mean()
        return unpacked(self._scenes[index])

    def _renew(self, count: int) -> None:
        """``count`` scenes are about to be used. The workers of this pool make as many as they can in any case."""

    def _chosen(self, count: int, generator: torch.Generator) -> Tensor:
        index = torch.randint(len(self), (count,), generator=generator, device=generator.device)
        return index.to(self._scenes.device)

    def _feed(self, executor: ProcessPoolExecutor, folder: Path, depth: int, stop: threading.Event) -> None:
        try:
            number, waiting = self._next, set[Future[Path]]()
            while not stop.is_set():
                while len(waiting) < depth:
                    path = folder / f"{number}.npy"
                    waiting.add(executor.submit(_written, path, self._seed, number, BLOCK, self.size_px))
                    number += BLOCK
                done, waiting = wait(waiting, timeout=1.0, return_when=FIRST_COMPLETED)
                for future in done:
                    path = future.result()
                    self.add(np.load(path))
                    path.unlink()
        except BaseException as error:  # noqa: BLE001  (handed over to the thread that trains)
            with self._room:
                self._failed = error
                self._room.notify_all()


@contextmanager
def opened(
    device: torch.device, seed: int, *, first: int = 0, capacity: int, workers: int, size_px: int = VIEW_PX
) -> Iterator[tuple[Pool, ProcessPoolExecutor | None]]:
    """A pool that ``workers`` processes go on filling; with 0 workers it is for the caller to ``fill_here``."""
    pool = Pool(device, seed, first=first, capacity=capacity, size_px=size_px)
    if workers == 0:
        yield pool, None
        return
    training_scene(seed, 0, 8)  # compiles once, into numba's cache, before all workers would
    stop = threading.Event()
    depth = workers + workers // 2
    with (
        tempfile.TemporaryDirectory(dir=home_of_blocks(depth, size_px), ignore_cleanup_errors=True) as folder,
        workers_for(workers) as executor,
    ):
        feeder = threading.Thread(target=pool._feed, args=(executor, Path(folder), depth, stop), daemon=True)
        try:
            feeder.start()
            yield pool, executor
        finally:
            stop.set()
            feeder.join(timeout=5)


@contextmanager
def workers_for(count: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that trace on the CPU; killed at the end, whatever they are at."""
    context = multiprocessing.get_context("spawn")  # not forked: the parent holds threads and perhaps a device
    executor = ProcessPoolExecutor(count, mp_context=context, initializer=_worker)
    try:
        yield executor
    finally:
        processes = list((executor._processes or {}).values())  # the executor forgets them when it shuts down
        executor.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()  # deaf to anything milder; nobody waits for the scene under way
