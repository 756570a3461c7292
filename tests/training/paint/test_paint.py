"""Training of the paint model at micro size: its data is what the paint pipeline will see, and both phases learn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.measure import marching_cubes

from benchmarks.shapes import shape
from hy3dgen.rendering import maps
from hy3dgen.rendering.cameras import View
from hy3dgen.rendering.surface import prepare
from hy3dgen.texgen.config import VIEWS_DEG
from hy3dgen.texgen.locating import configured
from hy3dgen.texgen.utils.multiview_utils import Multiview_Diffusion_Net
from training.log import JsonLines
from training.loop import Session
from training.paint import score
from training.paint.__main__ import main
from training.paint.batches import Prepared, prepared, varied
from training.paint.export import FOLDER, export
from training.paint.networks import PaintNetworks, initialise, paint_config
from training.paint.phases import CAMERAS, AutoencoderPhase, PaintOptions, ViewsPhase
from training.paint.pool import Pool, traced_block, unpacked
from training.paint.trace import held_out_scene, training_scene
from training.schedules import BySteps, Schedule

CPU = torch.device("cpu")
MICRO = ["--view-px", "32", "--vae-widths", "8", "8", "16", "--unet-widths", "16", "16", "--device", "cpu"]
SIZES = {"vae_widths": (8, 8, 16), "unet_widths": (16, 16), "view_px": 32}


@pytest.fixture(scope="module")
def pool() -> Pool:
    filled = Pool(CPU, 3, capacity=8, size_px=32)
    filled.fill_here(8)
    return filled


@pytest.fixture
def networks() -> PaintNetworks:
    made = PaintNetworks(paint_config(**SIZES))
    initialise(made, torch.Generator().manual_seed(0))
    return made


def session(phase, out: Path, steps: int) -> Session:
    log = JsonLines(out / "log.jsonl", show=False)
    options = {"least_side": 8, "convolutions": True}
    return Session(
        phase, BySteps(steps), Schedule(5e-3, 0.4, 5), out, log, decay=0.9, log_every=5, optimiser_options=options
    )


def records(folder: Path, kind: str) -> list[dict]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


@pytest.mark.parametrize(("name", "index"), [("mug", 3), ("car", 0)])
def test_traced_maps_are_those_of_the_mesh(name, index):
    solid = shape(name, index)
    scene = held_out_scene(solid, 96)
    line = np.linspace(-1.02, 1.02, 97)
    lattice = np.stack(np.meshgrid(line, line, line, indexing="ij"), -1)
    vertices, faces, _, _ = marching_cubes(solid.field(lattice), 0)
    vertices, faces = (vertices * (line[1] - line[0]) - 1.02).astype(np.float32), faces[:, ::-1].copy()
    mesh = prepare(vertices, faces)
    for mine, (azimuth, elevation) in zip(scene.maps, VIEWS_DEG, strict=True):
        drawing = maps.draw(mesh, View(azimuth, elevation), (96, 96))
        covered = drawing.raster.covered.numpy()
        hit = ~(mine[3:] == 255).all(0)
        assert (covered != hit).mean() < 0.01
        both = covered & hit
        for theirs, part in ((maps.normal_map(drawing), mine[3:6]), (maps.position_map(drawing), mine[6:])):
            difference = np.abs(maps.to_uint8(theirs)[both].astype(int) - part.transpose(1, 2, 0)[both])
            assert np.median(difference) <= 2
            assert difference.mean() < 8
        corners = vertices[faces[drawing.raster.face_ids.numpy()[both] - 1]]
        points = np.einsum("nk,nkc->nc", drawing.raster.barycentrics.numpy()[both], corners)
        difference = np.abs(255 * solid.albedo(points.astype(np.float64)) - mine[:3].transpose(1, 2, 0)[both])
        assert np.median(difference) <= 2
        assert difference.mean() < 8


def test_the_stream_is_a_function_of_its_numbers(pool):
    again = traced_block(3, 2, 1, 32)
    assert torch.equal(pool._scenes[2], torch.from_numpy(again[0]))
    assert not np.array_equal(training_scene(3, 2, 32).picture, training_scene(4, 2, 32).picture)


def test_a_full_pool_forgets_the_oldest():
    small = Pool(CPU, 0, capacity=3, size_px=8)
    for value in range(4):
        small.add(np.full((1, small._scenes.shape[1], 8, 8), value, np.uint8))
    assert len(small) == 3
    assert small.place() == {"block": 4, "offset": 0}
    assert small._scenes[:, 0, 0, 0].tolist() == [3, 1, 2]


def test_colours_vary_in_picture_and_albedo_alike(pool):
    batch = unpacked(pool._scenes)
    colours = torch.rand(len(batch), 3, 1, 1, generator=torch.Generator().manual_seed(0))
    picture = torch.cat([colours.expand(-1, -1, 32, 32), batch.picture[:, 3:]], 1)
    plain = replace(batch, picture=picture, albedo=colours[:, None].expand_as(batch.albedo))
    made = varied(plain, torch.Generator().manual_seed(1))
    shown, painted = made.picture[:, :3].mean((2, 3)), made.albedo.mean((1, 3, 4))
    torch.testing.assert_close(shown, painted, atol=0.01, rtol=0)
    assert (painted - colours[..., 0, 0]).abs().mean() > 0.05
    swapped = varied(plain, torch.Generator().manual_seed(1), gains=0.0).albedo.mean((1, 3, 4))
    torch.testing.assert_close(swapped.sort(1)[0], colours[..., 0, 0].sort(1)[0])


def test_the_autoencoder_learns(pool, networks, tmp_path):
    phase = AutoencoderPhase(networks, pool, torch.Generator().manual_seed(1), PaintOptions(batch_size=2))
    assert session(phase, tmp_path, 12).run()
    figures = records(tmp_path, "paint_vae")
    assert figures[-1]["mse"] < 0.8 * figures[0]["mse"]
    (latents,) = records(tmp_path, "latents")
    assert networks.scale == pytest.approx(latents["scale"], rel=1e-4) != 1.0
    assert networks.vae.config.scaling_factor == networks.scale


def test_the_unet_learns(pool, networks, tmp_path):
    options = PaintOptions(batch_size=4, free_share=0.25, noise_share=0.25)
    phase = ViewsPhase(networks, pool, torch.Generator().manual_seed(1), options)
    assert session(phase, tmp_path, 12).run()
    figures = records(tmp_path, "paint_unet")
    assert figures[-1]["pixel"] < 0.95 * figures[0]["pixel"]
    assert all(np.isfinite(list(figure.values())[2:]).all() for figure in figures)


def test_every_command_and_an_official_folder(tmp_path):
    run, out = str(tmp_path / "run"), tmp_path / "model"
    sizes = ["--batch", "2", "--vae-batch", "2", "--pool", "4", "--least", "4", "--log-every", "1"]
    assert main(["vae", "--out", run, "--steps", "1", *sizes, *MICRO]) == 0
    assert main(["unet", "--out", run, "--load", run, "--steps", "1", "--evaluations", "0", *sizes, *MICRO]) == 0
    assert main(["export", "--out", str(out), "--load", run, *MICRO]) == 0
    from hy3dgen.texgen.loading import load_paint_unet, load_vae

    folder = out / FOLDER
    networks = load_paint_unet(folder / "unet"), load_vae(folder / "vae")
    assert all(parameter.dtype == torch.float16 for network in networks for parameter in network.parameters())
    assert json.loads((folder / "model_index.json").read_text())["_class_name"] == "HunyuanPaintPipeline"
    assert main(["unet", "--out", run, "--steps", "1", *sizes, *MICRO]) == 2  # no autoencoder


def test_the_pipeline_paints_what_was_trained(networks, pool, tmp_path):
    """The exported folder, run by the package, gives the views that training scored."""
    with torch.no_grad():  # no noise from the posterior: training and package draw it differently
        networks.vae.quant_conv.weight[4:], networks.vae.quant_conv.bias[4:] = 0, -30
    export(networks, tmp_path)
    halves = {name: tensor.half().float() for name, tensor in networks.state_dict().items()}
    networks.load_state_dict(halves)
    config = configured(tmp_path, FOLDER, device="cpu")
    painter = Multiview_Diffusion_Net(config)
    assert painter.view_size == 32
    batch = unpacked(pool._scenes[:1])
    picture, *controls = (
        Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())
        for image in (batch.picture[0], *batch.normals[0], *batch.positions[0])
    )
    views = painter([picture], controls, CAMERAS)
    expected = score.painted(networks.eval(), prepared(batch))[0]
    for made, wanted in zip(views, expected, strict=True):
        difference = np.abs(np.array(made) / 255.0 - wanted.permute(1, 2, 0).numpy())
        assert difference.max() < 0.02


@pytest.mark.parametrize("kind", [AutoencoderPhase, ViewsPhase])
def test_preparing_has_no_effect_on_what_follows(kind, pool, networks):
    def first_loss(passes: int) -> torch.Tensor:
        phase = kind(networks, pool, torch.Generator().manual_seed(1), PaintOptions(batch_size=2))
        phase.prepare(passes)
        return phase.loss()[0].detach()

    assert torch.equal(first_loss(0), first_loss(2))


def test_scores_and_latent_scale_repeat(pool, networks, tmp_path):
    data, log = unpacked(pool._scenes[:2]), JsonLines(tmp_path / "log.jsonl", show=False)
    figures = score.scored(networks, data)
    assert figures == score.scored(networks, data)
    alone = score.coded(networks, data)
    assert alone == {name: value for name, value in figures.items() if name in alone} and len(alone) == 3
    scales = []
    for _ in range(2):
        AutoencoderPhase(networks, pool, torch.Generator().manual_seed(1), PaintOptions(batch_size=2)).finish(log)
        scales.append(networks.scale)
    assert scales[0] == scales[1]


def test_a_wrong_mean_colour_is_told_from_other_errors(pool, networks, monkeypatch):
    def painted(_: PaintNetworks, item: Prepared, *, from_noise: bool = False) -> torch.Tensor:
        wave = 0.02 * torch.cos(torch.arange(32.0) * torch.pi)
        return item.batch.albedo + 0.1 + wave

    monkeypatch.setattr(score, "painted", painted)
    figures = score.scored(networks, unpacked(pool._scenes[:3]))
    assert figures["unseen_db"] == pytest.approx(-10 * np.log10(0.1**2 + 0.02**2), abs=0.2)
    assert figures["level_unseen_db"] == pytest.approx(-10 * np.log10(0.02**2), abs=0.2)


def test_a_sheet_paints_its_scenes_once(pool, networks, monkeypatch):
    calls = []

    def painted(_: PaintNetworks, item: Prepared, *, from_noise: bool = False) -> torch.Tensor:
        calls.append(from_noise)
        return torch.full_like(item.guess.views, 0.25 if from_noise else 0.75)

    monkeypatch.setattr(score, "painted", painted)
    picture = score.sheet(networks, unpacked(pool._scenes[:3]))
    assert calls == [False, True]
    assert picture.shape == (3 * 4 * 32, 7 * 32, 3)
    painted_rows = picture.view(3, 4, 32, 7, 32, 3)[:, 2:, :, 1:]
    assert all((painted_rows[:, row] == value).any() for row, value in ((0, 191), (1, 64)))
