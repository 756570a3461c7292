"""The real runner: nano on the CPU, end to end, small enough to take seconds."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from hy3dgen.images.mark import is_marked
from hy3dgen.service.settings import ServiceSettings
from tests.service.conftest import Client, serving, until
from tests.service.test_rest import events

MUG = Path(__file__).parents[2] / "assets" / "examples" / "mug.png"
SMALL = {"steps": 2, "octree_resolution": 32, "faces": 1500, "texture_size": 128, "seed": 3}


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with serving(ServiceSettings(folder=tmp_path_factory.mktemp("service"), devices=("cpu",))) as client:
        yield client


@pytest.fixture(scope="module")
def made(nano: Client) -> dict[str, Any]:
    """One finished job and its events."""
    answer = nano("POST", "/v1/jobs", files={"image": ("mug.png", MUG.read_bytes())}, data={**SMALL, "units": "cm"})
    job = answer.json()["id"]
    seen = list(events(nano, job))
    found = nano.job(job)
    assert found["status"] == "done", found["error"]
    return {**found, "seen": seen}


def test_every_format_opens_and_shows_the_same_object(nano: Client, made: dict[str, Any]) -> None:
    content = {kind: nano("GET", entry["url"]).content for kind, entry in made["result"]["files"].items()}
    assert set(content) == {"glb", "obj", "ply", "stl"}
    with zipfile.ZipFile(io.BytesIO(content["obj"])) as archive:
        assert sorted(archive.namelist()) == ["mug.mtl", "mug.obj", "mug_texture.png"]
        content["obj"] = archive.read("mug.obj")
    extents = {}
    for kind, data in content.items():
        scene = trimesh.load_scene(io.BytesIO(data), file_type=kind)
        extents[kind] = scene.extents
        assert sum(len(part.faces) for part in scene.geometry.values()) == made["result"]["statistics"]["faces"]
    for extent in extents.values():
        np.testing.assert_allclose(extent, extents["glb"], rtol=1e-4)
    assert max(extents["glb"]) > 50, "centimetres"


def test_what_is_shown_on_the_way(nano: Client, made: dict[str, Any], tmp_path: Path) -> None:
    names = [event for event, _, _ in made["seen"]]
    stages = [stage["name"] for stage in made["progress"]["stages"] if stage["status"] == "done"]
    assert stages[:7] == ["cutout", "load", "condition", "denoise", "decode", "extract", "clean"]
    assert stages[-4:] == ["maps", "bake", "fill", "export"]
    during = next(index for index, (event, _, _) in enumerate(made["seen"]) if event == "mesh")
    later = [d["stage"] for event, _, d in made["seen"][during:] if event == "progress"]
    assert "bake" in later, "the bare shape can be looked at before it gets its colours"
    assert names[-1] == "end"
    shape = trimesh.load_scene(io.BytesIO(nano("GET", made["links"]["mesh"]).content), file_type="glb")
    assert len(next(iter(shape.geometry.values())).faces) == made["result"]["statistics"]["faces"]
    assert made["progress"]["memory"]["host_mb"] > 100
    assert Image.open(io.BytesIO(nano("GET", made["links"]["preview"]).content)).format == "PNG"
    cutout = nano("GET", made["links"]["cutout"]).content
    assert Image.open(io.BytesIO(cutout)).mode == "RGBA"
    (tmp_path / "cutout.png").write_bytes(cutout)
    assert is_marked(tmp_path / "cutout.png"), "a later batch does not take it for an input"


def test_the_report_is_the_one_of_the_scripts_without_the_servers_folders(nano: Client, made: dict[str, Any]) -> None:
    import json

    import jsonschema

    answer = nano("GET", made["links"]["report"])
    schema = json.loads((Path(__file__).parents[2] / "docs" / "report.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(answer.json(), schema)
    assert answer.json()["seed"] == 3
    assert str(nano.service.storage.root) not in answer.text  # type: ignore[attr-defined]
    assert not (nano.service.storage.job(made["id"]) / "keep").exists()  # type: ignore[attr-defined]


def test_the_next_job_finds_the_model_loaded_and_gives_the_same_file(nano: Client, made: dict[str, Any]) -> None:
    again = nano("POST", "/v1/jobs", files={"image": ("mug.png", MUG.read_bytes())}, data={**SMALL, "units": "cm"})
    job = nano.wait(again.json()["id"])
    assert [s["status"] for s in job["progress"]["stages"] if s["name"] == "load"] == ["skipped"]
    assert job["result"]["files"]["glb"]["sha256"] == made["result"]["files"]["glb"]["sha256"]


def test_a_given_mesh_is_coloured_and_keeps_its_shape(nano: Client) -> None:
    box = trimesh.creation.box((1, 2, 1))
    files = {"image": ("mug.png", MUG.read_bytes()), "mesh": ("box.stl", box.export(file_type="stl"))}
    job = nano.wait(nano("POST", "/v1/jobs", files=files, data={"texture_size": 128}).json()["id"])
    assert job["status"] == "done", job["error"]
    assert (job["name"], job["kind"], job["result"]["statistics"]["faces"]) == ("box", "mesh", 12)
    assert "denoise" not in [stage["name"] for stage in job["progress"]["stages"]]


def test_a_running_job_stops_within_a_step(nano: Client) -> None:
    job = nano("POST", "/v1/jobs", files={"image": ("mug.png", MUG.read_bytes())}, data={"steps": 200}).json()["id"]
    asked_at = None
    for event, _, data in events(nano, job):
        if event == "progress" and data["stage"] == "denoise" and asked_at is None:
            steps = next(stage["steps"] for stage in data["stages"] if stage["name"] == "denoise")
            if steps == 0:
                continue
            asked_at = steps
            assert nano("POST", f"/v1/jobs/{job}/cancel").status_code == 202
    found = nano.job(job)
    assert found["status"] == "cancelled"
    denoise = next(stage for stage in found["progress"]["stages"] if stage["name"] == "denoise")
    assert asked_at is not None
    assert asked_at <= denoise["steps"] <= asked_at + 5, "one step, and those that pass while the request travels"


def test_a_job_goes_on_after_a_restart_where_it_was(tmp_path: Path) -> None:
    """What the first server had finished is not made again: hours may be in it on a small card."""
    settings = ServiceSettings(folder=tmp_path, devices=("cpu",))
    with serving(settings) as client:
        answer = client("POST", "/v1/jobs", files={"image": ("mug.png", MUG.read_bytes())}, data=SMALL)
        job = answer.json()["id"]
        next(event for event, _, _ in events(client, job) if event == "mesh")
    with serving(settings) as client:
        found = client.wait(job)
    assert found["status"] == "done", found["error"]
    states = {stage["name"]: stage["status"] for stage in found["progress"]["stages"]}
    assert states["denoise"] == states["decode"] == "skipped"
    assert states["bake"] == "done"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_meter_stays_under_the_ceiling_and_an_idle_worker_gives_everything_back(tmp_path: Path) -> None:
    settings = ServiceSettings(folder=tmp_path, devices=("cuda",), idle_s=1.0)
    with serving(settings) as client:
        for vram in ("2", "auto", "2"):
            data = {**SMALL, "vram": vram}
            answer = client("POST", "/v1/jobs", files={"image": ("mug.png", MUG.read_bytes())}, data=data)
            job = client.wait(answer.json()["id"])
            assert job["status"] == "done", job["error"]
            meter = job["progress"]["memory"]
            assert 0 < meter["used_mb"] <= meter["peak_mb"] <= meter["ceiling_mb"]
            assert vram == "auto" or meter["ceiling_mb"] == 2048
        before = torch.cuda.mem_get_info()[0]
        until(lambda: not client.service.worker_pids())  # type: ignore[attr-defined]
        assert torch.cuda.mem_get_info()[0] > before
