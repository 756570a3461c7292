"""The worker processes that trace scenes: what ends them, what does not, and where their blocks wait."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import namedtuple
from concurrent.futures import Future
from threading import Event

import pytest
import torch

from training.paint import pool as pools
from training.paint.pool import Pool, opened

CPU = torch.device("cpu")


@pytest.mark.skipif(sys.platform == "win32", reason="there os.kill ends a process whatever it listens to")
def test_workers_outlive_a_signal_to_the_group_and_end_with_the_pool():
    with opened(CPU, 0, capacity=64, workers=2, size_px=8) as (pool, executor):
        pool.wait_for(16)
        processes = list(executor._processes.values())
        for process in processes:
            for number in (signal.SIGTERM, signal.SIGINT):
                os.kill(process.pid, number)
        pool.wait_for(pool.traced + 64)
        assert all(process.is_alive() for process in processes)
    end = time.monotonic() + 10
    # Not join(): while the executor's own thread reaps a worker it returns at once, and the worker counts as alive.
    while any(process.is_alive() for process in processes) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(process.is_alive() for process in processes)


def test_what_a_worker_raised_reaches_the_trainer(tmp_path):
    class Broken:
        def submit(self, *_: object) -> Future:
            future: Future = Future()
            future.set_exception(MemoryError("no room for a scene"))
            return future

    pool = Pool(CPU, 0, capacity=4, size_px=8)
    pool._feed(Broken(), tmp_path, 1, Event())
    with pytest.raises(MemoryError, match="no room"):
        pool.wait_for(1)
    with pytest.raises(MemoryError, match="no room"):
        pool.take(1, torch.Generator())


def test_blocks_go_to_disk_where_shared_memory_is_small(tmp_path, monkeypatch):
    """A container's 64 MB of it hold four blocks of full size."""
    monkeypatch.setattr(pools, "SHARED", tmp_path)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(pools.shutil, "disk_usage", lambda _: usage(64 << 20, 0, 64 << 20))
    assert pools.home_of_blocks(21, 128) is None
    assert pools.home_of_blocks(2, 32) == tmp_path
