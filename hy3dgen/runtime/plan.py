"""A plan: every stage's memory levers, chosen before anything is loaded so that the peak stays under a ceiling.

Pure arithmetic on plain values: equal arguments give equal plans. What stages cost comes from ``costs``; bringing a
plan about is ``offload``'s and ``engine``'s work. Knows no network by class and no device.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from hy3dgen.errors import NoPlanError
from hy3dgen.runtime.units import NetworkSize

Placement = Literal["resident", "staged", "streamed", "disk"]
PLACEMENTS: tuple[Placement, ...] = ("resident", "staged", "streamed", "disk")
SLOTS = 2  # one unit computes while the next arrives
LEANER_BY = 0.85  # a leaner plan after running out of memory aims this far below the one that failed
GIB = 1 << 30

PLACEMENT_WORDS: dict[Placement, str] = {
    "resident": "stays on the device",
    "staged": "on the device for its use only",
    "streamed": "streamed block by block from host memory",
    "disk": "streamed block by block from the weight file",
}


@dataclass(frozen=True)
class Machine:
    """Where a plan is to hold.

    kind: 'cuda', 'mps' or 'cpu'; total_bytes, free_bytes: the device's; context_bytes: what the process takes there
    before its first tensor; free_host_bytes: RAM; speed: 'datacentre', 'desktop' or 'laptop';
    h2d_bytes_s, disk_bytes_s: from pinned host memory, and block by block from the weight file, to the device;
    whole_bytes_s: a whole network from its mapped file to the device; pin_bytes_s: into pinned host memory, once
    before streaming; slowdown: times the seconds of the measured machine;
    reserved_factor, reserved_fixed_bytes: what an allocator takes above what is allocated
    """

    kind: str
    total_bytes: int
    free_bytes: int
    context_bytes: int
    free_host_bytes: int
    speed: str
    h2d_bytes_s: float
    disk_bytes_s: float
    whole_bytes_s: float
    pin_bytes_s: float
    host_margin_bytes: int
    slowdown: float = 1.0
    reserved_factor: float = 1.0
    reserved_fixed_bytes: int = 0

    def peak_bytes(self, allocated_bytes: float) -> int:
        """Device use of the whole process when tensors take this much."""
        return self.context_bytes + self.reserved_fixed_bytes + math.ceil(self.reserved_factor * allocated_bytes)

    def copy_seconds(self, size_bytes: int, placement: Placement) -> float:
        """Time to bring this much to the device."""
        speeds = {"staged": self.whole_bytes_s, "disk": min(self.h2d_bytes_s, self.disk_bytes_s)}
        return size_bytes / speeds.get(placement, self.h2d_bytes_s)


@dataclass(frozen=True)
class Phase:
    """A part of a stage in which one network works, or none.

    extra_bytes: tensors beside the weights; passes: how often the weights are gone through; pass_seconds: of each
    """

    network: str | None
    size: NetworkSize
    extra_bytes: int
    passes: int
    pass_seconds: float

    def peak_bytes(self, placement: Placement) -> int:
        """Tensors' bytes at the peak, weights included."""
        if placement in ("resident", "staged"):
            return self.size.weight_bytes + self.extra_bytes
        return self.size.rest_bytes + SLOTS * self.size.largest_unit_bytes + self.extra_bytes

    def seconds(self, placement: Placement, machine: Machine) -> float:
        """Predicted, with the time for weights to arrive."""
        compute = self.pass_seconds * machine.slowdown
        copy = machine.copy_seconds(self.size.weight_bytes, placement)
        if placement == "resident":
            return self.passes * compute
        if placement == "staged":
            return self.passes * compute + copy
        if placement == "disk":  # a copy from pageable memory holds the host up, so nothing is computed beside it
            return self.passes * (compute + copy)
        return self.passes * max(compute, copy) + self.size.weight_bytes / machine.pin_bytes_s


@dataclass(frozen=True)
class Variant:
    """One setting of a stage's levers and what it then costs. Fields as in ``StagePlan``."""

    phases: tuple[Phase, ...]
    cfg_split: bool = False
    chunk: int | None = None
    tile_points: int | None = None
    vae_slicing: bool | None = None
    vae_tiling: int | None = None
    vae_strips: bool = False
    split_feed_forward: bool = False
    on_host: bool = False
    levers: tuple[str, ...] = ()


@dataclass(frozen=True)
class StageCost:
    """A stage with its possible settings, the cheapest lever first. Lossy ones are in it only if the user said so."""

    name: str
    variants: tuple[Variant, ...]


@dataclass(frozen=True)
class StagePlan:
    """What one stage is to do.

    networks: (name, placement) of every network it uses; cfg_split: halves of guidance one after the other;
    chunk: field points in a call of the decoder; tile_points: how many of them at once, None for its own choice;
    vae_slicing: one picture at a time; vae_tiling: tile in pixels (lossy);
    vae_strips: each picture in strips (exact); split_feed_forward: of one view at a time;
    on_host: drawn or baked by the CPU; attention: back end's name; levers: in words, for people
    """

    name: str
    networks: tuple[tuple[str, Placement], ...]
    cfg_split: bool
    chunk: int | None
    tile_points: int | None
    vae_slicing: bool | None
    vae_tiling: int | None
    vae_strips: bool
    split_feed_forward: bool
    on_host: bool
    attention: str
    predicted_peak_bytes: int
    predicted_seconds: float
    levers: tuple[str, ...]

    @property
    def placement(self) -> Placement:
        """The leanest placement of its networks; 'resident' when it has none."""
        return max((placement for _, placement in self.networks), key=PLACEMENTS.index, default="resident")

    def placement_of(self, network: str) -> Placement:
        """How this network is placed; 'staged' for one that the plan does not know."""
        return dict(self.networks).get(network, "staged")


@dataclass(frozen=True)
class Plan:
    """All stages of a run under one ceiling. ``costs`` and ``machine`` are kept so that leaner plans can be made."""

    ceiling_bytes: int
    machine: Machine
    stages: tuple[StagePlan, ...]
    costs: tuple[StageCost, ...]
    attention: str

    @property
    def predicted_peak_bytes(self) -> int:
        """Device use of the process, context included, at the worst stage."""
        return max((stage.predicted_peak_bytes for stage in self.stages), default=0)

    @property
    def predicted_seconds(self) -> float:
        return sum(stage.predicted_seconds for stage in self.stages)

    @property
    def all_resident(self) -> bool:
        """Whether networks stay on the device between their stages."""
        return all(stage.placement == "resident" for stage in self.stages)

    def stage(self, name: str) -> StagePlan | None:
        """The plan of the stage with this name, None when the run has none."""
        return next((stage for stage in self.stages if stage.name == name), None)

    def with_stage(self, changed: StagePlan) -> Plan:
        """A copy with one stage replaced."""
        return replace(self, stages=tuple(changed if stage.name == changed.name else stage for stage in self.stages))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the report; bytes as MiB."""
        rows = []
        for stage in self.stages:
            row = asdict(stage) | {"networks": dict(stage.networks), "levers": list(stage.levers)}
            row["predicted_peak_mb"] = round(row.pop("predicted_peak_bytes") / 2**20)
            row["predicted_seconds"] = round(row["predicted_seconds"], 3)
            rows.append(row | {"placement": stage.placement})
        return {
            "ceiling_mb": round(self.ceiling_bytes / 2**20),
            "context_mb": round(self.machine.context_bytes / 2**20),
            "predicted_peak_mb": round(self.predicted_peak_bytes / 2**20),
            "predicted_seconds": round(self.predicted_seconds, 2),
            "all_resident": self.all_resident,
            "stages": rows,
        }


def make_plan(ceiling_bytes: int, machine: Machine, costs: Sequence[StageCost], *, attention: str = "sdpa") -> Plan:
    """The fastest plan whose predicted peak is at most ``ceiling_bytes`` of device memory, CUDA context included.

    costs: from ``costs.stage_costs``. Of equally fast settings the one with the fewest levers is taken. More memory
    never makes a plan slower. Raises NoPlanError with the smallest ceiling that fits.
    """
    costs = tuple(costs)
    staged = [_best(cost, ceiling_bytes, machine, attention) for cost in costs]
    chosen = _complete(staged, costs, ceiling_bytes, machine)
    resident = _resident(costs, ceiling_bytes, machine, attention)
    if resident is not None and _seconds(resident) <= _seconds(chosen):
        chosen = resident
    return Plan(ceiling_bytes, machine, tuple(chosen), costs, attention)


def next_leaner(plan: Plan, stage_name: str) -> Plan | None:
    """The plan to try when this stage ran out of memory: the same but for that stage, which needs clearly less.

    Other networks leave the device too, if they were resident. None when nothing leaner exists.
    """
    current, cost = plan.stage(stage_name), next((c for c in plan.costs if c.name == stage_name), None)
    if current is None or cost is None:
        return None
    aim = math.floor(LEANER_BY * current.predicted_peak_bytes)
    smallest = _smallest(cost, plan.machine)
    if smallest >= current.predicted_peak_bytes:
        return None
    leaner = _best(cost, max(aim, smallest), plan.machine, plan.attention)
    return None if leaner is None else plan.with_stage(leaner)


def smallest_ceiling(costs: Iterable[StageCost], machine: Machine) -> int:
    """The smallest ceiling for which a plan exists, in bytes."""
    return max((_smallest(cost, machine) for cost in costs), default=0)


def _complete(
    stages: Sequence[StagePlan | None], costs: Sequence[StageCost], ceiling_bytes: int, machine: Machine
) -> list[StagePlan]:
    found = [stage for stage in stages if stage is not None]
    if len(found) == len(stages):
        return found
    needed = smallest_ceiling(costs, machine)
    failing = [cost.name for cost, stage in zip(costs, stages, strict=True) if stage is None]
    raise NoPlanError(
        f"no plan fits {ceiling_bytes / GIB:.2f} GiB of device memory (stage {', '.join(failing)}); the smallest that "
        f"fits is --vram {math.ceil(20 * needed / GIB) / 20:.2f}; a smaller --model or --texture project needs less"
    )


def _best(cost: StageCost, ceiling_bytes: int, machine: Machine, attention: str) -> StagePlan | None:
    """The fastest setting under the ceiling with each network on the device for its use only, or streamed."""
    plans = (_under(variant, cost.name, ceiling_bytes, machine, attention) for variant in cost.variants)
    return min((plan for plan in plans if plan is not None), key=_price, default=None)


def _price(plan: StagePlan) -> tuple[float, int]:
    return plan.predicted_seconds, len(plan.levers)


def _under(variant: Variant, name: str, ceiling_bytes: int, machine: Machine, attention: str) -> StagePlan | None:
    chosen: list[tuple[Phase, Placement]] = []
    for phase in variant.phases:
        fitting = [
            placement
            for placement in _placements(phase, machine)
            if machine.peak_bytes(phase.peak_bytes(placement)) <= ceiling_bytes
        ]
        if not fitting:
            return None
        chosen.append((phase, min(fitting, key=lambda p: (phase.seconds(p, machine), PLACEMENTS.index(p)))))
    peak = max((machine.peak_bytes(phase.peak_bytes(placement)) for phase, placement in chosen), default=0)
    return _stage_plan(variant, name, chosen, peak, machine, attention)


def _placements(phase: Phase, machine: Machine) -> Iterator[Placement]:
    if phase.network is None:
        yield "resident"
        return
    yield "staged"
    if phase.size.largest_unit_bytes:
        if phase.size.weight_bytes + machine.host_margin_bytes <= machine.free_host_bytes:
            yield "streamed"
        yield "disk"  # for a network that runs once, pinning costs more than it saves


def _stage_plan(
    variant: Variant,
    name: str,
    chosen: Sequence[tuple[Phase, Placement]],
    peak_bytes: int,
    machine: Machine,
    attention: str,
) -> StagePlan:
    networks = tuple((phase.network, placement) for phase, placement in chosen if phase.network is not None)
    levers = [f"{network} {PLACEMENT_WORDS[p]}" for network, p in networks if p != "resident"]
    return StagePlan(
        name,
        networks,
        variant.cfg_split,
        variant.chunk,
        variant.tile_points,
        variant.vae_slicing,
        variant.vae_tiling,
        variant.vae_strips,
        variant.split_feed_forward,
        variant.on_host,
        attention,
        peak_bytes,
        sum(phase.seconds(placement, machine) for phase, placement in chosen),
        (*levers, *variant.levers),
    )


def _resident(
    costs: Sequence[StageCost], ceiling_bytes: int, machine: Machine, attention: str
) -> list[StagePlan] | None:
    """Every stage with all networks of the run on the device; None when they do not fit together."""
    weights: dict[str, int] = {}
    for cost in costs:
        for phase in cost.variants[0].phases:
            if phase.network is not None:
                weights[phase.network] = phase.size.weight_bytes
    total = sum(weights.values())
    stages = []
    for cost in costs:
        fitting = []
        for variant in cost.variants:
            peak = machine.peak_bytes(total + max((phase.extra_bytes for phase in variant.phases), default=0))
            if peak <= ceiling_bytes:
                everything: list[tuple[Phase, Placement]] = [(phase, "resident") for phase in variant.phases]
                fitting.append(_stage_plan(variant, cost.name, everything, peak, machine, attention))
        if not fitting:
            return None
        stages.append(min(fitting, key=_price))
    return stages


def _smallest(cost: StageCost, machine: Machine) -> int:
    return min(
        max(
            (min(machine.peak_bytes(p.peak_bytes(place)) for place in _placements(p, machine)) for p in v.phases),
            default=0,
        )
        for v in cost.variants
    )


def _seconds(stages: Sequence[StagePlan]) -> float:
    return sum(stage.predicted_seconds for stage in stages)
