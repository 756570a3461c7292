"""The server under load: answers a second, latencies, and whether memory stays flat over many jobs.

    python -m benchmarks.service [--clients 1 10 100] [--jobs 100] [--out benchmarks/results/service.json]

The server is a process of its own, and so is its worker. Requests are measured with work that takes no time
(tests/service/stand_ins.py); memory with real small jobs of the embedded model, after some to warm up.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import requests

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "assets" / "examples" / "mug.png"
SMALL = {"steps": 1, "octree_resolution": 16, "faces": 500, "texture_size": 64, "max_image_size": 128}
WARM_UP = 30  # pools of allocators and of threads fill: in some runs by 40 MB within the first 25 jobs, then no more
MIB = 1 << 20

Row = dict[str, Any]


def serve(kind: str, folder: str) -> None:
    """What the measured process runs: a server with real or stand-in work; prints its address."""
    import socket

    from hy3dgen.service.rest.app import create_app
    from hy3dgen.service.rest.server import Server
    from hy3dgen.service.service import Service
    from hy3dgen.service.settings import Limits, ServiceSettings, default_runner
    from tests.service.stand_ins import make_stand_in

    limits = Limits(queue=100_000, queue_per_client=100_000)
    runner = make_stand_in if kind == "stand-in" else default_runner
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    app = create_app(Service(ServiceSettings(folder=Path(folder), limits=limits, make_runner=runner)))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    Server(app).run(sockets=[listener])


@contextmanager
def server(kind: str) -> Iterator[tuple[str, psutil.Process]]:
    """The address and the process of a server that is ready."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.service", "--serve", kind, folder]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            while requests.get(f"{address}/v1/server", timeout=60).json()["status"] != "ready":
                time.sleep(0.1)
            yield address, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(30)


def measure(name: str, clients: int, total: int, ask: Callable[[requests.Session, int], int]) -> Row:
    """``total`` requests by ``clients`` at once. ``ask`` answers the status."""
    local = threading.local()
    statuses: list[int] = []

    def one(number: int) -> float:
        if not hasattr(local, "session"):
            local.session = requests.Session()
        started = time.perf_counter()
        statuses.append(ask(local.session, number))
        return time.perf_counter() - started

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        seconds = sorted(pool.map(one, range(total)))
    wall = time.perf_counter() - started
    quantile = statistics.quantiles(seconds, n=100)
    return {
        "request": name,
        "clients": clients,
        "requests": total,
        "failed": sum(status >= 400 for status in statuses),
        "per_second": round(total / wall, 1),
        "median_ms": round(1e3 * statistics.median(seconds), 1),
        "p95_ms": round(1e3 * quantile[94], 1),
        "p99_ms": round(1e3 * quantile[98], 1),
    }


def request_rows(clients: Sequence[int]) -> list[Row]:
    """Latencies of the requests that a page makes, and of making a job."""
    picture = PICTURE.read_bytes()
    rows = []
    with server("stand-in") as (address, _):

        def make(session: requests.Session, number: int) -> int:
            files = {"image": ("mug.png", picture)}
            return session.post(f"{address}/v1/jobs", files=files, data={"formats": "glb"}, timeout=120).status_code

        answer = requests.post(f"{address}/v1/jobs", files={"image": ("mug.png", picture)}, timeout=60)
        job = f"{address}/v1/jobs/{answer.json()['id']}"
        while requests.get(job, timeout=60).json()["status"] != "done":
            time.sleep(0.05)
        gets = {
            "job": job,
            "history": f"{address}/v1/jobs?limit=20",
            "result": f"{job}/result",
            "server": f"{address}/v1/server",
        }
        for count in clients:
            for name, url in gets.items():
                rows.append(measure(f"GET {name}", count, 500, lambda s, _, u=url: s.get(u, timeout=120).status_code))
            rows.append(measure("POST job", count, 200, make))
    return rows


def memory_rows(jobs: int) -> Row:
    """Memory of server and worker before and after ``jobs`` real small jobs."""
    picture = PICTURE.read_bytes()
    curve: list[Row] = []
    seconds: list[float] = []
    with server("nano") as (address, process):
        for number in range(WARM_UP + jobs):
            started = time.perf_counter()
            answer = requests.post(f"{address}/v1/jobs", files={"image": ("m.png", picture)}, data=SMALL, timeout=60)
            job = f"{address}/v1/jobs/{answer.json()['id']}"
            while (found := requests.get(job, timeout=60).json())["status"] not in ("done", "failed", "cancelled"):
                time.sleep(0.05)
            if found["status"] != "done":
                raise RuntimeError(f"a job failed: {found['error']}")
            if number >= WARM_UP - 1:
                seconds.append(time.perf_counter() - started)
                curve.append({"jobs": number - WARM_UP + 1, **resident(process)})
    first, last = curve[0], curve[-1]
    return {
        "jobs": jobs,
        "warm_up": WARM_UP,
        "options": SMALL,
        "median_s": round(statistics.median(seconds[1:]), 2),
        "before": first,
        "after": last,
        "worker_growth_mb_a_job": growth(curve, "worker_mb"),
        "server_growth_mb_a_job": growth(curve, "server_mb"),
        "curve": curve[:: max(1, jobs // 20)],
    }


def growth(curve: Sequence[Row], name: str) -> float:
    """Slope of the line through all points: memory swings by tens of MB from job to job, so two points say little."""
    return round(float(np.polyfit([row["jobs"] for row in curve], [row[name] for row in curve], 1)[0]), 3)


def resident(process: psutil.Process) -> Row:
    """Resident memory of the server, its worker (the largest of its children) and the process that reads uploads."""
    children = sorted(child.memory_info().rss for child in process.children())
    return {
        "server_mb": round(process.memory_info().rss / MIB, 1),
        "worker_mb": round(children[-1] / MIB, 1),
        "others_mb": round(sum(children[:-1]) / MIB, 1),
    }


def machine() -> Row:
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_average": [round(value, 1) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None,
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.service", description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--jobs", type=int, default=100, help="real jobs for the memory figures; 0 leaves them out")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "service.json")
    parser.add_argument("--serve", nargs=2, metavar=("KIND", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.serve:
        serve(*args.serve)
        return 0
    about = machine()
    result: Row = {"machine": about, "requests": request_rows(args.clients)}
    if args.jobs:
        result["memory"] = memory_rows(args.jobs)
    result["machine"]["load_average_at_the_end"] = machine()["load_average"]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for row in result["requests"]:
        print(row)
    print({name: value for name, value in result.get("memory", {}).items() if name != "curve"})
    return 0


if __name__ == "__main__":
    sys.exit(main())
