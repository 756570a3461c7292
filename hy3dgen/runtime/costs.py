"""What the stages of a run cost: activation models from ``assets/activations.json``, each row with its source.

From plain values (network sizes, tokens, steps) to the settings between which ``plan`` chooses. No torch, no weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from hy3dgen.runtime.plan import Phase, StageCost, Variant
from hy3dgen.runtime.units import NetworkSize

MIB = 1 << 20
HALF_BYTES = 2  # the data's figures are for two bytes a value
CFG_SPLIT = "guidance halves one after the other"
SLICED_VAE = "one picture at a time through the VAE"
STRIPS = "pictures through the VAE in strips (exact)"
SPLIT_FEED_FORWARD = "feed-forward of one view at a time"
ON_HOST = "on the host"
NOTHING = NetworkSize(0, 0, 0)


@dataclass(frozen=True)
class ShapeWork:
    """The shape stages of a run.

    sizes: of 'conditioner', 'model' and 'vae' in the run's number format; parameters: of 'model';
    tokens: latents and picture tokens together; guided: two halves a step
    """

    sizes: Mapping[str, NetworkSize]
    parameters: int
    tokens: int
    steps: int
    guided: bool
    octree_resolution: int
    decoder: str


@dataclass(frozen=True)
class PaintWork:
    """The painting stages. sizes: by the names that the texture stages give their networks."""

    sizes: Mapping[str, NetworkSize]
    steps: int
    guided: bool
    delight_steps: int | None


@dataclass(frozen=True)
class Work:
    """What a run does, as far as memory and time go.

    texture_size: None without a texture; bytes_per_value: of the number format; vae_slicing, vae_tiling: None for the
    planner's choice, else what the user insists on (tiles in pixels); lossy: levers the user allows by name
    """

    shape: ShapeWork | None = None
    paint: PaintWork | None = None
    texture_size: int | None = None
    bytes_per_value: int = HALF_BYTES
    vae_slicing: bool | None = None
    vae_tiling: int | None = None
    lossy: frozenset[str] = field(default_factory=frozenset)


@cache
def activation_data() -> dict[str, Any]:
    """The content of activations.json; not to be changed."""
    return json.loads(files("hy3dgen").joinpath("assets", "activations.json").read_text(encoding="utf-8"))


def known_sizes(name: str) -> dict[str, NetworkSize]:
    """Sizes in float16 of a published model's networks: '2', '2-distilled', '2mini', '2.1', 'nano', 'paint', ….

    KeyError for a name without an entry.
    """
    return {part: NetworkSize(*row) for part, row in activation_data()["networks"]["sizes"][name].items()}


def stage_costs(work: Work) -> tuple[StageCost, ...]:
    """The device stages of a run in order, each with its possible settings."""
    stages: list[StageCost] = []
    if work.shape is not None:
        stages += [_condition(work, work.shape), _denoise(work, work.shape), _decode(work, work.shape)]
    if work.paint is not None:
        if work.paint.delight_steps is not None:
            stages.append(_delight(work, work.paint, work.paint.delight_steps))
        stages += [_render(work, "maps"), _views(work, work.paint)]
    if work.texture_size is not None:
        stages.append(_render(work, "bake"))
    return tuple(stages)


def _phase(work: Work, name: str, size: NetworkSize, row: Mapping[str, Any], passes: int = 1, **scale: float) -> Phase:
    """A row of the data as a phase. scale: 'memory' and 'time' factors."""
    extra = row["extra_mb"] * MIB * scale.get("memory", 1.0) * work.bytes_per_value / HALF_BYTES
    return Phase(name, size, round(extra), passes, row["ms"] / 1000 * scale.get("time", 1.0))


def _condition(work: Work, shape: ShapeWork) -> StageCost:
    [row] = activation_data()["condition"]["rows"]
    return StageCost("condition", (Variant((_phase(work, "conditioner", shape.sizes["conditioner"], row),)),))


def _denoise(work: Work, shape: ShapeWork) -> StageCost:
    data = activation_data()
    memory = shape.tokens / data["denoise"]["reference_tokens"]
    time = memory * shape.parameters / data["denoise"]["reference_parameters"]
    rows = data["denoise"]["rows"] if shape.guided else data["denoise_unguided"]["rows"]
    variants = []
    for row in rows:
        split = bool(row["levers"].get("cfg_split"))
        halves = 2 if split else 1
        phase = _phase(
            work, "model", shape.sizes["model"], row, shape.steps * halves, memory=memory, time=time / halves
        )
        variants.append(Variant((phase,), cfg_split=split, levers=(CFG_SPLIT,) if split else ()))
    return StageCost("denoise", tuple(variants))


def _decode(work: Work, shape: ShapeWork) -> StageCost:
    data = activation_data()["decode"]
    cubes = (shape.octree_resolution / data["resolution"]) ** 3
    names = [shape.decoder]
    if "flashvdm" in work.lossy and shape.decoder != "flashvdm":
        names.append("flashvdm")
    variants = []
    for name in names:
        for row in data["rows"][name]:
            extra_mb = max(row["extra_mb"], data["transformer_extra_mb"])
            cost = {"extra_mb": extra_mb, "ms": data["transformer_ms"] + row["ms"] * cubes}
            tile = row.get("tile_points")
            # The decoder takes tiles of any chunk, so a chunk is as long as is good for the rest of the walk.
            chunk = data["tiled_chunk"] if tile is not None else row["chunk"]
            levers: tuple[str, ...] = (f"{tile or chunk} field points at a time",)
            levers += ("FlashVDM decoder (lossy)",) if name != shape.decoder else ()
            phase = _phase(work, "vae", shape.sizes["vae"], cost)
            variants.append(Variant((phase,), chunk=chunk, tile_points=tile, levers=levers))
    return StageCost("decode", tuple(variants))


def _delight(work: Work, paint: PaintWork, steps: int) -> StageCost:
    data, sizes = activation_data()["delight"], paint.sizes
    [step] = data["steps"]
    variants = []
    for vae in _vae_settings(work):
        if not vae.slicing and work.vae_slicing is None:
            continue  # one picture: slicing changes nothing here
        encode, decode = vae.row(data["encode"]), vae.row(data["decode"])
        shrink = _tile_share(vae.tile)
        phases = (
            _phase(work, "delight_vae_encoder", sizes["delight_vae_encoder"], encode, memory=shrink),
            _phase(work, "delight_unet", sizes["delight_unet"], step, steps),
            _phase(work, "delight_vae_decoder", sizes["delight_vae_decoder"], decode, memory=shrink),
        )
        variants.append(Variant(phases, **vae.levers, levers=vae.words))
    return StageCost("delight", tuple(variants))


def _views(work: Work, paint: PaintWork) -> StageCost:
    data, sizes = activation_data()["views"], paint.sizes
    [reference] = data["reference"]
    variants = []
    for row in data["steps"] if paint.guided else data["steps_unguided"]:
        split = bool(row["levers"].get("cfg_split"))
        parts = bool(row["levers"].get("split_feed_forward"))
        halves = 2 if split else 1
        for vae in _vae_settings(work):
            encode, decode = vae.row(data["encode"]), vae.row(data["decode"])
            shrink = _tile_share(vae.tile)
            time = 1.0 if vae.tile is None else 480 / 130
            phases = (
                _phase(work, "paint_vae_encoder", sizes["paint_vae_encoder"], encode, memory=shrink, time=time),
                _phase(work, "paint_unet_dual", sizes["paint_unet_dual"], reference),
                _phase(work, "paint_unet", sizes["paint_unet"], row, paint.steps * halves, time=1 / halves),
                _phase(work, "paint_vae_decoder", sizes["paint_vae_decoder"], decode, memory=shrink, time=time),
            )
            levers: tuple[str, ...] = (CFG_SPLIT,) if split else ()
            levers += (SPLIT_FEED_FORWARD,) if parts else ()
            levers += (SLICED_VAE,) if vae.slicing else ()
            variants.append(Variant(phases, split, split_feed_forward=parts, **vae.levers, levers=levers + vae.words))
    return StageCost("views", tuple(variants))


def _render(work: Work, name: str) -> StageCost:
    data = activation_data()["render"]
    area = ((work.texture_size or data["texture_size"]) / data["texture_size"]) ** 2
    variants = []
    for row in data[name]:
        on_host = bool(row["levers"]["on_host"])
        # Pictures and textures are float32 whatever the networks' number format is.
        phase = Phase(None, NOTHING, round(row["extra_mb"] * MIB * max(area, 1.0)), 1, row["ms"] / 1000 * area)
        variants.append(Variant((phase,), on_host=on_host, levers=(ON_HOST,) if on_host else ()))
    return StageCost(name, tuple(variants))


@dataclass(frozen=True)
class VaeSetting:
    """How pictures go through a VAE. slicing: one at a time; tile: in pixels, lossy; strips: exact."""

    slicing: bool
    tile: int | None = None
    strips: bool = False

    @property
    def levers(self) -> dict[str, Any]:
        """Fields of a ``Variant``."""
        return {"vae_slicing": self.slicing, "vae_tiling": self.tile, "vae_strips": self.strips}

    @property
    def words(self) -> tuple[str, ...]:
        """Tiles and strips, for people."""
        return _tile_words(self.tile) + ((STRIPS,) if self.strips else ())

    def row(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """The row for a whole picture or batch; tiles take a share of it."""
        wanted = {"vae_slicing": self.slicing, "vae_strips": self.strips}
        return next(
            row
            for row in rows
            if "vae_tiling" not in row["levers"]
            and {"vae_slicing": self.slicing, "vae_strips": False} | row["levers"] == wanted
        )


def _vae_settings(work: Work) -> Iterator[VaeSetting]:
    """From whole batches to strips, which are for whole pictures, one at a time."""
    for slicing in (False, True) if work.vae_slicing is None else (work.vae_slicing,):
        for tile in _tiles(work):
            yield VaeSetting(slicing, tile)
        if slicing and work.vae_tiling is None:
            yield VaeSetting(slicing, strips=True)


def _tiles(work: Work) -> tuple[int | None, ...]:
    if work.vae_tiling is not None:
        return (work.vae_tiling,)
    return (None, 256) if "tiling" in work.lossy else (None,)


def _tile_share(tile: int | None) -> float:
    """Share of the memory of a whole 512 px picture, from the measured 256 px row (164 of 619 MB)."""
    return 1.0 if tile is None or tile >= 512 else min(1.0, 164 / 619 * (tile / 256) ** 2)


def _tile_words(tile: int | None) -> tuple[str, ...]:
    return () if tile is None else (f"VAE in tiles of {tile} px (lossy)",)
