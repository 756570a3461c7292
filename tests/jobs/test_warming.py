"""What is woken up for a job: by its options and its memory plan, and only what works without the models."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch

from hy3dgen.jobs import warming
from hy3dgen.jobs.memory import imagined_ceiling, plan_run
from hy3dgen.jobs.models import Models, filled
from hy3dgen.jobs.options import JobOptions
from hy3dgen.runtime.plan import Plan
from hy3dgen.runtime.stages import recording
from hy3dgen.runtime.warm import WarmUp
from hy3dgen.weights import catalogue

CPU = torch.device("cpu")


def names(calls: list[warming.Waking]) -> list[str]:
    return [getattr(call, "func", call).__name__ for call in calls]


def plan_of(options: JobOptions) -> Plan:
    return plan_run(options, "2mini", imagined_ceiling("8"))


def test_only_what_the_options_need_is_woken_up() -> None:
    options = filled(JobOptions(), catalogue.entry("2mini"))
    assert names(warming.for_shapes(options, CPU, torch.float16)) == ["first_kernels", "_compile_walk"]
    assert names(warming.for_shapes(options.with_(decoder="dense"), CPU, torch.float16)) == ["first_kernels"]

    def woken(texture: str, plan: Plan | None = None) -> list[str]:
        return names(warming.for_colours(options.with_(texture=texture), plan, CPU, torch.float16))

    assert woken("none") == []
    assert woken("project") == ["_draw_and_bake"]
    painted = ["_import_paint_libraries", "first_convolutions", "_draw_and_bake"]
    assert woken("paint") == painted
    plan = plan_of(options.with_(texture="paint"))
    assert woken("paint", plan) == painted
    on_host = replace(plan, stages=tuple(replace(s, on_host=s.name in ("maps", "bake")) for s in plan.stages))
    assert woken("paint", on_host) == painted[:2], "the rasteriser will not draw on the device"


def test_what_is_woken_up_works() -> None:
    warming._compile_walk()
    warming._draw_and_bake(CPU)
    warming._import_paint_libraries()
    assert "diffusers" in sys.modules


def test_a_job_waits_for_its_warm_up_as_part_of_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    models = Models(JobOptions(model="nano", device="cpu"))
    models.warm_colours()
    first = models._warm_up
    models.warm_colours()
    assert isinstance(first, WarmUp) and models._warm_up is first, "once a job"
    waited: list[str] = []
    with recording(device=None) as run:
        models.await_colours()
        assert run.stages == [], "nothing to wait for on the CPU"
        monkeypatch.setattr(WarmUp, "is_running", True)
        monkeypatch.setattr(WarmUp, "wait", lambda self: waited.append("waited"))
        models.await_colours()
    assert [record.name for record in run.stages] == ["load"] and waited == ["waited"]
