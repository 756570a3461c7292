"""The memory plan of a run, from options and catalogue; no GPU and no weights needed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch

import hy3dgen
from hy3dgen.cli import color, multiview
from hy3dgen.errors import NoPlanError, OutOfMemoryError, UsageError
from hy3dgen.jobs import memory
from hy3dgen.jobs.models import Models, plan_without_weights
from hy3dgen.jobs.options import JobOptions, with_scenario
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.runtime import linear
from hy3dgen.runtime.engine import Engine
from hy3dgen.runtime.plan import Plan
from hy3dgen.runtime.stages import StageRecord
from hy3dgen.weights import catalogue
from hy3dgen.weights.locate import find_model
from tests.cli.pictures import QUICK_OPTIONS, draw_mug
from tests.runtime.memories import CountedMemory

ROOT = Path(__file__).resolve().parents[2]
Capture = pytest.CaptureFixture[str]
SHAPES = [entry.name for entry in catalogue.ENTRIES if entry.kind == "shape"]


def planned(vram: str, **options: Any) -> Plan:
    return plan_without_weights(JobOptions(vram=vram, device="cpu", **options))


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("texture", ["project", "paint-turbo"])
def test_every_model_of_the_catalogue_has_a_plan_that_keeps_the_ceiling(name: str, texture: str) -> None:
    plan = planned("8", model=name, texture=texture)
    assert plan.predicted_peak_bytes <= 8 << 30
    names = [stage.name for stage in plan.stages]
    assert names[:3] == ["condition", "denoise", "decode"]
    assert ("views" in names) == (texture != "project")


def test_less_memory_is_slower_and_too_little_is_refused_with_what_would_do() -> None:
    roomy, tight = (planned(vram, model="2", texture="paint") for vram in ("24", "2"))
    assert tight.predicted_peak_bytes <= 2 << 30
    assert tight.predicted_seconds > roomy.predicted_seconds
    with pytest.raises(NoPlanError, match=r"smallest that fits is --vram \d"):
        planned("0.4", model="2", texture="paint")


def test_what_the_user_switches_off_is_not_planned() -> None:
    assert [stage.name for stage in planned("8", model="2", texture="none").stages] == [
        "condition",
        "denoise",
        "decode",
    ]
    without = planned("8", model="2", texture="paint", delight=False)
    assert without.stage("delight") is None and without.stage("views") is not None
    only_texture = plan_without_weights(JobOptions(vram="8", device="cpu", texture="paint"), has_shape=False)
    assert only_texture.stage("denoise") is None


def test_lossy_levers_come_only_when_they_are_allowed() -> None:
    def weighed(**options: Any) -> set[str]:
        costs = planned("1.5", model="2mini-turbo", **options).costs
        return {lever for cost in costs for variant in cost.variants for lever in variant.levers if "lossy" in lever}

    assert weighed() == set()
    assert weighed(allow_lossy=("flashvdm",)) == {"FlashVDM decoder (lossy)"}
    with pytest.raises(UsageError, match="--allow-lossy has 'magic'"):
        JobOptions(allow_lossy=("magic",))


def test_a_model_outside_the_catalogue_is_planned_from_its_file() -> None:
    found = find_model("nano")
    assert found is not None
    options = JobOptions(steps=20, guidance=4.0, octree_resolution=192, decoder="hierarchical", texture="none")
    ceiling = memory.imagined_ceiling("4")
    from_file = memory.plan_run(options, str(found.folder), ceiling, found=found)
    from_table = memory.plan_run(options, "nano", ceiling)
    peaks = [[stage.predicted_peak_bytes for stage in plan.stages] for plan in (from_file, from_table)]
    assert peaks[0] == pytest.approx(peaks[1], rel=0.3)
    with pytest.raises(UsageError, match="nothing can be planned"):
        memory.plan_run(options, "my/model", ceiling)


def test_the_cpu_has_nothing_to_plan_but_nonsense_is_still_refused() -> None:
    cpu = torch.device("cpu")
    assert memory.ceiling_for("4", cpu) is None
    with pytest.raises(UsageError, match="--vram is 'lots'"):
        memory.ceiling_for("lots", cpu)
    with pytest.raises(UsageError, match="no GPU to plan for"):
        memory.imagined_ceiling("auto")
    models = Models(JobOptions(model="nano", device="cpu", vram="4"))
    assert models.engine is None and models.memory_report([]) is None


def test_the_report_says_whether_the_ceiling_held() -> None:
    ceiling = memory.imagined_ceiling("6")
    plan = planned("6", model="2", texture="none")
    under = memory.as_report(plan, ceiling, [StageRecord("denoise", peak_reserved_bytes=2 << 30)])
    over = memory.as_report(plan, ceiling, [StageRecord("denoise", peak_reserved_bytes=7 << 30)])
    assert (under["held"], over["held"]) == (True, False)
    assert under["vram"] == "6" and under["peak_device_mb"] > 2048


def test_scenarios_force_the_memos_switches_but_not_the_users() -> None:
    assert with_scenario(JobOptions(scenario="a")).rembg == "cpu"
    b = with_scenario(JobOptions(scenario="b"))
    assert (b.vae_slicing, b.vae_tiling, b.attention, b.compile) == (True, 256, "sliced", False)
    assert with_scenario(JobOptions(scenario="c")).compile
    assert with_scenario(JobOptions(scenario="c", vae_tiling=512)).vae_tiling == 512
    assert with_scenario(JobOptions()) == JobOptions()
    with pytest.raises(UsageError, match="exclude each other"):
        JobOptions(scenario="a", vram="4")


def test_paint_settings_are_what_the_user_insists_on() -> None:
    assert memory.paint_settings(JobOptions()) == {}
    insisted = JobOptions(vae_slicing=False, vae_tiling=128, attention="sliced")
    assert memory.paint_settings(insisted) == {"vae_slicing": False, "vae_tiling": 128, "attention_slicing": True}


def test_painting_gets_the_plan_and_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    from hy3dgen.jobs import texture
    from hy3dgen.texgen import pipelines
    from hy3dgen.texgen.projection import Coverage, Projection

    asked: dict[str, Any] = {}

    def paint_mesh(mesh: Mesh, pictures: Any, **options: Any) -> Projection:
        asked.update(options, pictures=pictures)
        return Projection(mesh, Coverage(0.5, 0.25, 0.25), ())

    monkeypatch.setattr(pipelines, "paint_mesh", paint_mesh)
    mesh = Mesh(np.zeros((3, 3), np.float32), np.array([[0, 1, 2]], np.int32))
    options = JobOptions(texture="paint-turbo", paint_steps=7, delight=False, seed=5, vae_tiling=128, texture_size=256)
    engine = Engine(planned("8", model="2", texture="paint-turbo"), torch.device("cpu"))
    place = texture.Place(torch.device("cpu"), torch.float32, engine)
    front, back = draw_mug(), draw_mug((1, 2, 3))
    made, coverage = texture.colour(
        mesh, {"front": front, "back": back}, options, place, memory.paint_settings(options)
    )
    assert made is mesh and coverage == {"seen": 0.5, "blended": 0.25, "filled": 0.25}
    assert asked["pictures"] == [front, back] and asked["engine"] is engine
    assert (asked["model"], asked["steps"], asked["delight"], asked["seed"]) == ("paint-turbo", 7, False, 5)
    assert (asked["texture_size"], asked["vae_tiling"]) == (256, 128)


def test_the_plan_is_printed_without_inputs_and_weights(capsys: Capture) -> None:
    argv = ["--plan", "--device", "cpu"]
    assert color.main([*argv, "--model", "2", "--vram", "6"]) == 0
    out = capsys.readouterr().out
    assert "denoise" in out and "GiB of 6.00 GiB" in out
    assert multiview.main([*argv, "--model", "2mv", "--vram", "6"]) == 0
    assert "condition" in capsys.readouterr().out
    assert color.main([*argv, "--vram", "0.3", "--model", "2"]) == 5
    assert "no plan fits" in capsys.readouterr().err
    assert color.main([*argv, "--vram", "-1"]) == 2
    assert color.main(argv) == 2
    assert "no GPU to plan for" in capsys.readouterr().err
    assert color.main([*argv, "--vram", "4", "--scenario", "a"]) == 2


def test_a_job_under_a_plan_makes_the_same_mesh_and_reports_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, as if it were a card of 1 GiB: every network streamed."""
    monkeypatch.setattr(
        linear, "available", lambda: False
    )  # packed products, without an engine only, round differently
    options = JobOptions(**QUICK_OPTIONS, texture="none", preview=False)  # type: ignore[arg-type]
    plain = hy3dgen.generate(draw_mug(), models=Models(options))
    models = Models(options)
    ceiling = memory.imagined_ceiling("1")
    plan = memory.plan_run(models.options, "nano", ceiling)
    streamed = replace(
        plan,
        stages=tuple(
            replace(stage, networks=tuple((name, "streamed") for name, _ in stage.networks)) for stage in plan.stages
        ),
    )
    counted = CountedMemory()
    models.ceiling, models.engine = ceiling, Engine(streamed, models.device, memory=counted)
    planned_result = hy3dgen.generate(draw_mug(), models=models)
    assert np.array_equal(planned_result.mesh.vertices, plain.mesh.vertices)
    assert counted.peak > 0
    report = planned_result.report
    jsonschema.validate(report, json.loads((ROOT / "docs" / "report.schema.json").read_text(encoding="utf-8")))
    assert report["plan"]["held"] is True and plain.report["plan"] is None
    levers = [lever for stage in report["stages"] for lever in stage["levers"]]
    assert any("streamed" in lever for lever in levers)
    with pytest.raises(OutOfMemoryError, match="on its leanest plan"):
        models.engine = Engine(streamed, models.device, memory=CountedMemory(limit_bytes=1000))
        models.forget()
        hy3dgen.generate(draw_mug(), models=models)
