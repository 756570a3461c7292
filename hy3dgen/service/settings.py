"""How a service is set up: where it keeps things, what it runs on, and what it lets people do. Values only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MIB, GIB = 1 << 20, 1 << 30
FORMATS = ("glb", "obj", "ply", "stl")

# What a stranger may ask of a server, narrower than what jobs.options allows its owner: (least, most).
OPTION_LIMITS: dict[str, tuple[float, float]] = {
    "steps": (1, 200),
    "paint_steps": (1, 200),
    "delight_steps": (1, 200),
    "guidance": (-1, 100),
    "octree_resolution": (16, 512),
    "faces": (4, 2_000_000),
    "texture_size": (64, 4096),
    "max_image_size": (64, 4096),
    "vae_tiling": (64, 2048),
    "seed": (0, 2**53 - 1),  # what a number in JSON carries exactly
}


def default_folder() -> Path:
    """Where jobs lie unless told otherwise."""
    return Path("~/.cache/hy3dgen/service").expanduser()


@dataclass(frozen=True)
class Limits:
    """What one server takes and keeps.

    body_bytes: of one request; bytes_in_flight: of all requests being received at once
    pixels: of one picture; text_characters: of a prompt
    queue, queue_per_client: jobs that wait; keep_days, keep_bytes: finished jobs and their files
    free_disk_bytes: no job is taken when the disk has less; check_s, check_bytes: time and memory to read one upload
    """

    body_bytes: int = 100 * MIB
    bytes_in_flight: int = 400 * MIB
    pixels: int = 80_000_000
    text_characters: int = 500
    queue: int = 100
    queue_per_client: int = 20
    keep_days: float = 7.0
    keep_bytes: int = 10 * GIB
    free_disk_bytes: int = GIB // 2
    check_s: float = 60.0
    check_bytes: int = 8 * GIB


@dataclass(frozen=True)
class RunnerSettings:
    """What every job of a worker has in common.

    device: as in ``JobOptions``; model, texture: what 'auto' in a request means; vram: the ceiling that no job exceeds
    decoder: what requests get that name none, None for the model's own
    enable_texture: False makes bare shapes only; text2image: whether words may be turned into pictures
    """

    device: str = "auto"
    model: str = "auto"
    texture: str = "auto"
    vram: str | None = None
    compile: bool = False
    decoder: str | None = None
    enable_texture: bool = True
    text2image: bool = True


RunnerMaker = Callable[[RunnerSettings], Any]


def default_runner(settings: RunnerSettings) -> Any:
    """The runner that makes meshes; made inside the worker process, where torch may be imported."""
    from hy3dgen.service.runner import JobRunner

    return JobRunner(settings)


@dataclass(frozen=True)
class ServiceSettings:
    """A whole service.

    devices: one worker each; concurrency: how many of them work at the same time, None for all
    idle_s: an unused worker is ended after this long, which gives back all its memory
    cancel_s: a worker that has not stopped this long after a cancel is ended
    attempts: how often a job is begun again after the server itself was stopped in the middle of it
    models_folder: a folder of models to look into first
    make_runner: importable function that makes what does the jobs; tests put a stand-in here
    """

    folder: Path = field(default_factory=default_folder)
    devices: tuple[str, ...] = ("auto",)
    concurrency: int | None = None
    runner: RunnerSettings = field(default_factory=RunnerSettings)
    limits: Limits = field(default_factory=Limits)
    idle_s: float = 300.0
    cancel_s: float = 60.0
    attempts: int = 3
    models_folder: Path | None = None
    make_runner: RunnerMaker = default_runner
