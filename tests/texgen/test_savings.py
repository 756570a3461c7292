"""What is left out by construction, and what happens when half precision fails."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.backends.cuda import cudnn_sdp_enabled

from hy3dgen.errors import NumericalError, UsageError
from hy3dgen.runtime.stages import recording, stage
from hy3dgen.texgen import loading
from hy3dgen.texgen.hunyuanpaint.unet.modules import wrapped_blocks
from hy3dgen.texgen.residency import OnDemand
from hy3dgen.texgen.savings import apply_strips, attention_backend, set_tile_size
from hy3dgen.texgen.utils.dehighlight_utils import recorrect_rgb
from hy3dgen.texgen.utils.multiview_utils import Multiview_Diffusion_Net
from tests.texgen.stand_ins import painter_of, remover_of, settings
from tests.texgen.tiny import PAINT, TURBO, VIEW_PX

MAPS = [Image.new("RGB", (VIEW_PX, VIEW_PX), (i * 20, 90, 200)) for i in range(4)]
PICTURE = Image.new("RGB", (VIEW_PX, VIEW_PX), (200, 90, 20))


def painter(root: Path, folder: str = PAINT, steps: int = 3) -> Multiview_Diffusion_Net:
    name = "hunyuanpaint-turbo" if folder == TURBO else "hunyuanpaint"
    return Multiview_Diffusion_Net(
        settings(multiview_ckpt_path=root / folder, pipe_name=name, multiview_inference_steps=steps)
    )


def count_calls(module: nn.Module, calls: list[tuple[int, ...]]) -> None:
    module.register_forward_pre_hook(lambda m, args: calls.append(tuple(args[0].shape)))


def test_each_network_runs_no_more_than_it_must(checkpoint: Path) -> None:
    """Reference stream: once, conditional half only, to its last norm1. Text and reference keys: once a layer."""
    paint = painter(checkpoint)
    unet = paint.pipeline.unet
    *_, last = wrapped_blocks(unet.unet_dual)
    first = next(wrapped_blocks(unet.unet))
    calls: dict[str, list[tuple[int, ...]]] = {}
    for name, module in {
        "dual": unet.unet_dual.conv_in, "main": unet.unet.conv_in, "dual end": unet.unet_dual.conv_out,
        "last attention": last.transformer.attn1.to_q, "text keys": first.transformer.attn2.to_k,
        "text queries": first.transformer.attn2.to_q, "reference keys": first.attn_refview.to_k,
        "reference queries": first.attn_refview.to_q,
    }.items():  # fmt: skip
        count_calls(module, calls.setdefault(name, []))
    paint([PICTURE, PICTURE], MAPS, [12, 15])
    assert [shape[0] for shape in calls["dual"]] == [2], "two pictures, one pass"
    assert [shape[0] for shape in calls["main"]] == [4] * 3, "two halves of two views, three steps"
    assert calls["dual end"] == [] and calls["last attention"] == []
    width, pixels = calls["text keys"][0][-1], (VIEW_PX // 4) ** 2
    assert calls["text keys"] == [(1, 77, width)]
    assert [shape[:2] for shape in calls["reference keys"]] == [(1, 2 * pixels)]
    assert [shape[:2] for shape in calls["text queries"]] == [(1, 2 * pixels)] * 3, "conditional half only"
    assert [shape[:2] for shape in calls["reference queries"]] == [(1, 2 * pixels)] * 3


def test_one_network_at_a_time(checkpoint: Path) -> None:
    """While one network runs, every other one is at home; afterwards all are."""
    paint = painter(checkpoint, TURBO, steps=2)
    stay = paint.pipeline.residency
    inside: list[set[int]] = []
    for network in (paint.pipeline.unet.unet, paint.pipeline.unet.unet_dual):
        network.register_forward_pre_hook(
            lambda module, args: inside.append({id(m) for m, r in stay._residencies.items() if r.is_resident})
        )
    paint([PICTURE], MAPS, [12, 15])
    assert inside[0] == {id(paint.pipeline.unet.unet_dual)}
    assert all(present == {id(paint.pipeline.unet.unet)} for present in inside[1:]) and len(inside) == 3
    assert not any(r.is_resident for r in stay._residencies.values())


def test_the_encoder_comes_once_for_all_pictures(checkpoint: Path) -> None:
    """References, normals and positions brought it three times."""
    paint = painter(checkpoint, TURBO, steps=2)
    encoder, came = paint.pipeline.vae.encoder, []

    class Placer:
        @contextlib.contextmanager
        def using(self, name: str, network: nn.Module) -> Iterator[None]:
            came.append(name)
            yield

    paint.pipeline.residency.placer = Placer()
    shapes: list[tuple[int, ...]] = []
    count_calls(encoder, shapes)
    paint([PICTURE], MAPS, [12, 15])
    assert len(shapes) >= 3 and came.count("paint_vae_encoder") == 2, "its two parts, once each"
    assert came.count("paint_vae_decoder") == 2 and came.count("paint_unet") == 1


def test_a_visit_inside_a_visit_changes_nothing() -> None:
    network, other = nn.Linear(4, 4), nn.Linear(4, 4)
    stay = OnDemand(torch.device("cpu"), torch.float64)
    with stay.visit("network", network):
        with stay.visit("both", network, other):
            assert network.weight.dtype == other.weight.dtype == torch.float64
        assert network.weight.dtype == torch.float64 and other.weight.dtype == torch.float32
        with pytest.raises(ValueError, match="stopped"), stay.visit("network", network):
            raise ValueError("stopped")
        assert network.weight.dtype == torch.float64
    assert network.weight.dtype == torch.float32
    with stay.visit("network", network):
        assert network.weight.dtype == torch.float64


def test_released_parts_come_back() -> None:
    """Leaving a device restores the very tensors of the file, also after an early release."""
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)).requires_grad_(False)
    home = network[0].weight.data_ptr()
    stay = OnDemand(torch.device("cpu"), torch.float64)
    for _ in range(2):
        with stay.visit("network", network):
            assert network[0].weight.dtype == torch.float64
            stay.release(network[0])
            assert network[0].weight.dtype == torch.float32 and network[1].weight.dtype == torch.float64
        assert network[1].weight.dtype == torch.float32 and network[0].weight.data_ptr() == home


class Fragile:
    """A paint pipeline that fails in half precision: with NaN, or with black views."""

    is_turbo = False

    def __init__(self, how: str, broken: tuple[torch.dtype, ...]) -> None:
        self.how, self.broken = how, broken
        self.residency = OnDemand(torch.device("cpu"), torch.float16)
        self.used: list[torch.dtype] = []

    def __call__(self, *_: Any, **__: Any) -> Any:
        self.used.append(self.residency.dtype)
        if self.residency.dtype not in self.broken:
            return SimpleNamespace(images=[Image.new("RGB", (4, 4), (9, 9, 9))])
        if self.how == "nan":
            raise NumericalError("the latents of the painted views: 3 of 4 values are NaN or Inf in float16")
        return SimpleNamespace(images=[Image.new("RGB", (4, 4), (9, 9, 9)), Image.new("RGB", (4, 4))])


@pytest.mark.parametrize("how", ["nan", "black"])
def test_bad_views_are_painted_again_in_float32(how: str) -> None:
    """Black textures: half precision overflowed, and nothing was said."""
    fragile = Fragile(how, (torch.float16,))
    with recording() as run, stage("views"):
        (view,) = painter_of(fragile, size_px=4)([PICTURE], MAPS, [12, 15])
    assert fragile.used == [torch.float16, torch.float32] and fragile.residency.dtype == torch.float16
    assert np.array(view).max() == 9
    (warning,) = run.stages[0].warnings
    assert "float32" in warning and ("NaN" in warning or "black" in warning)


def test_views_that_stay_bad() -> None:
    both = (torch.float16, torch.float32)
    with pytest.raises(NumericalError, match="NaN"):
        painter_of(Fragile("nan", both), size_px=4)([PICTURE], MAPS, [12, 15])
    with recording() as run, stage("views"):
        views = painter_of(Fragile("black", both), size_px=4)([PICTURE], MAPS, [12, 15])
    assert len(views) == 2 and "[1]" in run.stages[0].warnings[-1]


def test_nan_in_the_networks_is_noticed(checkpoint: Path) -> None:
    paint = painter(checkpoint, steps=1)
    with torch.no_grad():
        bias = paint.pipeline.unet.unet.conv_out.bias
        paint.pipeline.unet.unet.conv_out.bias = nn.Parameter(torch.full_like(bias, float("nan")), requires_grad=False)
    with pytest.raises(NumericalError, match="painted views"):
        paint([PICTURE], MAPS, [12, 15])


class BlackDelight:
    def __init__(self, broken: tuple[torch.dtype, ...]) -> None:
        self.broken = broken
        self.residency = OnDemand(torch.device("cpu"), torch.float16)

    def __call__(self, image: Image.Image, *_: Any, **__: Any) -> Image.Image:
        return Image.new("RGB", image.size, (0, 0, 0) if self.residency.dtype in self.broken else (50, 60, 70))


def test_black_delight() -> None:
    with recording() as run, stage("delight"):
        result = remover_of(BlackDelight((torch.float16,)), size_px=16)(PICTURE)
    assert np.array(result).max() > 0 and "float32" in run.stages[0].warnings[0]
    with pytest.raises(NumericalError, match="no-delight"):
        remover_of(BlackDelight((torch.float16, torch.float32)), size_px=16)(PICTURE)


def test_flat_pictures_have_no_statistics() -> None:
    """A channel without spread, or too few opaque pixels, gave NaN."""
    flat, target = torch.full((4, 4, 3), 0.5), torch.rand(4, 4, 3, generator=torch.Generator().manual_seed(0))
    for alpha in (torch.ones(4, 4, 1), torch.zeros(4, 4, 1)):
        out = recorrect_rgb(flat, target, alpha)
        assert torch.isfinite(out).all() and torch.equal(out[..., :3], flat)


def test_vae_tiles(checkpoint: Path) -> None:
    """Tiles below the picture's size are really used, change little, and only sensible sizes are taken."""
    vae: Any = loading.load_vae(checkpoint / PAINT / "vae")
    latents = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = vae.decode(latents).sample
        set_tile_size(vae, 64)
        calls: list[tuple[int, ...]] = []
        count_calls(vae.decoder, calls)
        tiled = vae.decode(latents).sample
    assert len(calls) > 1 and calls[0][-1] == 16
    assert whole.shape == tiled.shape and 0 < (whole - tiled).abs().mean() < 0.5 * whole.std()
    for size in (0, 32, 100):
        with pytest.raises(UsageError, match=str(size)):
            set_tile_size(vae, size)


def test_strips_and_feed_forward_by_view_come_and_go(checkpoint: Path) -> None:
    """Each call follows the settings of its time, and leaves the networks' blocks as they were."""
    paint = painter(checkpoint, steps=1)
    vae, block = paint.pipeline.vae, next(wrapped_blocks(paint.pipeline.unet.unet)).transformer
    calls: list[tuple[int, ...]] = []
    count_calls(block.ff, calls)
    views = []
    for on in (False, True, False):
        paint.config.vae_strips = paint.config.split_feed_forward = on
        views.append(np.stack([np.array(view).astype(int) for view in paint([PICTURE], MAPS, [12, 15])]))
        assert ("forward" in vae.decoder.__dict__) == on and block._chunk_size is None
        assert {shape[0] for shape in calls} == ({1} if on else {4}), "two halves of two views"
        calls.clear()
    assert np.array_equal(views[0], views[2]) and np.abs(views[0] - views[1]).max() <= 1


def test_a_vae_that_cannot_run_in_strips_runs_without(checkpoint: Path) -> None:
    vae: Any = loading.load_vae(checkpoint / PAINT / "vae")
    vae.decoder.conv_norm_out = nn.Identity()
    with recording(), stage("views") as record:
        apply_strips(vae, True, record)
    [decision] = [d for d in record.decisions if d.technique == "VAE strips"]
    assert not decision.applied and "strips" in decision.why and "forward" not in vae.decoder.__dict__


def test_attention_slicing_is_honest() -> None:
    with recording() as run, stage("views") as record:
        assert attention_backend(None, torch.device("cpu"), record) is None
        assert "raise the peak" in run.stages[0].decisions[0].why
        assert attention_backend(None, torch.device("mps"), record) == "sliced"
        assert attention_backend(True, torch.device("cpu"), record) == "sliced"
        assert len(record.decisions) == 1 and record.decisions[0].applied


def test_unets_do_without_attention_that_is_planned_for_each_shape(checkpoint: Path) -> None:
    seen: list[bool] = []
    paint = painter(checkpoint, steps=1)
    paint.pipeline.unet.unet.conv_in.register_forward_pre_hook(lambda *_: seen.append(cudnn_sdp_enabled()))
    before = cudnn_sdp_enabled()
    paint([PICTURE], MAPS, [12, 15])
    assert seen == [False] and cudnn_sdp_enabled() == before


def test_maps_and_cameras_must_fit(checkpoint: Path) -> None:
    with pytest.raises(UsageError, match="3 cameras"):
        painter(checkpoint)([PICTURE], MAPS, [12, 15, 18])
