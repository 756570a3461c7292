"""The memory plan of a run: what it will do, from options and catalogue; under which ceiling; and whether it held.

Works without weights for every model of the catalogue. On the CPU there is no device memory to plan.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hy3dgen.errors import UsageError
from hy3dgen.jobs.choice import PAINTED
from hy3dgen.jobs.options import JobOptions
from hy3dgen.runtime.costs import PaintWork, ShapeWork, Work, known_sizes, stage_costs
from hy3dgen.runtime.device import CPU, CUDA
from hy3dgen.runtime.machine import ceiling_bytes, enforce, gib, machine_of, make_machine
from hy3dgen.runtime.memory import MIB, free_host_bytes
from hy3dgen.runtime.plan import GIB, Machine, Plan, make_plan, smallest_ceiling
from hy3dgen.runtime.stages import StageRecord
from hy3dgen.runtime.units import NetworkSize, size_of
from hy3dgen.weights import catalogue
from hy3dgen.weights.catalogue import CatalogueEntry
from hy3dgen.weights.config import read_component_config
from hy3dgen.weights.load import open_weights
from hy3dgen.weights.locate import FoundModel

HALF = 2
# Latents of each model, and picture tokens of its encoder: (side in pixels / 14)² and the class token, for each view.
NUM_LATENTS = {"nano": 256, "2mini": 512, "2mini-fast": 512, "2.1": 4096}
USUAL_LATENTS = 3072
PICTURE_TOKENS = {"nano": 145, "2mini-turbo": 5330}
USUAL_PICTURE_TOKENS = 1370


@dataclass(frozen=True)
class Ceiling:
    """How much device memory the process may use. asked: as on the command line; given: the user named a number."""

    machine: Machine
    size_bytes: int
    asked: str
    given: bool


def ceiling_for(vram: str | None, device: torch.device) -> Ceiling | None:
    """The ceiling for a run on this device, None on the CPU. Raises UsageError for a ``--vram`` that makes no sense."""
    asked = vram or "auto"
    given = asked not in ("auto", "max")
    if given:
        gib(asked)
    if device.type == CPU:
        return None
    machine = machine_of(device)
    return Ceiling(machine, ceiling_bytes(asked, machine), asked, given)


def imagined_ceiling(vram: str | None) -> Ceiling:
    """A desktop NVIDIA card with this much memory, for ``--plan`` on a machine without one."""
    if vram in (None, "auto", "max"):
        raise UsageError("this machine has no GPU to plan for; say for how much memory with --vram GB")
    size = round(gib(str(vram)) * GIB)
    return Ceiling(make_machine(CUDA, size, size, "desktop", free_host_bytes()), size, str(vram), True)


def plan_run(
    options: JobOptions,
    name: str,
    ceiling: Ceiling,
    *,
    found: FoundModel | None = None,
    num_views: int = 1,
    has_shape: bool = True,
    dtype: torch.dtype = torch.float16,
    attention: str = "sdpa",
) -> Plan:
    """The plan of a run under a ceiling. Raises NoPlanError with the smallest ceiling that fits.

    options: filled with the model's defaults; found: its files, needed for a model that the catalogue does not know
    """
    work = work_of(options, name, found=found, num_views=num_views, has_shape=has_shape, dtype=dtype)
    return make_plan(ceiling.size_bytes, ceiling.machine, stage_costs(work), attention=attention)


def work_of(
    options: JobOptions,
    name: str,
    *,
    found: FoundModel | None = None,
    num_views: int = 1,
    has_shape: bool = True,
    dtype: torch.dtype = torch.float16,
) -> Work:
    """What a run does, as far as memory and time go."""
    bytes_per_value = torch.empty((), dtype=dtype).element_size()
    shape = _shape_work(options, name, found, num_views, bytes_per_value) if has_shape else None
    return Work(
        shape=shape,
        paint=_paint_work(options, bytes_per_value),
        texture_size=None if options.texture == "none" else options.texture_size,
        bytes_per_value=bytes_per_value,
        vae_slicing=options.vae_slicing,
        vae_tiling=options.vae_tiling,
        lossy=frozenset(options.allow_lossy),
    )


def smallest_gib(options: JobOptions, name: str, machine: Machine) -> float:
    """The smallest ``--vram`` with which a model of the catalogue runs, in GiB, rounded up to a twentieth."""
    return math.ceil(20 * smallest_ceiling(stage_costs(work_of(options, name)), machine) / GIB) / 20


def hold_to(plan: Plan, ceiling: Ceiling, device: torch.device) -> None:
    """Let the allocator refuse what would break a ceiling that the user named."""
    if ceiling.given:
        enforce(plan.ceiling_bytes, ceiling.machine, device)


def as_report(plan: Plan, ceiling: Ceiling, stages: Sequence[StageRecord]) -> dict[str, Any]:
    """The plan and what came of it, for the report.

    peak_device_mb: context and what torch reserved at the worst stage; held: it stayed under the ceiling
    """
    reserved = max((record.peak_reserved_bytes for record in stages), default=0)
    peak = ceiling.machine.context_bytes + reserved
    return {
        **plan.as_dict(),
        "vram": ceiling.asked,
        "peak_device_mb": round(peak / MIB, 1),
        "held": peak <= plan.ceiling_bytes,
    }


def describe(plan: Plan) -> str:
    """The plan as a table for people: seconds, peak and levers of every stage."""
    lines = [f"{'stage':<10}{'seconds':>9}{'peak MiB':>10}  how"]
    for stage in plan.stages:
        peak = math.ceil(stage.predicted_peak_bytes / MIB)
        how = "; ".join(stage.levers) or ("everything stays on the device" if stage.networks else "on the device")
        lines.append(f"{stage.name:<10}{stage.predicted_seconds:>9.1f}{peak:>10,}  {how}")
    lines.append(
        f"predicted: {plan.predicted_seconds:.0f} s on the device, peak {plan.predicted_peak_bytes / GIB:.2f} GiB of "
        f"{plan.ceiling_bytes / GIB:.2f} GiB"
    )
    return "\n".join(lines)


def paint_settings(options: JobOptions) -> dict[str, Any]:
    """Settings of the paint pipeline that the user insists on; the plan's come through the engine."""
    settings: dict[str, Any] = {"vae_slicing": options.vae_slicing, "vae_tiling": options.vae_tiling}
    settings["attention_slicing"] = True if options.attention == "sliced" else None
    return {name: value for name, value in settings.items() if value is not None}


def _shape_work(
    options: JobOptions, name: str, found: FoundModel | None, num_views: int, bytes_per_value: int
) -> ShapeWork:
    entry = catalogue.find(name)
    if entry is not None:
        sizes, parameters = _published(entry)
        latents = NUM_LATENTS.get(name, USUAL_LATENTS)
    elif found is not None:
        sizes, parameters = _in_file(found.weights)
        latents = int(read_component_config(found.config, "vae").params.get("num_latents", USUAL_LATENTS))
    else:
        raise UsageError(f"'{name}' is not in the catalogue and not on this machine, so nothing can be planned for it")
    return ShapeWork(
        {part: size.scaled(bytes_per_value / HALF) for part, size in sizes.items()},
        parameters,
        latents + num_views * PICTURE_TOKENS.get(name, USUAL_PICTURE_TOKENS),
        int(options.steps or 1),
        guided=entry is None or not entry.distilled,
        octree_resolution=int(options.octree_resolution or 1),
        decoder=str(options.decoder),
    )


def _published(entry: CatalogueEntry) -> tuple[Mapping[str, NetworkSize], int]:
    """Sizes in float16 of a model of the catalogue, and the parameters of its denoiser."""
    base = entry.name.removesuffix("-fast").removesuffix("-turbo").replace("2mv", "2")
    sizes = known_sizes(f"{base}-distilled" if entry.distilled else base)
    return sizes, next(part.parameters for part in entry.components if part.name == "model")


def _in_file(path: Path) -> tuple[Mapping[str, NetworkSize], int]:
    """The same from a weight file's list of tensors."""
    tensors: dict[str, dict[str, int]] = {}
    with open_weights(path) as source:
        for key in source:
            component, _, rest = key.partition(".")
            tensors.setdefault(component, {})[rest] = HALF * math.prod(source.shape(key))
    sizes = {name: size_of(parts) for name, parts in tensors.items()}
    nothing = NetworkSize(0, 0, 0)
    parameters = sum(tensors.get("model", {}).values()) // HALF
    return {name: sizes.get(name, nothing) for name in ("conditioner", "model", "vae")}, parameters


def _paint_work(options: JobOptions, bytes_per_value: int) -> PaintWork | None:
    if options.texture not in PAINTED:
        return None
    sizes = {**known_sizes("paint"), **known_sizes("delight")}
    defaults = catalogue.entry(options.texture).defaults
    delight_steps = options.delight_steps or catalogue.entry("delight").defaults.steps
    return PaintWork(
        {name: size.scaled(bytes_per_value / HALF) for name, size in sizes.items()},
        steps=options.paint_steps or defaults.steps,
        guided=options.texture == "paint",
        delight_steps=delight_steps if options.delight else None,
    )
