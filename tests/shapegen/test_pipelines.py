"""The pipeline classes on toy networks: old call styles, exact savings, clear refusals."""

from __future__ import annotations

import inspect
import logging
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh

from hy3dgen.errors import (
    Cancelled,
    ImageError,
    NumericalError,
    UsageError,
    WeightsDamagedError,
    WeightsNotFoundError,
)
from hy3dgen.runtime.stages import recording
from hy3dgen.shapegen import sampling
from hy3dgen.shapegen.models.autoencoders.surface_extractors import Latent2MeshOutput
from hy3dgen.shapegen.pipelines import (
    Hunyuan3DDiTFlowMatchingPipeline,
    Hunyuan3DDiTPipeline,
    export_to_trimesh,
    get_obj_from_str,
    instantiate_from_config,
)
from tests.shapegen import toys

ROOT = Path(__file__).parents[2]


def run(pipe: Any, **options: Any) -> torch.Tensor:
    defaults: dict[str, Any] = {"image": toys.picture(), "num_inference_steps": 4, "seed": 1, "output_type": "latent"}
    return pipe(**{**defaults, **options})


# ---- public face ---------------------------------------------------------------------------------------------------


def test_importing_the_package_is_light() -> None:
    """The reference imported pymeshlab and scikit-image with ``import hy3dgen.shapegen``."""
    code = (
        "import sys, hy3dgen.shapegen as s; dir(s); heavy = {'torch', 'pymeshlab', 'transformers', 'diffusers'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "s.Hunyuan3DDiTFlowMatchingPipeline; heavy -= {'torch'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_parameters_and_defaults_are_the_published_ones() -> None:
    call = inspect.signature(Hunyuan3DDiTFlowMatchingPipeline.__call__).parameters
    positional = {name: p.default for name, p in call.items() if p.kind is p.POSITIONAL_OR_KEYWORD and name != "self"}
    assert list(positional.items()) == [
        ("image", None), ("num_inference_steps", 50), ("timesteps", None), ("sigmas", None), ("eta", 0.0),
        ("guidance_scale", 5.0), ("generator", None), ("box_v", 1.01), ("octree_resolution", 384), ("mc_level", 0.0),
        ("mc_algo", None), ("num_chunks", 8000), ("output_type", "trimesh"), ("enable_pbar", True),
    ]  # fmt: skip
    base = inspect.signature(Hunyuan3DDiTPipeline.__call__).parameters
    assert base["guidance_scale"].default == 7.5 and base["mc_level"].default == -1 / 512
    load = {name: p.default for name, p in inspect.signature(Hunyuan3DDiTPipeline.from_pretrained).parameters.items()}
    assert load["use_safetensors"] is True and load["variant"] == "fp16" and load["subfolder"] == "hunyuan3d-dit-v2-0"
    assert load["device"] is None and load["dtype"] is None  # C1: not 'cuda'


def test_config_targets_resolve_to_our_classes_only() -> None:
    """C3: the reference imported whatever a downloaded file named."""
    ours = get_obj_from_str("hy3dgen.shapegen.models.Hunyuan3DDiT")
    assert get_obj_from_str("hy3dshape.models.denoisers.hunyuan3ddit.Hunyuan3DDiT") is ours
    assert get_obj_from_str("thirdparty.hy3dgen.shapegen.models.Hunyuan3DDiT") is ours
    for target in ("os.system", "hy3dgen.shapegen.models.os", "hy3dgen.Hunyuan3DDiT", "torch.nn.Linear", "ShapeVAE"):
        with pytest.raises(UsageError, match="is not imported"):
            get_obj_from_str(target)
    with pytest.raises(UsageError, match=r"did you mean .*Hunyuan3DDiT"):
        get_obj_from_str("hy3dgen.shapegen.models.Hunyuan3DDit")
    with pytest.raises(KeyError, match="target"):
        instantiate_from_config({"params": {}})
    processor = instantiate_from_config(
        {"target": "hy3dgen.shapegen.preprocessors.ImageProcessorV2", "params": {"size": 40}}, size=50, border_ratio=0.3
    )
    assert processor.size == 40 and processor.border_ratio == 0.3
    with pytest.raises(WeightsDamagedError, match="do not fit"):
        instantiate_from_config({"target": "hy3dgen.shapegen.models.ShapeVAE", "params": {"wdith": 3}})


def test_exporting_twice_gives_the_same_mesh_twice() -> None:
    """C11: the reference turned the faces of the object it was given, so that a second export was inside out."""
    box = trimesh.creation.box()
    output = Latent2MeshOutput(mesh_v=box.vertices.astype(np.float32), mesh_f=box.faces[:, ::-1].copy())
    first, second = export_to_trimesh(output), export_to_trimesh([output, None])
    assert first.volume > 0 and second[0].volume == first.volume and second[1] is None
    assert np.array_equal(output.mesh_f, box.faces[:, ::-1])


# ---- loading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_folder_loads_ready_to_use(tmp_path: Path, dtype: torch.dtype) -> None:
    folder = toys.write_folder(tmp_path / "model")
    pipe = Hunyuan3DDiTFlowMatchingPipeline.from_pretrained(str(folder), device="cpu", dtype=dtype)
    for network in (pipe.vae, pipe.model, pipe.conditioner):
        tensors = [*network.parameters(), *network.buffers()]
        assert not network.training and not any(tensor.is_meta or tensor.requires_grad for tensor in tensors)
        assert {tensor.dtype for tensor in tensors if tensor.is_floating_point()} == {dtype}
    assert pipe.kwargs["from_pretrained_kwargs"]["model_path"] == str(folder)
    assert pipe.vae.latent_shape == (16, 6)


def test_a_folder_and_its_parts_in_memory_give_the_same_latents(tmp_path: Path) -> None:
    folder = toys.write_folder(tmp_path / "model", dtype=torch.float32)
    loaded = Hunyuan3DDiTFlowMatchingPipeline.from_pretrained(str(folder), device="cpu")
    assert torch.equal(run(loaded), run(toys.pipeline()))


def test_a_given_part_is_used_and_not_loaded(tmp_path: Path) -> None:
    folder = toys.write_folder(tmp_path / "model")
    mine = toys.networks(toys.config())["vae"]
    pipe = Hunyuan3DDiTFlowMatchingPipeline.from_pretrained(str(folder), device="cpu", vae=mine)
    assert pipe.vae is mine and pipe.components["vae"] is mine


def test_weight_files_are_found_as_the_reference_names_them(tmp_path: Path) -> None:
    folder = toys.write_folder(tmp_path / "my.ckpt.model")
    load = Hunyuan3DDiTFlowMatchingPipeline.from_single_file
    config, weights = str(folder / "config.yaml"), str(folder / "model.fp16.ckpt")
    assert load(weights, config, device="cpu", use_safetensors=True).dtype == torch.float32
    with pytest.raises(WeightsNotFoundError, match=r"model\.fp16\.ckpt does not exist"):
        load(weights, config, device="cpu")
    with pytest.raises(TypeError, match="did you mean 'vae'"):
        load(weights, config, vea=None)


# ---- sampling ------------------------------------------------------------------------------------------------------


def test_leaving_out_the_idle_last_step_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """B1: the reference evaluated the denoiser for a step of length zero."""
    calls: list[int] = []
    pipe = toys.pipeline()
    pipe.model.register_forward_hook(lambda *_: calls.append(1))
    short = run(pipe)
    assert len(calls) == 3
    monkeypatch.setattr(sampling, "is_last_step_idle", lambda _: False)
    assert torch.equal(run(pipe), short) and len(calls) == 7
    half = toys.pipeline(dtype=torch.float16)
    whole = run(half)
    monkeypatch.undo()
    assert torch.equal(run(half), whole)
    assert len(calls) == 7 and torch.isfinite(run(pipe, num_inference_steps=1)).all() and len(calls) == 8


def test_the_last_step_of_the_turbo_scheduler_is_kept() -> None:
    calls: list[int] = []
    pipe = toys.pipeline(distilled=True, turbo=True)
    pipe.model.register_forward_hook(lambda *_: calls.append(1))
    run(pipe, num_inference_steps=5)
    assert len(calls) == 5


def test_guidance_halves_one_after_the_other_give_the_same(tmp_path: Path) -> None:
    """A11."""
    pipe = toys.pipeline()
    sizes: list[int] = []
    pipe.model.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    torch.testing.assert_close(run(pipe, cfg_split=True), run(pipe, cfg_split=False), rtol=1e-4, atol=5e-5)
    assert sizes == [1] * 6 + [2] * 3


def test_guidance_runs_both_branches_down_to_zero_and_not_below() -> None:
    """D: 0 and 1 still evaluate the network without the picture; only a negative scale does not."""
    sizes: list[int] = []
    pipe = toys.pipeline()
    pipe.model.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    for scale in (0, 1.0, -1):
        run(pipe, guidance_scale=scale, num_inference_steps=2)
    assert sizes == [2, 2, 1]


def test_a_distilled_model_takes_the_scale_as_an_input() -> None:
    seen: list[Any] = []
    pipe = toys.pipeline(distilled=True)
    pipe.model.register_forward_pre_hook(lambda _, args, kwargs: seen.append((len(args[0]), kwargs)), with_kwargs=True)
    first = run(pipe, guidance_scale=5.0, num_inference_steps=2)
    assert seen[0][0] == 1 and seen[0][1]["guidance"].tolist() == [5.0]
    assert not torch.equal(first, run(pipe, guidance_scale=7.0, num_inference_steps=2))


def test_time_is_rounded_in_half_precision_before_it_is_divided() -> None:
    """E16: weights see 0.51025390625 at step 25 of 50, not the nearest half to 0.5102."""
    timestep = torch.linspace(0, 1, 50, dtype=torch.float64)[25].float() * 1000
    assert sampling.model_time(timestep, 2, torch.float16, 1000).tolist() == [0.51025390625] * 2


def test_the_same_seed_gives_the_same_latents() -> None:
    pipe = toys.pipeline()
    assert torch.equal(run(pipe, seed=3), run(pipe, generator=torch.Generator().manual_seed(3), seed=None))
    assert not torch.equal(run(pipe, seed=3), run(pipe, seed=4))
    state = torch.get_rng_state()
    run(pipe, seed=3)
    assert torch.equal(torch.get_rng_state(), state)  # C14: the process is not seeded


def test_one_generator_per_picture() -> None:
    pipe, both = toys.pipeline(), [toys.picture(), toys.picture(64)]
    batch = run(pipe, image=both, seed=[3, 4])
    for index, seed in enumerate((3, 4)):
        torch.testing.assert_close(
            batch[index : index + 1], run(pipe, image=both[index], seed=seed), rtol=1e-4, atol=1e-5
        )
    with pytest.raises(UsageError, match="3 generators were given for a batch of 2"):
        run(pipe, image=both, seed=[1, 2, 3])
    with pytest.raises(UsageError, match="whole number"):
        run(pipe, seed="tomorrow")


def test_own_noise_and_own_times() -> None:
    pipe = toys.pipeline()
    noise = torch.randn(1, 16, 6, generator=torch.Generator().manual_seed(1))
    assert torch.equal(run(pipe, latents=noise, seed=None), run(pipe))
    assert torch.equal(run(pipe, sigmas=[0, 1 / 3, 2 / 3, 1]), run(pipe))  # a list, which the reference refused
    with pytest.raises(UsageError, match=r"starts from \(1, 16, 6\)"):
        run(pipe, latents=noise[:, :5])


def test_a_callback_sees_every_step() -> None:
    """The reference failed on a callback without callback_steps."""
    seen: list[tuple[int, float, Any]] = []
    last = run(toys.pipeline(), callback=lambda i, t, out: seen.append((i, float(t), out.prev_sample.clone())))
    assert [index for index, _, _ in seen] == [0, 1, 2, 3] and seen[3][1] == 1000
    assert torch.equal(seen[3][2], last)
    seen.clear()
    run(toys.pipeline(), callback=lambda i, t, out: seen.append((i, float(t), out)), callback_steps=2)
    assert [index for index, _, _ in seen] == [0, 2]


def test_cancelling_stops_within_one_step() -> None:
    event, seen = threading.Event(), []
    pipe = toys.pipeline()

    def callback(index: int, *_: Any) -> None:
        seen.append(index)
        event.set()

    with pytest.raises(Cancelled):
        run(pipe, num_inference_steps=9, callback=callback, cancel_event=event)
    assert seen == [0]
    assert torch.isfinite(run(pipe)).all()  # still usable


def test_stages_are_recorded() -> None:
    with recording() as record:
        toys.pipeline()(image=toys.picture(), num_inference_steps=3, seed=1, octree_resolution=8)
    assert [stage.name for stage in record.stages] == ["condition", "denoise", "decode", "extract"]
    assert record.stages[1].steps_done == record.stages[1].steps_total == 3


def test_nan_in_half_precision_repeats_the_stage_wider() -> None:
    pipe = toys.pipeline(dtype=torch.float16)

    def overflow(_module: Any, _args: Any, output: torch.Tensor) -> torch.Tensor:
        return output * torch.inf if output.dtype == torch.float16 else output

    noise = torch.randn(1, 16, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float16)
    expected = run(toys.pipeline(dtype=torch.bfloat16), latents=noise)
    pipe.model.register_forward_hook(overflow)
    with recording() as record:
        latents = run(pipe)
    [denoise] = [stage for stage in record.stages if stage.name == "denoise"]
    assert "repeated in bfloat16" in denoise.warnings[0]
    assert latents.dtype == torch.float16 and torch.isfinite(latents).all()
    assert (latents.float() - expected.float()).abs().mean() < 0.05  # the condition was encoded in another dtype
    pipe.model.register_forward_hook(lambda _m, _a, output: output * torch.nan)
    with pytest.raises(NumericalError, match="latents"):
        run(pipe)


# ---- placement -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("from_file", [True, False])
def test_offloading_keeps_one_network_at_a_time(tmp_path: Path, from_file: bool) -> None:
    """C18, A4: the reference's method failed, and all networks stayed on the device."""
    folder = toys.write_folder(tmp_path / "model")
    load = Hunyuan3DDiTFlowMatchingPipeline.from_pretrained
    pipe = load(str(folder), device="cpu", dtype=torch.float32) if from_file else toys.pipeline()
    expected = run(load(str(folder), device="cpu")) if from_file else run(toys.pipeline())
    pipe.enable_model_cpu_offload()
    resident: list[list[str]] = []

    def look(*_: Any) -> None:
        homes = pipe._placement._residencies
        resident.append([name for name in homes if homes[name].is_resident])

    pipe.components["model"].register_forward_hook(look)
    pipe.components["conditioner"].register_forward_hook(look)
    pipe.components["vae"].geo_decoder.register_forward_hook(look)
    assert torch.equal(run(pipe), expected)
    assert resident == [["conditioner"]] + [["model"]] * 3
    pipe(image=toys.picture(), num_inference_steps=2, seed=1, octree_resolution=8)
    assert all(names == ["vae"] for names in resident[6:])
    look()
    assert resident[-1] == []
    pipe.maybe_free_model_hooks()
    assert pipe._execution_device == torch.device("cpu")


def test_offloading_refuses_two_indices() -> None:
    with pytest.raises(ValueError, match="both name an index"):
        toys.pipeline().enable_model_cpu_offload(gpu_id=1, device="cuda:0")


def test_a_memory_engine_can_do_the_placing(tmp_path: Path) -> None:
    import contextlib

    pipe = Hunyuan3DDiTFlowMatchingPipeline.from_pretrained(str(toys.write_folder(tmp_path / "m")), device="cpu")
    expected, used = run(pipe), []

    class Engine:
        @contextlib.contextmanager
        def using(self, name: str, network: torch.nn.Module) -> Any:
            used.append((name, next(network.parameters()).dtype))
            yield

    pipe.use_placer(Engine())
    torch.testing.assert_close(run(pipe), expected, rtol=1e-4, atol=5e-5)  # without the faster CPU products
    assert used == [("conditioner", torch.float32), ("model", torch.float32)]


def test_to_returns_the_pipeline() -> None:
    """C13."""
    pipe = toys.pipeline()
    assert pipe.to("cpu") is pipe and pipe.to(torch.float16) is pipe
    assert pipe.dtype == torch.float16 == next(pipe.model.parameters()).dtype
    assert pipe.to(dtype=torch.float32).to(device="cpu").dtype == torch.float32
    with pytest.raises(UsageError, match="unknown device"):
        pipe.to("gpu0")


def test_num_latents_follows_the_installed_vae() -> None:
    """D."""
    pipe = toys.pipeline()
    pipe.vae.latent_shape = (8, 6)
    assert run(pipe).shape == (1, 8, 6)


def test_flashvdm_works_for_any_source(tmp_path: Path) -> None:
    """C19: the reference needed from_pretrained, and replaced the VAE by a float16 one."""
    pipe = toys.pipeline()
    vae = pipe.vae
    pipe.enable_flashvdm()
    assert type(vae.volume_decoder).__name__ == "FlashVDMVolumeDecoding" and pipe.vae is vae
    pipe.enable_flashvdm(enabled=False)
    assert type(vae.volume_decoder).__name__ == "VanillaVolumeDecoder"
    loaded = Hunyuan3DDiTFlowMatchingPipeline.from_pretrained(str(toys.write_folder(tmp_path / "m")), device="cpu")
    loaded.enable_flashvdm(topk_mode="merge", mc_algo="mc")
    loaded.enable_flashvdm(adaptive_kv_selection=False)
    assert type(loaded.vae.volume_decoder).__name__ == "HierarchicalVolumeDecoding"


def test_flashvdm_replaces_the_vae_of_published_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The small decoder comes in the pipeline's dtype, and the old VAE is dropped first (A12, C19)."""
    models = tmp_path / "models" / "tencent" / "Hunyuan3D-2mini"
    monkeypatch.setenv("HY3DGEN_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    toys.write_folder(models / "hunyuan3d-dit-v2-mini")
    for name in ("hunyuan3d-vae-v2-mini-turbo", "hunyuan3d-vae-v2-mini"):
        toys.write_folder(models / name)
    pipe = Hunyuan3DDiTFlowMatchingPipeline.from_pretrained(
        "tencent/Hunyuan3D-2mini", device="cpu", subfolder="hunyuan3d-dit-v2-mini"
    )
    first = pipe.vae
    pipe.enable_flashvdm()
    second = pipe.vae
    assert second is not first and next(second.parameters()).dtype == torch.float32
    pipe.enable_flashvdm(enabled=False)
    assert pipe.vae is not second and type(pipe.vae.volume_decoder).__name__ == "VanillaVolumeDecoder"
    pipe.enable_flashvdm(replace_vae=False)
    assert pipe.vae is not second


def test_the_decoder_and_the_extractor_can_be_chosen() -> None:
    pipe = toys.pipeline()
    for name, cls in (("dense", "Vanilla"), ("hierarchical", "Hierarchical"), ("flashvdm", "FlashVDM")):
        pipe.set_decoder(name)
        assert type(pipe.vae.volume_decoder).__name__.startswith(cls)
    with pytest.raises(UsageError, match="dense, hierarchical, flashvdm"):
        pipe.set_decoder("fast")
    run(pipe, mc_algo="dmc")
    assert type(pipe.vae.surface_extractor).__name__ == "DMCSurfaceExtractor"
    run(pipe)  # D: an mc_algo stays for later calls
    assert type(pipe.vae.surface_extractor).__name__ == "DMCSurfaceExtractor"
    with pytest.raises(ValueError, match="unknown surface extraction 'mcc'"):
        run(pipe, mc_algo="mcc")


# ---- refusals ------------------------------------------------------------------------------------------------------


def test_an_unknown_keyword_names_the_nearest() -> None:
    """C12: a typo had no effect and no message."""
    pipe = toys.pipeline()
    with pytest.raises(TypeError, match="did you mean 'octree_resolution'"):
        run(pipe, octree_res=256)
    with pytest.warns(UserWarning, match="texture, face_count"):
        run(pipe, texture=True, face_count=10)
    with pytest.warns(UserWarning, match="no effect"):
        run(pipe, eta=0.5)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"num_inference_steps": 0}, "num_inference_steps is 0"),
        ({"octree_resolution": 1.5}, "octree_resolution is 1.5"),
    ],
)
def test_numbers_that_make_no_sense(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        run(toys.pipeline(), **options)


def test_pictures_that_are_not_there(tmp_path: Path) -> None:
    """C16, C17: the reference looked at a single path only, and took None for a picture."""
    pipe = toys.pipeline()
    for image in ("nowhere.png", ["nowhere.png"], Path("nowhere.png")):
        with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
            run(pipe, image=image)
    for image, complaint in ((None, "no picture"), ([], "empty"), ({"front": toys.picture()}, "one picture")):
        with pytest.raises(ImageError, match=complaint):
            run(pipe, image=image)


def test_views() -> None:
    pipe, ball = toys.pipeline(views=True), toys.picture()
    assert run(pipe, image={"left": ball, "front": ball}).shape == (1, 16, 6)
    assert run(pipe, image=[{"front": ball, "back": ball}, {"front": ball, "left": ball}]).shape == (2, 16, 6)
    assert torch.equal(run(pipe, image=ball), run(pipe, image={"front": ball, "back": None}))
    with pytest.raises(ImageError, match="same number of views, found"):
        run(pipe, image=[{"front": ball}, {"front": ball, "left": ball}])
    with pytest.raises((ImageError, UsageError), match="front, left, back, right"):
        run(pipe, image={"top": ball})
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        run(pipe, image={"front": "gone.png"})


def test_the_base_class_says_which_class_to_use() -> None:
    """E13: it failed on the scheduler's missing method."""
    pipe = toys.pipeline()
    base = Hunyuan3DDiTPipeline(**pipe.components, device="cpu", dtype=torch.float32)
    with pytest.raises(UsageError, match="Hunyuan3DDiTFlowMatchingPipeline"):
        base(image=toys.picture())


def test_timesteps_can_be_asked_for_one_way_only() -> None:
    scheduler = toys.pipeline().scheduler
    with pytest.raises(ValueError, match="not both"):
        sampling.retrieve_timesteps(scheduler, 4, timesteps=[1], sigmas=[1])
    with pytest.raises(ValueError, match="no custom timesteps"):
        sampling.retrieve_timesteps(scheduler, 4, timesteps=[1])
    times, count = sampling.retrieve_timesteps(scheduler, 4)
    assert count == 4 and len(times) == 4


def test_the_timer_works_without_cuda_and_nested(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """C9: it needed CUDA, and a decorated function that called itself lost its state."""
    from hy3dgen.shapegen.utils import synchronize_timer

    @synchronize_timer("count")
    def count(n: int) -> int:
        return n if n == 0 else count(n - 1)

    with synchronize_timer("off") as elapsed:
        pass
    assert elapsed is None
    monkeypatch.setenv("HY3DGEN_DEBUG", "1")
    with caplog.at_level(logging.INFO):
        assert count(2) == 0
        with synchronize_timer("block") as elapsed:
            pass
    assert elapsed is not None and elapsed() >= 0 and caplog.text.count("count takes") == 3
