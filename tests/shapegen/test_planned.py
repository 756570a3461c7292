"""A shape pipeline under a memory plan gives the same shape, with the levers of the plan and its ladder."""

import gc
from dataclasses import replace

import pytest
import torch

from hy3dgen.errors import OutOfMemoryError
from hy3dgen.runtime import compile as compiling
from hy3dgen.runtime import linear
from hy3dgen.runtime.costs import ShapeWork, Work, known_sizes, stage_costs
from hy3dgen.runtime.engine import Engine
from hy3dgen.runtime.machine import make_machine
from hy3dgen.runtime.plan import GIB, Placement, Plan, make_plan
from hy3dgen.runtime.stages import recording
from tests.runtime.memories import CountedMemory
from tests.shapegen import toys

CPU = torch.device("cpu")
MACHINE = make_machine("cuda", 24 * GIB, 24 * GIB, "desktop", 64 * GIB)


@pytest.fixture(autouse=True)
def one_kind_of_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU's packed products, which only networks without an engine use, round differently."""
    monkeypatch.setattr(linear, "available", lambda: False)


def plan(placement: Placement = "streamed", *, cfg_split: bool = False, chunk: int = 4000) -> Plan:
    """A plan for the toy model with these levers, whatever they would save."""
    work = Work(ShapeWork(known_sizes("nano"), 14_341_008, 500, 2, True, 16, "dense"))
    made = make_plan(24 * GIB, MACHINE, stage_costs(work))
    stages = [
        replace(
            stage,
            networks=tuple((name, placement) for name, _ in stage.networks),
            cfg_split=cfg_split and stage.name == "denoise",
            chunk=chunk if stage.name == "decode" else None,
        )
        for stage in made.stages
    ]
    return replace(made, stages=tuple(stages))


def sample(pipeline, **options) -> torch.Tensor:
    return pipeline(
        image=toys.picture(), num_inference_steps=2, seed=1, octree_resolution=16, output_type="latent", **options
    )


@pytest.mark.parametrize("placement", ["resident", "staged", "streamed", "disk"])
def test_the_latents_are_the_same_bits_at_every_placement(placement: Placement) -> None:
    pipeline = toys.pipeline()
    plain = sample(pipeline)
    memory = CountedMemory()
    pipeline.use_engine(Engine(plan(placement), CPU, memory=memory))
    with recording() as run:
        assert torch.equal(sample(pipeline), plain)
    gc.collect()
    assert memory.held == 0
    assert (memory.peak > 0) == (placement != "resident")
    levers = [lever for record in run.stages for lever in record.levers]
    assert len(levers) == (0 if placement == "resident" else 2)
    pipeline.use_engine(None)
    assert torch.equal(sample(pipeline), plain)


def test_the_plan_sets_guidance_and_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = toys.pipeline()
    pipeline.use_engine(Engine(plan(cfg_split=True, chunk=1234), CPU))
    seen = {}
    monkeypatch.setattr(
        type(pipeline._raw_vae.volume_decoder),
        "__call__",
        lambda self, latents, geo_decoder, **options: seen.update(options) or torch.zeros(1, 17, 17, 17),
    )
    with recording() as run:
        pipeline(image=toys.picture(), num_inference_steps=1, seed=1, octree_resolution=16)
    assert pipeline.cfg_split is True
    assert seen["num_chunks"] == 1234
    assert seen["tile_points"] == 16384
    [record] = [record for record in run.stages if record.name == "decode"]
    assert record.figures["tile_points"] == 16384


def test_a_stage_out_of_memory_goes_on_leaner_and_the_others_are_not_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipeline = toys.pipeline()
    plain = sample(pipeline)
    engine = Engine(plan("resident"), CPU, memory=CountedMemory())
    pipeline.use_engine(engine)
    model = pipeline.components["model"]
    calls = {"model": 0, "conditioner": 0}
    forward, encode = model.forward, pipeline.components["conditioner"].forward

    def fails_once(*args, **kwargs):
        calls["model"] += 1
        if calls["model"] == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
        return forward(*args, **kwargs)

    def counted(*args, **kwargs):
        calls["conditioner"] += 1
        return encode(*args, **kwargs)

    monkeypatch.setattr(model, "forward", fails_once)
    monkeypatch.setattr(pipeline.components["conditioner"], "forward", counted)
    with recording() as run:
        latents = sample(pipeline)
    assert torch.allclose(latents, plain, atol=1e-5)
    assert calls["conditioner"] == 1
    assert not engine.plan.all_resident
    assert [record.name for record in run.stages] == ["condition", "denoise"]
    assert any("leaner plan" in warning for warning in run.stages[1].warnings)


def test_a_stage_that_never_fits_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = toys.pipeline()
    pipeline.use_engine(Engine(plan("staged"), CPU, memory=CountedMemory(limit_bytes=100)))
    with pytest.raises(OutOfMemoryError, match="condition ran out of device memory"):
        sample(pipeline)


@pytest.mark.slow
@pytest.mark.skipif(compiling.unavailable(CPU) is not None, reason="no C++ compiler")
def test_compiled_blocks_give_the_same_shape_also_when_streamed(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    pipeline = toys.pipeline()
    plain = sample(pipeline)
    pipeline.compile()
    assert compiling.is_compiled(pipeline.components["model"])
    with recording() as run:
        assert torch.allclose(sample(pipeline), plain, atol=1e-3)
        pipeline.use_engine(Engine(plan("streamed"), CPU, memory=CountedMemory()))
        assert torch.allclose(sample(pipeline), plain, atol=1e-3)
    assert not [warning for record in run.stages for warning in record.warnings]
