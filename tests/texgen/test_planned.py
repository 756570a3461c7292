"""Painting under a memory plan gives the same texture, with the levers of the plan and its ladder."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from hy3dgen.meshes.io import from_trimesh
from hy3dgen.meshes.unwrap import unwrap
from hy3dgen.runtime.costs import PaintWork, Work, known_sizes, stage_costs
from hy3dgen.runtime.engine import Engine
from hy3dgen.runtime.machine import make_machine
from hy3dgen.runtime.plan import GIB, Placement, Plan, make_plan
from hy3dgen.runtime.stages import recording
from hy3dgen.texgen.pipelines import paint_mesh
from hy3dgen.texgen.residency import OnDemand
from tests.runtime.memories import CountedMemory
from tests.texgen.tiny import PAINT

CPU = torch.device("cpu")
MACHINE = make_machine("cuda", 24 * GIB, 24 * GIB, "desktop", 64 * GIB)


def plan(
    placement: Placement,
    *,
    cfg_split: bool = False,
    slicing: bool = True,
    on_host: bool = False,
    strips: bool = False,
    by_view: bool = False,
) -> Plan:
    work = Work(paint=PaintWork({**known_sizes("paint"), **known_sizes("delight")}, 2, True, 2), texture_size=2048)
    made = make_plan(24 * GIB, MACHINE, stage_costs(work))
    stages = [
        replace(
            stage,
            networks=tuple((name, placement) for name, _ in stage.networks),
            cfg_split=cfg_split and stage.name == "views",
            vae_slicing=None if stage.vae_slicing is None else slicing,
            on_host=on_host and stage.name in ("maps", "bake"),
            vae_strips=strips and stage.vae_slicing is not None,
            split_feed_forward=by_view and stage.name == "views",
        )
        for stage in made.stages
    ]
    return replace(made, stages=tuple(stages))


@pytest.fixture
def unwrapped(ball: trimesh.Trimesh) -> Any:
    return unwrap(from_trimesh(ball), size_px=128)


def paint(checkpoint: Path, mesh: Any, picture: Image.Image, engine: Engine | None = None) -> np.ndarray:
    settings = {"delight_steps": 2, "steps": 2, "texture_size": 128, "device": "cpu", "render_size": 128}
    result = paint_mesh(mesh, [picture], model=checkpoint, subfolder=PAINT, engine=engine, **settings)
    return result.mesh.texture


@pytest.mark.parametrize("placement", ["resident", "staged", "streamed", "disk"])
def test_the_texture_is_the_same_at_every_placement(
    checkpoint: Path, unwrapped: Any, picture: Image.Image, placement: Placement
) -> None:
    plain = paint(checkpoint, unwrapped, picture)
    memory = CountedMemory()
    with recording() as run:
        planned = paint(checkpoint, unwrapped, picture, Engine(plan(placement), CPU, memory=memory))
    assert np.array_equal(planned, plain)
    gc.collect()
    assert memory.held == 0
    levers = {lever.split()[0] for record in run.stages for lever in record.levers}
    assert levers == (set() if placement == "resident" else set(dict(plan(placement).stage("views").networks)) | {
        "delight_vae_encoder", "delight_unet", "delight_vae_decoder",
    })  # fmt: skip


def test_streamed_networks_hold_less_than_whole_ones(checkpoint: Path, unwrapped: Any, picture: Image.Image) -> None:
    peaks = {}
    for placement in ("staged", "streamed"):
        memory = CountedMemory()
        paint(checkpoint, unwrapped, picture, Engine(plan(placement), CPU, memory=memory))  # type: ignore[arg-type]
        peaks[placement] = memory.peak
    assert peaks["streamed"] < 0.8 * peaks["staged"]


def test_levers_reach_the_stages(checkpoint: Path, unwrapped: Any, picture: Image.Image) -> None:
    plain = paint(checkpoint, unwrapped, picture)
    with recording() as run:
        lean = paint(
            checkpoint,
            unwrapped,
            picture,
            Engine(plan("streamed", cfg_split=True, slicing=False, on_host=True), CPU),
        )
    assert np.abs(lean.astype(int) - plain.astype(int)).max() <= 2
    views = next(record for record in run.stages if record.name == "views")
    decided = {decision.technique: decision.applied for decision in views.decisions}
    assert decided["guidance halves one after the other"] is True
    assert decided["VAE slicing"] is False


@pytest.mark.parametrize("placement", ["streamed", "disk"])
def test_the_leanest_levers_change_nothing_and_are_named(
    checkpoint: Path, unwrapped: Any, picture: Image.Image, placement: Placement
) -> None:
    plain = paint(checkpoint, unwrapped, picture)
    engine = Engine(plan(placement, strips=True, by_view=True), CPU)
    with recording() as run:
        lean = paint(checkpoint, unwrapped, picture, engine)
    assert np.abs(lean.astype(int) - plain.astype(int)).max() <= 1
    for record in run.stages:
        decided = {decision.technique: decision.applied for decision in record.decisions}
        if record.name in ("delight", "views"):
            assert decided["VAE strips"] is True
        if record.name == "views":
            assert decided["feed-forward of one view at a time"] is True


def test_views_out_of_memory_are_painted_again_with_a_leaner_plan(
    checkpoint: Path, unwrapped: Any, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hy3dgen.texgen.hunyuanpaint.pipeline import HunyuanPaintPipeline

    plain = paint(checkpoint, unwrapped, picture)
    decode, failures = HunyuanPaintPipeline.decode_latents, [1]

    def fails_once(self: Any, latents: torch.Tensor) -> torch.Tensor:
        if failures:
            failures.pop()
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB")
        return decode(self, latents)

    monkeypatch.setattr(HunyuanPaintPipeline, "decode_latents", fails_once)
    leave, sent_home = OnDemand.leave, []

    def noted(self: OnDemand, *modules: torch.nn.Module) -> None:
        if not modules:
            sent_home.extend(module for module, residency in self._residencies.items() if residency.is_resident)
        leave(self, *modules)

    monkeypatch.setattr(OnDemand, "leave", noted)
    engine = Engine(plan("resident"), CPU, memory=CountedMemory())
    with recording() as run:
        planned = paint(checkpoint, unwrapped, picture, engine)
    assert np.abs(planned.astype(int) - plain.astype(int)).max() <= 2
    assert [record.name for record in run.stages] == ["load", "delight", "maps", "views", "bake", "fill"]
    assert not engine.plan.all_resident
    # The delight network, which had stayed, makes room as well.
    assert any(module.config.get("in_channels") == 8 for module in sent_home if hasattr(module, "config"))
