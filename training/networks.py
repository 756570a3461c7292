"""The networks that are trained together, under the key names they are published with.

``Networks.state_dict()`` has the official prefixes (model., vae., conditioner.main_image_encoder.model.) plus what only
training needs: vae.encoder., vae.pre_kl. (the point encoder) and side. (the head of the side loss).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import hy3dgen
from hy3dgen.errors import UsageError, WeightsDamagedError
from hy3dgen.shapegen.models import Hunyuan3DDiT, ShapeVAE
from hy3dgen.shapegen.models.autoencoders.model import DiagonalGaussianDistribution
from hy3dgen.shapegen.models.autoencoders.point_encoder import PointSelection
from hy3dgen.shapegen.models.conditioner import SingleImageEncoder, view_marks
from hy3dgen.weights.config import read_yaml
from hy3dgen.weights.load import open_weights
from hy3dgen.weights.locate import MANY_VIEWS_SUBFOLDER
from training.generator.around import NUM_SIDES
from training.generator.pictures import CELL_PX, SIDE_CHANNELS

PATCH_PX = 14
CELLS_PER_PATCH = (PATCH_PX // CELL_PX) ** 2
TRAINING_ONLY = ("vae.encoder.", "vae.pre_kl.", "side.")
POSITIONS = "conditioner.main_image_encoder.model.embeddings.position_embeddings"
# Names in the first published point encoder file → ours.
POINT_ENCODER_NAMES = {
    "inp.": "encoder.input_proj.",
    "cross.": "encoder.cross_attn.",
    "resblocks.": "encoder.self_attn.resblocks.",
    "ln.": "encoder.ln_post.",
}

Config = dict[str, Any]


def nano_config(*, image_size: int | None = None) -> Config:
    """The official config of the shipped model, as a mapping; with another picture size when one is given.

    Raises UsageError for a size that is no multiple of the patch.
    """
    config = read_yaml(Path(hy3dgen.__file__).parent / "assets" / "nano" / "config.yaml")
    return config if image_size is None else with_image_size(config, image_size)


def with_image_size(config: Config, image_size: int) -> Config:
    """The config with pictures of ``image_size`` px in the image encoder. Raises UsageError for no multiple of 14."""
    if image_size < PATCH_PX or image_size % PATCH_PX:
        raise UsageError(f"--image-size {image_size} must be a multiple of the encoder's {PATCH_PX} px patch")
    config = copy.deepcopy(config)
    encoder = config["conditioner"]["params"]["main_image_encoder"]["kwargs"]
    encoder["image_size"] = encoder["config"]["image_size"] = image_size
    return config


class Networks(nn.Module):
    """VAE with point encoder, denoiser, image encoder and side head.

    config: an official pipeline config; num_points: surface points that the point encoder looks at;
    num_views: pictures of one shape that it learns to look at together, 1 or NUM_SIDES
    """

    def __init__(self, config: Config, *, num_points: int = 2048, encoder_layers: int = 3, num_views: int = 1) -> None:
        super().__init__()
        self.config, self.num_points, self.num_views = copy.deepcopy(config), num_points, num_views
        options = dict(self.config["vae"]["params"])
        latents = options["num_latents"]
        if num_points < latents:
            raise UsageError(
                f"{num_points} surface points are fewer than the {latents} latents that are chosen of them"
            )
        self.model = Hunyuan3DDiT(**self.config["model"]["params"])
        self.vae = ShapeVAE(
            **options,
            with_encoder=True,
            num_encoder_layers=encoder_layers,
            pc_size=num_points,
            pc_sharpedge_size=0,
            point_feats=3,
            downsample_ratio=num_points // latents,
        )
        self.conditioner = SingleImageEncoder(**self.config["conditioner"]["params"])
        self.conditioner.requires_grad_(True)
        self.side = nn.Linear(self.image_encoder.hidden_size, CELLS_PER_PATCH * SIDE_CHANNELS)
        self.register_buffer("marks", view_marks(self.image_encoder.hidden_size, NUM_SIDES), persistent=False)

    def facts(self) -> dict[str, Any]:
        """See ``loop.Trained``."""
        return {"num_points": self.num_points, "num_views": self.num_views}

    @property
    def image_encoder(self) -> Any:
        return self.conditioner.main_image_encoder

    @property
    def image_size(self) -> int:
        return self.image_encoder.image_size

    @property
    def scale(self) -> float:
        """What latents are multiplied by before the denoiser sees them."""
        return float(self.vae.scale_factor)

    @scale.setter
    def scale(self, value: float) -> None:
        self.vae.scale_factor = self.config["vae"]["params"]["scale_factor"] = float(value)

    def encode(self, surface: Tensor) -> DiagonalGaussianDistribution:
        """surface: (B, num_points, 6) points and normals. Returns the distribution of unscaled latents, in float32."""
        assert self.vae.encoder is not None and self.vae.pre_kl is not None
        selection = z_order(surface[..., :3], self.vae.latent_shape[0])
        latents, _ = self.vae.encoder(surface[..., :3], surface[..., 3:], selection)
        return DiagonalGaussianDistribution(self.vae.pre_kl(latents).float(), feat_dim=-1)

    def field(self, latents: Tensor, points: Tensor) -> Tensor:
        """latents: (B, L, C), unscaled; points: (B, M, 3). Returns the decoded field (B, M), float32."""
        return self.vae.geo_decoder(queries=points, latents=self.vae(latents))[..., 0].float()

    def look(self, pictures: Tensor) -> Tensor:
        """pictures: (B, 3, S, S) in [0, 1] on white. Returns tokens (B, 1 + patches, width)."""
        return self.image_encoder.encode(pictures, None)

    def look_around(self, pictures: Tensor) -> Tensor:
        """pictures: (B, V, 3, S, S) of the first V sides, as ``look`` takes one. Returns tokens as the multi-view
        encoder gives them, (B, V · (1 + patches), width)."""
        tokens = self.look(pictures.flatten(0, 1)).unflatten(0, pictures.shape[:2])
        return (tokens + self.marks.to(tokens)[: pictures.shape[1], None]).flatten(1, 2)


def z_order(points: Tensor, count: int) -> PointSelection:
    """Every (N / count)-th point along a space-filling curve: a parallel stand-in for farthest point sampling.

    points: (B, N, 3) within ±1.1, N ≥ count
    """
    cells = ((points + 1.1) / 2.2 * 1023).long().clamp(0, 1023)
    code = torch.zeros_like(cells[..., 0])
    for bit in range(10):
        for axis in range(3):
            code |= ((cells[..., axis] >> bit) & 1) << (3 * bit + axis)
    step = points.shape[1] // count
    chosen = code.argsort(dim=1, stable=True)[:, step // 2 :: step][:, :count]
    nothing = chosen.new_empty(0)
    everything = torch.arange(points.shape[1], device=points.device)
    return PointSelection(everything, nothing, chosen, nothing.expand(len(points), 0))


@torch.no_grad()
def initialise(networks: Networks, generator: torch.Generator) -> None:
    """Fresh weights, a function of the CPU generator. Modulations and last layers start at zero, so that every block
    of the denoiser starts as the identity."""
    for name, parameter in networks.named_parameters():
        if name.endswith("mask_token") or (name.endswith("bias") and parameter.ndim == 1):
            nn.init.zeros_(parameter)
        elif parameter.ndim >= 2:
            narrow = name.startswith("vae.") or "embeddings.cls" in name or "embeddings.position" in name
            std = 0.02 if narrow else 0.8 * parameter[0].numel() ** -0.5
            fresh = torch.empty(parameter.shape)
            nn.init.trunc_normal_(fresh, std=std, a=-2, b=2, generator=generator)
            parameter.copy_(fresh)
    for name, parameter in networks.model.named_parameters():
        if name.endswith(("_mod.lin.weight", "modulation.lin.weight")) or name in ZERO_AT_START:
            nn.init.zeros_(parameter)


ZERO_AT_START = ("final_layer.linear.weight", "final_layer.adaLN_modulation.1.weight")


def load_tensors(networks: Networks, tensors: Mapping[str, Tensor], *, partial: bool = False, source: str = "") -> None:
    """Fill the networks from tensors under their own key names.

    partial: what only training needs may be missing. Positions of another picture size are resampled; the side head
    starts anew when it is missing or does not fit. Raises WeightsDamagedError for unknown, missing or unfit keys.
    """
    wanted = networks.state_dict()
    given = {name: tensor.float() for name, tensor in tensors.items()}
    if POSITIONS in given and given[POSITIONS].shape != wanted[POSITIONS].shape:
        given[POSITIONS] = resampled_positions(given[POSITIONS], networks.image_size // PATCH_PX)
    unknown = [name for name in given if name not in wanted]
    missing = [name for name in wanted if name not in given and not (partial and name.startswith(TRAINING_ONLY))]
    unfit = [name for name in given if name in wanted and given[name].shape != wanted[name].shape]
    for problem, names in (("has unknown", unknown), ("lacks", missing), ("has another shape of", unfit)):
        if names:
            raise WeightsDamagedError(
                f"{source or 'the weights'} {problem} {', '.join(names[:3])} ({len(names)} in all)"
            )
    networks.load_state_dict(given, strict=False)


def resampled_positions(table: Tensor, grid: int) -> Tensor:
    """Position embeddings (1, 1 + n², width) for a grid × grid of patches."""
    first, patches = table[:, :1], table[:, 1:]
    side = int(patches.shape[1] ** 0.5)
    square = patches.view(1, side, side, -1).permute(0, 3, 1, 2)
    fine = functional.interpolate(square, size=(grid, grid), mode="bicubic", align_corners=False)
    return torch.cat([first, fine.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def read_folder(folder: Path, point_encoder: Path | None = None) -> tuple[Config, dict[str, Tensor]]:
    """(config, tensors) of an official model folder, with the point encoder from its own file when one is given.

    A file point_encoder.fp16.safetensors in the folder is used without being named.
    """
    config = read_yaml(folder / "config.yaml")
    tensors = _tensors(folder / "model.fp16.safetensors")
    beside = folder / "point_encoder.fp16.safetensors"
    extra = point_encoder or (beside if beside.is_file() else None)
    if extra is not None:
        for name, tensor in _tensors(extra).items():
            tensors[name if name.startswith("side.") else f"vae.{_current_name(name)}"] = tensor
    return config, tensors


def views_of(folder: Path) -> int:
    """How many views the model in an official folder knows."""
    return NUM_SIDES if (folder / MANY_VIEWS_SUBFOLDER / "config.yaml").is_file() else 1


def _tensors(path: Path) -> dict[str, Tensor]:
    with open_weights(path) as source:
        return {name: source.get(name).clone() for name in source}


def _current_name(name: str) -> str:
    for old, new in POINT_ENCODER_NAMES.items():
        if name.startswith(old):
            return new + name[len(old) :]
    return name
