"""What a user can ask of a job, as one frozen value: its defaults and its checks live here and nowhere else.

What depends on the model (steps, guidance, decoder, faces, texture) is None here and filled from the catalogue.
Importing this module pulls in nothing heavy.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from hy3dgen.errors import UsageError

TEXTURES = ("auto", "project", "none", "paint", "paint-turbo", "paint-nano")
DECODERS = ("hierarchical", "dense", "flashvdm")
REMBG_MODES = ("auto", "cpu", "gpu", "off")
UNITS = ("m", "cm", "mm")
UP_AXES = ("y", "z")
ORIGINS = ("centre", "base", "keep")
DTYPES = ("auto", "fp32", "fp16", "bf16")
SCENARIOS = ("a", "b", "c")
LOSSY = ("tiling", "flashvdm")
ATTENTION = ("auto", "sdpa", "xformers", "sage", "flash", "sliced")

# option: (least, most, unit), both ends allowed
RANGES: dict[str, tuple[float, float, str]] = {
    "steps": (1, 1000, "steps"),
    "paint_steps": (1, 1000, "steps"),
    "delight_steps": (1, 1000, "steps"),
    "vae_tiling": (64, 2048, "pixels"),
    "guidance": (-1, 100, ""),
    "octree_resolution": (16, 1024, "cells along each axis"),
    "faces": (4, 10_000_000, "triangles"),
    "texture_size": (64, 8192, "pixels"),
    "max_image_size": (64, 16384, "pixels"),
    "seed": (0, 2**63 - 1, ""),
}
CHOICES: dict[str, tuple[str, ...]] = {
    "texture": TEXTURES,
    "decoder": DECODERS,
    "rembg": REMBG_MODES,
    "units": UNITS,
    "up": UP_AXES,
    "origin": ORIGINS,
    "dtype": DTYPES,
    "attention": ATTENTION,
    "scenario": SCENARIOS,
}
WHOLE_NUMBERS = tuple(name for name in RANGES if name != "guidance")
# They do not change what the result is, or stand in the report as what they came to (device, dtype, attention).
NOT_PART_OF_THE_RESULT = (
    "offline",
    "preview",
    "device",
    "dtype",
    "attention",
    "vram",
    "scenario",
    "vae_slicing",
    "compile",
)


@dataclass(frozen=True)
class JobOptions:
    """Everything that shapes a result, apart from the pictures themselves.

    model: name in the catalogue, 'auto', a folder in the official layout, or a hub id
    texture: 'auto' (what suits the model), 'project', 'none', 'paint', 'paint-turbo', 'paint-nano'
    steps, guidance, octree_resolution, decoder, faces: None for the model's own default
    texture_size: pixels along one side
    seed: starts the noise; the same seed gives the same file on the same machine's CPU
    max_image_size: longer side to which a picture is reduced before anything else, pixels
    rembg: how the background is removed
    device, dtype, attention: where and how the networks run; 'auto' chooses by the machine
    vram: GiB of device memory for the whole process, 'auto' (what is free) or 'max'; ignored on the CPU
    scenario: 'a', 'b' or 'c': the memo's switches, forced; excludes vram
    vae_slicing, vae_tiling: one picture at a time through the VAE, and in tiles of this many pixels (lossy)
    allow_lossy: lossy levers that the planner may use: 'tiling', 'flashvdm'
    compile: compile the networks; slow first run, faster later ones
    delight, paint_steps, delight_steps: for painting: remove light and shadow from the picture first, and sampling
        steps of the two models, None for their own default
    units, up, origin: scale and frame of the written file; origin None is 'centre', or 'keep' for a given mesh
    unwrap: make new UVs even when the given mesh has some
    offline: never use the network
    preview: render the preview picture

    Raises UsageError for a value out of range, naming option, value and what is allowed.
    """

    model: str = "auto"
    texture: str = "auto"
    steps: int | None = None
    guidance: float | None = None
    octree_resolution: int | None = None
    decoder: str | None = None
    faces: int | None = None
    texture_size: int = 2048
    seed: int = 0
    max_image_size: int = 1024
    rembg: str = "auto"
    device: str = "auto"
    dtype: str = "auto"
    attention: str = "auto"
    vram: str | None = None
    scenario: str | None = None
    vae_slicing: bool | None = None
    vae_tiling: int | None = None
    allow_lossy: tuple[str, ...] = ()
    compile: bool = False
    delight: bool = True
    paint_steps: int | None = None
    delight_steps: int | None = None
    units: str = "m"
    up: str = "y"
    origin: str | None = None
    unwrap: bool = False
    offline: bool = False
    preview: bool = True

    def __post_init__(self) -> None:
        for name in RANGES:
            _check_range(name, getattr(self, name))
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in allowed:
                raise UsageError(f"{flag(name)} is '{value}'; use one of {', '.join(allowed)}")
        unknown = [name for name in self.allow_lossy if name not in LOSSY]
        if unknown:
            raise UsageError(f"--allow-lossy has '{unknown[0]}'; lossy levers are {', '.join(LOSSY)}")
        if self.vram is not None and self.scenario is not None:
            raise UsageError("--vram and --scenario exclude each other: a scenario forces its switches")
        if not isinstance(self.model, str) or not self.model:
            raise UsageError(f"--model is {self.model!r}; give a model's name, a folder or a hub id")

    def with_(self, **changes: Any) -> JobOptions:
        """A copy with some options replaced, checked again."""
        return replace(self, **changes)

    def filled(self, defaults: Mapping[str, Any]) -> JobOptions:
        """A copy in which every option that is still None takes the model's default."""
        open_names = [f.name for f in fields(self) if getattr(self, f.name) is None]
        return self.with_(**{name: defaults[name] for name in open_names if defaults.get(name) is not None})

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in a report."""
        return asdict(self)

    def result_part(self) -> dict[str, Any]:
        """The options that decide what the result is; equal ones with equal inputs give equal files."""
        return {name: value for name, value in asdict(self).items() if name not in NOT_PART_OF_THE_RESULT}


def with_scenario(options: JobOptions) -> JobOptions:
    """The options with the switches that a scenario forces; what the user set to something else stays."""
    plain = JobOptions()
    forced: dict[str, Any] = {}
    if options.scenario is not None:
        forced |= {"rembg": "cpu"}
    if options.scenario in ("b", "c"):
        forced |= {"vae_slicing": True, "vae_tiling": 256, "attention": "sliced"}
    if options.scenario == "c":
        forced |= {"compile": True}
    return options.with_(**{n: v for n, v in forced.items() if getattr(options, n) == getattr(plain, n)})


def options_from(values: Mapping[str, Any]) -> JobOptions:
    """JobOptions from keyword values, None dropped.

    Raises TypeError for an unknown name, with the nearest valid one; UsageError for a bad value.
    """
    names = [f.name for f in fields(JobOptions)]
    for name in values:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; options are {', '.join(names)}"
            raise TypeError(f"unknown option '{name}'{hint}")
    given = {name: value for name, value in values.items() if value is not None}
    if "allow_lossy" in given:
        given["allow_lossy"] = tuple(given["allow_lossy"])
    return JobOptions(**given)


def flag(name: str) -> str:
    """The command-line spelling of an option."""
    return "--" + name.replace("_", "-")


def _check_range(name: str, value: Any) -> None:
    if value is None:
        return
    least, most, unit = RANGES[name]
    kind = "a whole number" if name in WHOLE_NUMBERS else "a number"
    right_type = isinstance(value, int) if name in WHOLE_NUMBERS else isinstance(value, (int, float))
    if not right_type or isinstance(value, bool) or not math.isfinite(value) or not least <= value <= most:
        unit_words = f" {unit}" if unit else ""
        raise UsageError(f"{flag(name)} is {value}; it must be {kind} from {least} to {most}{unit_words}")
