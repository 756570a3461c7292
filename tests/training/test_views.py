"""A model for several views: what each sample sees, training, the held-out set, export and the public pipeline."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

import hy3dgen
from benchmarks.shapes import shape
from benchmarks.shapes.look import SIDES
from hy3dgen.errors import ImageError, NoSurfaceError, UsageError
from hy3dgen.shapegen.models.conditioner import view_marks
from hy3dgen.shapegen.pipelines import Hunyuan3DDiTFlowMatchingPipeline
from hy3dgen.weights.locate import MANY_VIEWS_SUBFOLDER
from tests.training.conftest import micro_config, micro_networks
from tests.training.test_phases import Endless, session
from training import checkpoints, evaluate, sight
from training.__main__ import main
from training.export import WEIGHTS, export
from training.flow import FlowOptions, FlowPhase
from training.generator.stream import Lot
from training.networks import Networks, load_tensors, read_folder, views_of

ROOT = Path(__file__).resolve().parents[2]


def four_views(seed: int = 0) -> Networks:
    networks = micro_networks(seed)
    networks.num_views = 4
    generator = torch.Generator().manual_seed(seed)
    for weight in networks.model.parameters():
        if bool((weight == 0).all()) and weight.ndim > 1:  # what starts at zero: blocks would do nothing
            torch.nn.init.normal_(weight, std=0.1, generator=generator)
    networks = networks.half().float().eval()  # as exported
    networks.marks = view_marks(networks.image_encoder.hidden_size, 4)  # no weights
    return networks


def phase(lot: Lot, batch: int = 12, views: int = 4, **options: Any) -> FlowPhase:
    networks = micro_networks()
    networks.num_views = views
    chosen = FlowOptions(**{"batch_size": batch, "pool": 6, **options})
    return FlowPhase(networks, Endless(lot), torch.Generator().manual_seed(1), chosen)


def pictures(sides: int = 4) -> dict[str, Image.Image]:
    return {name: shape("mug", 1).turned(side).render(128) for side, name in enumerate(SIDES[:sides])}


def test_every_batch_has_the_same_mixture():
    generator = torch.Generator().manual_seed(0)
    marked = pairs = 0
    for _ in range(30):
        found = sight.groups(64, 4, generator)
        assert [tuple(group.sides.shape) for group in found] == [(34, 1), (10, 2), (10, 3), (10, 4)]
        assert [group.part.start for group in found[1:]] == [group.part.stop for group in found[:-1]]
        assert found[-1].part.stop == 64
        for group in found:
            assert bool((group.sides[:, 0] == 0).all() and (group.sides.diff(dim=1) > 0).all())
        assert all(bool(group.marked.all()) for group in found[1:])
        marked += int(found[0].marked.sum())
        pairs += torch.bincount(found[1].sides[:, 1], minlength=4)
    assert marked / (30 * 34) == pytest.approx(sight.MARKED, abs=0.05)
    assert pairs[0] == 0 and bool((pairs[1:] > 60).all()), "each of the other sides comes as often"
    with pytest.raises(UsageError, match="at least 6"):
        sight.groups(5, 4, generator)


def test_one_view_draws_nothing_and_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    found = sight.groups(3, 1, generator)
    assert torch.equal(generator.get_state(), before)
    fronts, tokens = torch.rand(3, 2, 2, 4), torch.rand(3, 5, 8)
    assert sight.pictures(fronts, None, found) is fronts
    [(part, context)] = sight.contexts(tokens, 3, found, torch.ones(4, 8))
    assert part == slice(0, 3) and torch.equal(context, tokens)


def test_each_sample_gets_its_own_sides_in_order():
    """Pictures that hold nothing but who and which side they are."""
    batch = 12
    fronts = torch.arange(batch).view(-1, 1, 1) * 10.0
    others = fronts[:, None] + torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1)
    found = sight.groups(batch, 4, torch.Generator().manual_seed(3))
    seen = sight.pictures(fronts, others, found)
    assert len(seen) == batch + 2 * (1 + 2 + 3)
    marks = torch.tensor([0.1, 0.2, 0.3, 0.4])[:, None]
    for group, (part, context) in zip(found, sight.contexts(seen, batch, found, marks), strict=True):
        assert part == group.part
        for row, sample, sides, marked in zip(context, range(batch)[part], group.sides, group.marked, strict=True):
            truth = 10.0 * sample + sides + (0.1 * (sides + 1) if marked else 0)
            torch.testing.assert_close(row[:, 0], truth.float(), rtol=0, atol=1e-5)


def test_several_views_are_learned(lot, tmp_path):
    running = phase(lot, reuse=1e9)
    first = [float(running.loss()[0].detach()) for _ in range(4)]
    loss, figures = running.loss()
    assert {"flow_1", "flow_2", "flow_3", "flow_4"} <= set(figures)
    loss.backward()
    gradients = {name: p.grad for name, p in running.networks.named_parameters() if p.grad is not None}
    assert gradients["conditioner.main_image_encoder.model.embeddings.cls_token"].abs().max() > 0
    running.networks.zero_grad()
    assert session(running, tmp_path, 24).run()
    last = [float(running.loss()[0].detach()) for _ in range(4)]
    assert sum(last) < 0.95 * sum(first)
    tensors, facts = checkpoints.read_shards(tmp_path)
    assert facts["num_views"] == 4 and not [name for name in tensors if "marks" in name]


def test_the_side_loss_is_about_fronts(lot):
    """The other sides' pictures must not move the side head: what it is asked lies behind the front."""
    grads = []
    for spoilt in (False, True):
        running = phase(lot, unconditional=1.0)
        running._fill()
        if spoilt:
            running._pool._kept["others"][:] = 0
        running.loss()[0].backward()
        grads.append(running.networks.side.weight.grad)
    torch.testing.assert_close(grads[0], grads[1], rtol=0, atol=1e-6)


@pytest.fixture
def few_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four shapes, one category."""
    monkeypatch.setattr(evaluate, "SHAPES_PER_CATEGORY", 4)
    monkeypatch.setattr(evaluate, "CATEGORIES", {"fruit": None})
    monkeypatch.setattr("training.commands.CATEGORIES", {"fruit": None})
    monkeypatch.setattr("benchmarks.scoring.PICTURE_PX", 64)


def test_half_of_the_held_out_shapes_are_seen_from_all_sides(tmp_path, monkeypatch, few_held_out):
    chosen = {"cells": 4, "categories": ("fruit",)}
    parts = [evaluate.held_out(28, every=1, views=4, rank=r, world=2, **chosen) for r in range(2)]
    assert [len(part) for part in parts] == [2, 2] and [part.around for part in parts] == [(0,), (0,)]
    around = parts[0].from_all_sides()
    assert around.pictures.shape == (1, 4, 3, 28, 28) and len(around) == 1
    assert torch.equal(around.pictures[:, 0], parts[0].pictures[:1])

    evaluate.write_pictures(tmp_path / "held.zip", 28, views=4)
    monkeypatch.setattr(evaluate, "preprocessed", None)  # nothing may be made again
    stored = evaluate.held_out(28, every=1, views=4, pictures=tmp_path / "held.zip", **chosen)
    assert stored.around == (0, 1)
    assert (stored.from_all_sides().pictures[0] - around.pictures[0]).abs().max() < 0.6 / 255
    plain = evaluate.held_out(28, every=1, pictures=tmp_path / "held.zip", **chosen)
    assert torch.equal(plain.pictures, stored.pictures) and plain.others is None and not plain.around


def test_a_share_without_views_from_all_sides_is_scored_too(few_held_out):
    data = evaluate.held_out(28, cells=4, every=1, categories=("fruit",), views=4, rank=2, world=4)
    assert not data.around
    assert evaluate.summary(data.from_all_sides().inside, data.from_all_sides(), Elsewhere())["count"] == 1


class Elsewhere:
    """Another process has one shape, this one none."""

    def gathered(self, mine: list) -> list:
        return [mine, [("fruit", {"iou": 1.0, "chamfer": 0.0})]]


def test_the_exported_folder_has_two_ways_and_one_file_of_weights(tmp_path):
    networks = four_views()
    written = export(networks, tmp_path)
    inner = tmp_path / MANY_VIEWS_SUBFOLDER
    assert inner / "config.yaml" in written and [p.name for p in inner.iterdir()] == ["config.yaml"]
    second = yaml.safe_load((inner / "config.yaml").read_text())
    first = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert second.pop("weights") == f"../{WEIGHTS}"
    assert second["conditioner"]["params"]["main_image_encoder"]["type"] == "DinoImageEncoderMV"
    assert {name for name in first if first[name] != second[name]} == {"conditioner", "image_processor"}
    assert views_of(tmp_path) == 4
    networks.num_views = 1
    export(networks, tmp_path)
    assert views_of(tmp_path) == 1, "the second config of another export must not stay"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    export(four_views(), folder)
    return folder


def pipeline(folder: Path, **options: Any) -> Hunyuan3DDiTFlowMatchingPipeline:
    return Hunyuan3DDiTFlowMatchingPipeline.from_pretrained(str(folder), device="cpu", dtype=torch.float32, **options)


QUICK: dict[str, Any] = {"num_inference_steps": 4, "guidance_scale": 3.0, "output_type": "latent", "seed": 0}


def test_the_public_pipeline_looks_at_every_view(exported):
    several = pipeline(exported, subfolder=MANY_VIEWS_SUBFOLDER)
    results = [several(pictures(count), **QUICK) for count in range(1, 5)]
    for one, two in itertools.combinations(results, 2):
        assert one.shape == (1, 16, 4) and not torch.allclose(one, two, atol=1e-4)
    other = dict(pictures(2), left=pictures(4)["right"])
    assert not torch.allclose(several(other, **QUICK), results[1], atol=1e-4)
    two = several([pictures(2), pictures(2)], **{**QUICK, "seed": [0, 0]})
    torch.testing.assert_close(two[1:], results[1], rtol=0, atol=1e-5)


def test_the_way_of_one_picture_is_unchanged(exported, tmp_path):
    """The front's mark is not zero (sine 0, cosine 1), so the multi-view way is no stand-in for the way of one
    picture, which keeps its own."""
    networks = four_views()
    networks.num_views = 1
    export(networks, tmp_path)
    single, plain = pipeline(exported), pipeline(tmp_path)
    front = pictures()["front"]
    assert torch.equal(single(front, **QUICK), plain(front, **QUICK))
    assert not torch.allclose(pipeline(exported, subfolder=MANY_VIEWS_SUBFOLDER)(front, **QUICK), plain(front, **QUICK))
    with pytest.raises(ImageError, match="multi-view model"):
        single(pictures(), **QUICK)


def test_pipeline_and_evaluation_sample_several_views_alike(exported):
    networks = four_views()
    data = evaluate.held_out(28, every=16, cells=8, categories=("mug",), views=4)
    noise = torch.randn(1, 16, 4, generator=torch.Generator().manual_seed(3))
    views = {name: shape("mug", 0).turned(side).render(512) for side, name in enumerate(SIDES)}
    options = {"num_inference_steps": 5, "guidance_scale": 3.0, "output_type": "latent", "latents": noise}
    theirs = pipeline(exported, subfolder=MANY_VIEWS_SUBFOLDER)(views, **options)
    with torch.inference_mode():
        mine = evaluate.sampled(networks, data.from_all_sides().pictures, noise, 3.0, 5)
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-4)


def test_training_and_pipeline_see_the_same_tokens(exported):
    networks = four_views()
    encoder = pipeline(exported, subfolder=MANY_VIEWS_SUBFOLDER).conditioner.main_image_encoder
    batch = 12
    fronts, others = torch.rand(batch, 3, 28, 28), torch.rand(batch, 3, 3, 28, 28)
    found = sight.groups(batch, 4, torch.Generator().manual_seed(0))
    with torch.inference_mode():
        tokens = networks.look(sight.pictures(fronts, others, found))
        for group, (part, context) in zip(found, sight.contexts(tokens, batch, found, networks.marks), strict=True):
            everything = torch.cat([fronts[part, None], others[part]], 1)
            rows = torch.arange(len(group.sides))[:, None]
            truth = encoder(everything[rows, group.sides], value_range=None, view_idxs=group.sides.tolist())
            torch.testing.assert_close(context[group.marked], truth[group.marked], rtol=0, atol=1e-5)


def test_the_commands_train_evaluate_and_export_several_views(tmp_path, few_held_out):
    """From a model for one view to one for four, by shards, and on without being told again."""
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(micro_config()))
    small = ["--device", "cpu", "--steps", "2", "--log-every", "1", "--block", "6"]
    vae, flow, out = (str(tmp_path / name) for name in ("vae", "flow", "model"))
    assert (
        main(
            ["vae", "--config", str(config), "--out", vae, "--points", "32", "--queries", "16", *small, "--batch", "2"]
        )
        == 0
    )
    small += ["--batch", "6", "--pool", "6"]
    assert main(["flow", "--load", vae, "--out", flow, "--fresh", *small]) == 0
    assert main(["flow", "--load", flow, "--out", flow, "--views", "4", *small]) == 0, "a pool of fronts is left behind"
    assert main(["flow", "--load", flow, "--out", flow, *small]) == 0
    state = checkpoints.read_state(tmp_path / "flow", torch.device("cpu"))
    assert state["num_views"] == 4 and state["samples"] == 36 and "others" in state["data"]["pool"]["kept"]
    assert main(["export", "--load", flow, "--out", out]) == 0
    assert views_of(Path(out)) == 4
    config_of, tensors = read_folder(Path(out))
    load_tensors(Networks(config_of, num_points=32), tensors)
    assert main(["flow", "--load", out, "--out", flow + "2", "--points", "32", *small, "--no-state"]) == 0
    assert checkpoints.read_shards(Path(flow + "2"))[1]["num_views"] == 4
    arguments = ["--load", out, "--out", out, "--device", "cpu", "--every", "4", "--guidance", "2"]
    assert main(["evaluate", *arguments]) == 0
    lines = [json.loads(line) for line in (Path(out) / "log.jsonl").read_text().splitlines()]
    assert [line.get("views", 1) for line in lines if line["kind"] == "evaluation"] == [1, 4]


def test_multiview_py_makes_the_shape_from_all_views(exported, tmp_path):
    """The script as a user runs it: the shape with two views is another than with the front alone."""
    for name, picture in pictures(2).items():
        picture.save(tmp_path / f"{name}.png")
    command = [sys.executable, str(ROOT / "multiview.py"), "--front", "front.png", "--model", str(exported)]
    command += ["--device", "cpu", "--keep", "kept", "--texture", "none", "--octree-resolution", "16", "--steps", "3"]
    here: dict[str, Any] = {"cwd": tmp_path, "env": {**os.environ, "HF_HUB_OFFLINE": "1"}}
    latents: list[torch.Tensor] = []
    for more in ([], ["--left", "left.png"]):
        done = subprocess.run([*command, *more], **here, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 3), done.stderr  # an untrained model may have no surface
        latents.append(load_file(tmp_path / "kept" / "latents.safetensors")["latents"])
    assert latents[0].shape == latents[1].shape == (1, 16, 4)
    options: dict[str, Any] = {**QUICK, "num_inference_steps": 3, "guidance_scale": 5.0}
    for views, made in zip((pictures(1)["front"], pictures(2)), latents, strict=True):
        several = isinstance(views, dict)
        pipe = pipeline(exported, **({"subfolder": MANY_VIEWS_SUBFOLDER} if several else {}))
        torch.testing.assert_close(made, pipe(views, **options), rtol=0, atol=1e-4)


def test_generate_makes_the_shape_from_all_views(exported, tmp_path):
    """``hy3dgen.generate`` did not say that several pictures come, so 'auto' and second configs passed them by."""
    with contextlib.suppress(NoSurfaceError):  # an untrained model may have none
        hy3dgen.generate(
            pictures(2), model=str(exported), device="cpu", texture="none", steps=3, guidance=3.0, octree_resolution=16,
            keep=tmp_path, preview=False,
        )  # fmt: skip
    made = load_file(tmp_path / "latents.safetensors")["latents"]
    truth = pipeline(exported, subfolder=MANY_VIEWS_SUBFOLDER)(pictures(2), **{**QUICK, "num_inference_steps": 3})
    torch.testing.assert_close(made, truth, rtol=0, atol=1e-4)
