"""What networks need beside their weights, counted without a GPU: python -m benchmarks.counted [--check]

Full-size networks run on torch's meta device, where tensors have sizes and no content; every storage made on the way is
counted until it is freed. A convolution also needs room for its input and output in the layout of the tensor cores
(``with_conv_mb``), an upper bound: cuDNN can do with less. It gives the 619 MB measured for the VAE's decode within a
few per cent. The attention kernel keeps no score matrix. Written to benchmarks/results/counted.json; MB are MiB at half
precision. Counts are no measurements: an allocator takes more, and libraries have workspaces of their own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.synthetic import shape_config, unet_config, vae_config
from hy3dgen.shapegen.models.autoencoders.model import ShapeVAE
from hy3dgen.texgen.attention import use_attend
from hy3dgen.texgen.hunyuanpaint.unet.modules import Conditions, UNet2p5DConditionModel, feed_forward_by_view
from hy3dgen.texgen.strips import use_strips

RESULT = Path(__file__).resolve().parent / "results" / "counted.json"
MIB = 1 << 20
VIEWS, LATENT, TEXT_TOKENS = 6, 64, 77
FIELD_POINTS, TILES = 1 << 16, (1024, 2048, 4096, 8192, 16384)
META, HALF = torch.device("meta"), torch.float16


class CountedTensors(TorchDispatchMode):
    """Bytes of every storage made inside, while it lives. peak: the most at a time; peak_with_conv: see the module.

    operations: how many that are no mere view of their input; each is a kernel or more.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = self.peak_with_conv = self.operations = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {t.untyped_storage()._cdata for t in _tensors((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        self.operations += not func.is_view
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            if storage._cdata not in given and storage._cdata not in self._known:
                self._take(storage)
        if func is torch.ops.aten.convolution.default:
            copies = args[0].nbytes + args[1].nbytes + result.nbytes
            self.peak_with_conv = max(self.peak_with_conv, self.held + copies)
        return result

    def _take(self, storage: Any) -> None:
        size, key = storage.nbytes(), storage._cdata
        self._known.add(key)
        self.held += size
        self.peak = max(self.peak, self.held)
        self.peak_with_conv = max(self.peak_with_conv, self.held)
        weakref.finalize(storage, self._give_back, key, size)

    def _give_back(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.held -= size


class _FusedAttention(TorchFunctionMode):
    """Attention as the kernels do it: nothing but the result is made."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.scaled_dot_product_attention:
            return torch.empty_like(args[0])
        return func(*args, **(kwargs or {}))


def counted(call: Callable[[], Any]) -> dict[str, float]:
    """Peaks of a call, results of it included while they are made."""
    mode = CountedTensors()
    with torch.no_grad(), _FusedAttention(), mode:
        call()
    peaks = {"tensors_mb": round(mode.peak / MIB, 1), "with_conv_mb": round(mode.peak_with_conv / MIB, 1)}
    return peaks | {"operations": mode.operations}


def rows() -> list[dict[str, Any]]:
    """All counts, in the order of the stages."""
    return [*_field_rows(), *_vae_rows(), *_unet_rows()]


def _field_rows() -> list[dict[str, Any]]:
    """A call for field values of one shape, so many at once; keys and values of its latents are there already."""
    with META:
        vae = ShapeVAE(**shape_config("full")["vae"]["params"]).to(HALF).requires_grad_(False)
    prepared = vae.geo_decoder.prepare(torch.empty(1, vae.latent_shape[0], 1024, dtype=HALF, device=META))
    points, found = torch.empty(1, FIELD_POINTS, 3, dtype=HALF, device=META), []
    for tile in TILES:
        counts = counted(lambda t=tile: vae.geo_decoder.query(points, prepared, tile_points=t))
        found.append({"call": "field values", "pictures": 1, "way": f"{tile} points"} | counts)
    return found


def _vae_rows() -> list[dict[str, Any]]:
    found = []
    with META:
        vae: Any = use_attend(AutoencoderKL.from_config(vae_config("full")).to(HALF).requires_grad_(False))
    for way in ("plain", "in strips"):
        if way == "in strips":
            use_strips(vae)
        for what, pictures in (("encode", 1), ("encode", VIEWS), ("decode", 1), ("decode", VIEWS)):
            if pictures > 1 and way != "plain":
                continue
            side, channels, part = (8 * LATENT, 3, vae.encode) if what == "encode" else (LATENT, 4, vae.decode)
            given = torch.empty(pictures, channels, side, side, dtype=HALF, device=META)
            found.append(
                {"call": f"VAE {what}", "pictures": pictures, "way": way} | counted(lambda p=part, g=given: p(g))
            )
    return found


def _unet_rows() -> list[dict[str, Any]]:
    with META:
        delight = use_attend(UNet2DConditionModel.from_config(unet_config("full", 8)).to(HALF))
        paint = UNet2p5DConditionModel(UNet2DConditionModel.from_config(unet_config("full", 4))).to(HALF)
    for network in (delight, paint):
        network.requires_grad_(False)
    text = torch.empty(1, TEXT_TOKENS, 1024, dtype=HALF, device=META)
    one = torch.empty(1, 8, LATENT, LATENT, dtype=HALF, device=META)
    found = [{"call": "delight step", "pictures": 1, "way": "plain"}]
    found[0] |= counted(lambda: delight(one, torch.zeros((), device=META), encoder_hidden_states=text))
    reference = torch.empty(1, 1, 4, LATENT, LATENT, dtype=HALF, device=META)
    features: dict[str, Tensor] = {}
    found.append(
        {"call": "paint reference", "pictures": 1, "way": "plain"}
        | counted(lambda: features.update(paint.encode_reference(reference)))
    )
    for guidance, chunked in (("both halves", False), ("one half", False), ("one half", True)):
        way = guidance + (", feed-forward of one view at a time" if chunked else "")
        with feed_forward_by_view(paint.unet) if chunked else contextlib.nullcontext():
            counts = counted(_paint_step(paint, features, way))
        found.append({"call": "paint step", "pictures": VIEWS, "way": way} | counts)
    return found


def _paint_step(paint: UNet2p5DConditionModel, features: dict[str, Tensor], way: str) -> Callable[[], Any]:
    """A step whose conditions are ready; the conditional half, which has more to do, or both."""
    halves = 2 if way.startswith("both") else 1
    text = torch.empty(1, TEXT_TOKENS, 1024, dtype=HALF, device=META)
    conditions = Conditions(1, text=text, features=dict(features))
    sample = torch.empty(halves, VIEWS, 4, LATENT, LATENT, dtype=HALF, device=META)
    cameras = torch.zeros(halves, VIEWS, dtype=torch.int64, device=META)

    def step() -> Any:
        return paint(
            sample,
            torch.zeros((), device=META),
            None,
            conditions=conditions,
            camera_info_gen=cameras,
            normal_imgs=sample,
            position_imgs=sample,
        )

    return step


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in _tensors(item)]
    return [tensor for item in value.values() for tensor in _tensors(item)] if isinstance(value, dict) else []


def main(argv: list[str] | None = None) -> int:
    """Write the counts, or check them; 1 when they are old."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.counted")
    parser.add_argument("--check", action="store_true", help="change nothing; fail when the counts are old")
    found = {"latent_px": LATENT, "dtype": "float16", "rows": rows()}
    if parser.parse_args(argv).check:
        if RESULT.is_file() and json.loads(RESULT.read_text(encoding="utf-8")) == found:
            return 0
        print("benchmarks/results/counted.json is old; write it with: python -m benchmarks.counted", file=sys.stderr)
        return 1
    RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
