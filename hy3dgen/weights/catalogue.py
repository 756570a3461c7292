"""The models this package knows by name: where they live, how large they are, and what to run them with.

The one home of model defaults. Plain data: no torch, no disk, no network, so that a plan can be made without weights.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from hy3dgen.errors import UsageError

Kind = Literal["shape", "vae", "texture", "delight"]


@dataclass(frozen=True)
class Licence:
    """Under which words the owner gives the weights. ``identifier`` names the record of its acceptance."""

    identifier: str
    title: str
    line: str
    excluded_territories: tuple[str, ...] = ()
    needs_acceptance: bool = True


@dataclass(frozen=True)
class WeightFile:
    """One file of a model folder. size_bytes: exact where published, else None; required: the model needs it."""

    path: str
    size_bytes: int | None = None
    required: bool = True


@dataclass(frozen=True)
class Component:
    """One network of a model. parameters: count; ``bytes_in(2)`` is its size in float16."""

    name: str
    parameters: int

    def bytes_in(self, bytes_per_value: int = 2) -> int:
        return self.parameters * bytes_per_value


@dataclass(frozen=True)
class Defaults:
    """What a run uses when the user says nothing.

    steps: denoiser steps; guidance: classifier-free guidance scale; octree_resolution: cells per axis;
    decoder: 'hierarchical', 'dense' or 'flashvdm'; faces: target after reduction; texture: the texture model's name.
    Texture models use ``steps`` and ``guidance`` only.
    """

    steps: int = 50
    guidance: float = 5.0
    octree_resolution: int = 384
    decoder: str = "hierarchical"
    faces: int = 40000
    texture: str = "paint"


@dataclass(frozen=True)
class CatalogueEntry:
    """One model. repo is None for what the package carries itself; subfolder is its folder inside the repo."""

    name: str
    kind: Kind
    title: str
    repo: str | None
    subfolder: str
    files: tuple[WeightFile, ...]
    components: tuple[Component, ...]
    licence: Licence
    defaults: Defaults = Defaults()
    num_views: int = 1
    distilled: bool = False

    @property
    def is_official(self) -> bool:
        """True for the owner's published weights, whose licence has to be accepted before a download."""
        return self.repo is not None

    @property
    def component_bytes(self) -> dict[str, int]:
        """Size of every network in float16, by name."""
        return {component.name: component.bytes_in() for component in self.components}

    @property
    def weights_bytes(self) -> int:
        """All networks in float16."""
        return sum(self.component_bytes.values())

    @property
    def download_bytes(self) -> int:
        """What a download takes, from published file sizes, else from the parameter counts."""
        known = [file.size_bytes for file in self.files if file.size_bytes is not None]
        unknown = any(
            file.size_bytes is None and file.path.endswith((".safetensors", ".ckpt", ".bin")) for file in self.files
        )
        return max(sum(known), self.weights_bytes) if unknown else sum(known)


_TERRITORIES = ("European Union", "United Kingdom", "South Korea")
OWN = Licence("apache-2.0", "Apache License 2.0", "part of this package, free to use and share", needs_acceptance=False)
TENCENT_20 = Licence(
    "tencent-hunyuan-3d-2.0-community",
    "Tencent Hunyuan 3D 2.0 Community License Agreement",
    "weights by Tencent under their own community licence, not part of this package",
    _TERRITORIES,
)
TENCENT_21 = Licence(
    "tencent-hunyuan-3d-2.1-community",
    "Tencent Hunyuan 3D 2.1 Community License Agreement",
    "weights by Tencent under their own community licence, not part of this package",
    _TERRITORIES,
)

_REPO, _REPO_MINI, _REPO_MV = "tencent/Hunyuan3D-2", "tencent/Hunyuan3D-2mini", "tencent/Hunyuan3D-2mv"
_REPO_21 = "tencent/Hunyuan3D-2.1"
_PAIR = (WeightFile("config.yaml"), WeightFile("model.fp16.safetensors"))

_VAE, _VAE_TURBO, _VAE_ENCODER = 214_212_865, 203_690_497, 113_533_312
_DINO_GIANT, _DINO_LARGE = 1_136_480_768, 304_368_640
_SHAPE_20, _SHAPE_20_DISTILLED = 1_113_274_432, 1_114_587_200
_SHAPE_MINI, _SHAPE_MINI_DISTILLED = 559_196_224, 560_508_992


def _shape(
    name: str,
    title: str,
    repo: str,
    subfolder: str,
    denoiser: int,
    *,
    distilled: bool = False,
    turbo: bool = False,
    num_views: int = 1,
) -> CatalogueEntry:
    parts = (Component("conditioner", _DINO_GIANT), Component("model", denoiser), Component("vae", _VAE))
    # The step-distilled models are trained for five steps; the guidance-distilled ones still take the full number.
    defaults = Defaults(steps=5, texture="paint-turbo") if turbo else Defaults()
    return CatalogueEntry(
        name,
        "shape",
        title,
        repo,
        subfolder,
        _PAIR,
        parts,
        TENCENT_20,
        defaults,
        num_views=num_views,
        distilled=distilled,
    )


def _vae(name: str, title: str, repo: str, subfolder: str, parameters: int) -> CatalogueEntry:
    return CatalogueEntry(name, "vae", title, repo, subfolder, _PAIR, (Component("vae", parameters),), TENCENT_20)


_PAINT_PARTS = (Component("unet", 965_302_340), Component("unet_dual", 865_910_724), Component("vae", 83_653_863))
_PAINT_FILES = (
    WeightFile("model_index.json"),
    WeightFile("scheduler/scheduler_config.json"),
    WeightFile("unet/config.json"),
)

BUILT_IN, BUILT_IN_PAINT = "nano", "paint-nano"
"""The models inside this package."""

ENTRIES: tuple[CatalogueEntry, ...] = (
    CatalogueEntry(
        BUILT_IN,
        "shape",
        "nano, the small model inside this package",
        None,
        "nano",
        (WeightFile("config.yaml"), WeightFile("model.fp16.safetensors")),
        (Component("conditioner", 4_930_560), Component("model", 14_341_008), Component("vae", 3_965_185)),
        OWN,
        Defaults(steps=20, guidance=4.0, octree_resolution=192, texture=BUILT_IN_PAINT),
    ),
    _shape("2", "Hunyuan3D-2, 1.1 B", _REPO, "hunyuan3d-dit-v2-0", _SHAPE_20),
    _shape(
        "2-fast",
        "Hunyuan3D-2, guidance-distilled",
        _REPO,
        "hunyuan3d-dit-v2-0-fast",
        _SHAPE_20_DISTILLED,
        distilled=True,
    ),
    _shape(
        "2-turbo",
        "Hunyuan3D-2, step-distilled",
        _REPO,
        "hunyuan3d-dit-v2-0-turbo",
        _SHAPE_20_DISTILLED,
        distilled=True,
        turbo=True,
    ),
    _shape("2mini", "Hunyuan3D-2mini, 0.6 B", _REPO_MINI, "hunyuan3d-dit-v2-mini", _SHAPE_MINI),
    _shape(
        "2mini-fast",
        "Hunyuan3D-2mini, guidance-distilled",
        _REPO_MINI,
        "hunyuan3d-dit-v2-mini-fast",
        _SHAPE_MINI_DISTILLED,
        distilled=True,
    ),
    _shape(
        "2mini-turbo",
        "Hunyuan3D-2mini, step-distilled",
        _REPO_MINI,
        "hunyuan3d-dit-v2-mini-turbo",
        _SHAPE_MINI_DISTILLED,
        distilled=True,
        turbo=True,
    ),
    _shape("2mv", "Hunyuan3D-2mv, several views", _REPO_MV, "hunyuan3d-dit-v2-mv", _SHAPE_20, num_views=4),
    _shape(
        "2mv-fast",
        "Hunyuan3D-2mv, guidance-distilled",
        _REPO_MV,
        "hunyuan3d-dit-v2-mv-fast",
        _SHAPE_20_DISTILLED,
        distilled=True,
        num_views=4,
    ),
    _shape(
        "2mv-turbo",
        "Hunyuan3D-2mv, step-distilled",
        _REPO_MV,
        "hunyuan3d-dit-v2-mv-turbo",
        _SHAPE_20_DISTILLED,
        distilled=True,
        turbo=True,
        num_views=4,
    ),
    CatalogueEntry(
        "2.1",
        "shape",
        "Hunyuan3D-2.1, 3 B mixture of experts",
        _REPO_21,
        "hunyuan3d-dit-v2-1",
        (WeightFile("config.yaml"), WeightFile("model.fp16.ckpt", 7_366_389_768)),
        (
            Component("conditioner", _DINO_LARGE),
            Component("model", 3_050_758_720),
            Component("vae", _VAE + _VAE_ENCODER),
        ),
        TENCENT_21,
        Defaults(),
    ),
    _vae("2-vae", "decoder of Hunyuan3D-2", _REPO, "hunyuan3d-vae-v2-0", _VAE),
    _vae("2-vae-turbo", "small decoder of Hunyuan3D-2, for FlashVDM", _REPO, "hunyuan3d-vae-v2-0-turbo", _VAE_TURBO),
    _vae("2mini-vae", "decoder of Hunyuan3D-2mini", _REPO_MINI, "hunyuan3d-vae-v2-mini", _VAE),
    _vae(
        "2mini-vae-turbo",
        "small decoder of Hunyuan3D-2mini, for FlashVDM",
        _REPO_MINI,
        "hunyuan3d-vae-v2-mini-turbo",
        _VAE_TURBO,
    ),
    CatalogueEntry(
        "paint",
        "texture",
        "Hunyuan3D-Paint 2.0",
        _REPO,
        "hunyuan3d-paint-v2-0",
        (
            *_PAINT_FILES,
            WeightFile("unet/diffusion_pytorch_model.safetensors", 3_662_636_472),
            WeightFile("vae/config.json"),
            WeightFile("vae/diffusion_pytorch_model.safetensors", 167_335_310),
        ),
        _PAINT_PARTS,
        TENCENT_20,
        Defaults(steps=30, guidance=2.0),
    ),
    CatalogueEntry(
        "paint-turbo",
        "texture",
        "Hunyuan3D-Paint 2.0, step-distilled",
        _REPO,
        "hunyuan3d-paint-v2-0-turbo",
        (
            *_PAINT_FILES,
            WeightFile("unet/diffusion_pytorch_model.safetensors", 3_722_161_032),
            WeightFile("vae/config.json"),
            WeightFile("vae/diffusion_pytorch_model.bin", 334_707_217),
        ),
        _PAINT_PARTS,
        TENCENT_20,
        Defaults(steps=10, guidance=2.0),
        distilled=True,
    ),
    CatalogueEntry(
        BUILT_IN_PAINT,
        "texture",
        "nano paint, the small paint model inside this package",
        None,
        "nano/hunyuan3d-paint-v2-0",
        (
            *_PAINT_FILES,
            WeightFile("unet/diffusion_pytorch_model.safetensors"),
            WeightFile("vae/config.json"),
            WeightFile("vae/diffusion_pytorch_model.safetensors"),
        ),
        (Component("unet", 706_612), Component("unet_dual", 621_460), Component("vae", 203_815)),
        OWN,
        Defaults(steps=1, guidance=1.0),
    ),
    CatalogueEntry(
        "delight",
        "delight",
        "Hunyuan3D-Delight 2.0",
        _REPO,
        "hunyuan3d-delight-v2-0",
        (
            WeightFile("model_index.json"),
            WeightFile("scheduler/scheduler_config.json"),
            WeightFile("tokenizer/vocab.json"),
            WeightFile("tokenizer/merges.txt"),
            WeightFile("tokenizer/tokenizer_config.json"),
            WeightFile("tokenizer/special_tokens_map.json", required=False),
            WeightFile("text_encoder/config.json"),
            WeightFile("text_encoder/model.safetensors", 680_820_392),
            WeightFile("unet/config.json"),
            WeightFile("unet/diffusion_pytorch_model.safetensors"),
            WeightFile("vae/config.json"),
            WeightFile("vae/diffusion_pytorch_model.safetensors", 167_335_342),
        ),
        (Component("unet", 865_922_244), Component("vae", 83_653_863), Component("text_encoder", 340_387_840)),
        TENCENT_20,
        Defaults(steps=50, guidance=1.0),
    ),
)

_BY_NAME = {entry.name: entry for entry in ENTRIES}


def names(kind: Kind | None = None) -> tuple[str, ...]:
    """The names of all entries, or of one kind, in the catalogue's order."""
    return tuple(entry.name for entry in ENTRIES if kind is None or entry.kind == kind)


def entry(name: str) -> CatalogueEntry:
    """The entry with this name. Raises UsageError that names the nearest one."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    near = difflib.get_close_matches(name, _BY_NAME, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise UsageError(f"unknown model '{name}'; {hint}known models are {', '.join(_BY_NAME)}")


def find(name_or_repo: str, subfolder: str | None = None) -> CatalogueEntry | None:
    """The entry for a name, or for a hub repository and folder; None when the catalogue has none."""
    if name_or_repo in _BY_NAME:
        return _BY_NAME[name_or_repo]
    matches = in_repo(name_or_repo)
    return next((entry for entry in matches if entry.subfolder == subfolder), None)


def in_repo(repo: str) -> tuple[CatalogueEntry, ...]:
    """All entries of one hub repository."""
    return tuple(entry for entry in ENTRIES if entry.repo is not None and entry.repo == repo)
