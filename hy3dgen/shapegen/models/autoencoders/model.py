"""The ShapeVAE: latents → features of a shape (decode), features → mesh, and surface points → latents (encode).

The encoder is built only when weights for it arrive or ``build_encoder`` is called: published pipelines come
without, and a quarter of the parameters would otherwise be random numbers. It knows nothing of pictures or sampling.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from hy3dgen.errors import InputError, UsageError, WeightsNotFoundError
from hy3dgen.shapegen.models.autoencoders.blocks import FourierEmbedder, Transformer
from hy3dgen.shapegen.models.autoencoders.geometry_decoder import CrossAttentionDecoder
from hy3dgen.shapegen.models.autoencoders.point_encoder import PointCrossAttentionEncoder, PointSelection
from hy3dgen.shapegen.models.checkpoints import read_checkpoint

ENCODER_PREFIXES = ("encoder.", "pre_kl.")
LOGVAR_RANGE = (-30.0, 20.0)


class DiagonalGaussianDistribution:
    """A normal distribution with its own mean and variance for every element.

    parameters: mean ⊕ log-variance along ``feat_dim``, or a sequence of the two. deterministic: variance 0.
    """

    def __init__(self, parameters: Tensor | Sequence[Tensor], deterministic: bool = False, feat_dim: int = 1) -> None:
        self.parameters, self.deterministic, self.feat_dim = parameters, deterministic, feat_dim
        mean, logvar = parameters.chunk(2, dim=feat_dim) if isinstance(parameters, Tensor) else parameters
        self.mean = mean
        self.logvar = logvar.clamp(*LOGVAR_RANGE)
        self.std = torch.zeros_like(mean) if deterministic else torch.exp(0.5 * self.logvar)
        self.var = torch.zeros_like(mean) if deterministic else torch.exp(self.logvar)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """One draw, in the mean's shape, dtype and device."""
        device = self.mean.device if generator is None else generator.device
        noise = torch.randn(self.mean.shape, dtype=self.mean.dtype, device=device, generator=generator)
        return self.mean + self.std * noise.to(self.mean.device)

    def mode(self) -> Tensor:
        """The most likely value: the mean."""
        return self.mean

    def kl(self, other: DiagonalGaussianDistribution | None = None, dims: Sequence[int] = (1, 2, 3)) -> Tensor:
        """Divergence from ``other``, or from the standard normal distribution; mean over ``dims``."""
        if self.deterministic:
            return torch.tensor([0.0])
        if other is None:
            terms = self.mean.square() + self.var - 1.0 - self.logvar
        else:
            distance = (self.mean - other.mean).square() / other.var
            terms = distance + self.var / other.var - 1.0 - self.logvar + other.logvar
        return 0.5 * terms.mean(dim=self._present(dims))

    def nll(self, sample: Tensor, dims: Sequence[int] = (1, 2, 3)) -> Tensor:
        """Negative log-likelihood of ``sample``; sum over ``dims``."""
        if self.deterministic:
            return torch.tensor([0.0])
        log_two_pi = torch.log(torch.tensor(2.0 * torch.pi)).item()
        terms = log_two_pi + self.logvar + (sample - self.mean).square() / self.var
        return 0.5 * terms.sum(dim=self._present(dims))

    def _present(self, dims: Sequence[int]) -> list[int]:
        """Latents have three axes, pictures four: leave out the axes that are not there."""
        return [dim for dim in dims if dim < self.mean.ndim]


class VectsetVAE(nn.Module):
    """What every VAE of latent sets can do: load itself, and turn features into meshes.

    volume_decoder, surface_extractor: both may be given or set later; None is the default of the property.
    """

    def __init__(self, volume_decoder: Any = None, surface_extractor: Any = None) -> None:
        super().__init__()
        self._volume_decoder, self._surface_extractor = volume_decoder, surface_extractor
        self.geo_decoder: CrossAttentionDecoder

    @property
    def volume_decoder(self) -> Any:
        """Features → grid; dense unless set otherwise. Made when first asked for."""
        if self._volume_decoder is None:
            from hy3dgen.shapegen.models.autoencoders.volume_decoders import VanillaVolumeDecoder

            self._volume_decoder = VanillaVolumeDecoder()
        return self._volume_decoder

    @volume_decoder.setter
    def volume_decoder(self, decoder: Any) -> None:
        self._volume_decoder = decoder

    @property
    def surface_extractor(self) -> Any:
        """Grid → mesh; marching cubes unless set otherwise."""
        if self._surface_extractor is None:
            from hy3dgen.shapegen.models.autoencoders.surface_extractors import MCSurfaceExtractor

            self._surface_extractor = MCSurfaceExtractor()
        return self._surface_extractor

    @surface_extractor.setter
    def surface_extractor(self, extractor: Any) -> None:
        self._surface_extractor = extractor

    @classmethod
    def from_pretrained(
        cls,
        model_path: str | os.PathLike[str],
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        use_safetensors: bool | None = True,
        variant: str | None = "fp16",
        subfolder: str | None = "hunyuan3d-vae-v2-0",
        **kwargs: Any,
    ) -> Self:
        """Load a VAE by name, folder or hub repository, strictly and in evaluation mode.

        device, dtype: None chooses what this machine runs best. kwargs: constructor arguments over the config's.
        Raises WeightsNotFoundError listing the places tried, and WeightsDamagedError naming file and key.
        """
        from hy3dgen.shapegen import vae_files

        return vae_files.pretrained(
            cls,
            model_path,
            subfolder=subfolder,
            variant=variant,
            use_safetensors=use_safetensors,
            device=device,
            dtype=dtype,
            **kwargs,
        )

    @classmethod
    def from_single_file(
        cls,
        ckpt_path: str | os.PathLike[str],
        config_path: str | os.PathLike[str],
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        use_safetensors: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """As ``from_pretrained``, from a weight file (of a VAE or of a pipeline) and its config.yaml.

        use_safetensors: True takes the .safetensors file beside a .ckpt path.
        """
        from hy3dgen.shapegen import vae_files

        weights = Path(ckpt_path)
        if use_safetensors and weights.suffix == ".ckpt":
            weights = weights.with_suffix(".safetensors")
        return vae_files.from_files(cls, weights, config_path, device=device, dtype=dtype, **kwargs)

    def latents2mesh(self, latents: Tensor, **kwargs: Any) -> list[Any]:
        """latents: (B, N, width), the features that ``forward`` returns.

        The keywords go to the volume decoder and to the surface extractor. Returns one mesh per item.
        """
        with torch.inference_mode():
            grid_logits = self.volume_decoder(latents, self.geo_decoder, **kwargs)
        return self.surface_extractor(grid_logits, **kwargs)

    def enable_flashvdm_decoder(
        self,
        enabled: bool = True,
        adaptive_kv_selection: bool = True,
        topk_mode: str = "mean",
        mc_algo: str = "dmc",
    ) -> None:
        """Choose how grids are decoded: FlashVDM (lossy) or, without adaptive_kv_selection, hierarchically.

        topk_mode: 'mean' or 'merge'; mc_algo: 'mc' or 'dmc'. Not enabled: dense decoding and 'mc'.
        Raises UsageError for unknown names.
        """
        from hy3dgen.shapegen.models.autoencoders import surface_extractors, volume_decoders

        self.geo_decoder.set_default_cross_attention_processor()
        if not enabled:
            self.volume_decoder = volume_decoders.VanillaVolumeDecoder()
            self.surface_extractor = surface_extractors.MCSurfaceExtractor()
            return
        if mc_algo not in surface_extractors.SurfaceExtractors:
            known = ", ".join(surface_extractors.SurfaceExtractors)
            raise UsageError(f"unknown surface extraction '{mc_algo}'; use one of {known}")
        self.volume_decoder = (
            volume_decoders.FlashVDMVolumeDecoding(topk_mode)
            if adaptive_kv_selection
            else volume_decoders.HierarchicalVolumeDecoding()
        )
        self.surface_extractor = surface_extractors.SurfaceExtractors[mc_algo]()

    def init_from_ckpt(self, path: str | Path, ignore_keys: Iterable[str] = ()) -> None:
        """Fill this VAE from a checkpoint file, strictly.

        ignore_keys: beginnings of keys to leave out. Only tensors are unpickled, never code. Raises
        WeightsNotFoundError for a missing file and WeightsDamagedError when file or keys do not fit.
        """
        state = read_checkpoint(path)
        ignored = tuple(ignore_keys)
        self.load_state_dict({key: value for key, value in state.items() if not key.startswith(ignored or ("\0",))})
        self.eval()


class ShapeVAE(VectsetVAE):
    """The published VAE.

    latents (B, N, embed_dim), divided by ``scale_factor`` before → features (B, N, width). Any N works.
    pc_size, pc_sharpedge_size, point_feats, downsample_ratio, num_encoder_layers, use_ln_post concern the encoder only.
    with_encoder: build the encoder at once; else when weights for it are loaded.
    """

    def __init__(
        self,
        *,
        num_latents: int,
        embed_dim: int,
        width: int,
        heads: int,
        num_decoder_layers: int,
        num_encoder_layers: int = 8,
        pc_size: int = 5120,
        pc_sharpedge_size: int = 5120,
        point_feats: int = 3,
        downsample_ratio: int = 20,
        geo_decoder_downsample_ratio: int = 1,
        geo_decoder_mlp_expand_ratio: int = 4,
        geo_decoder_ln_post: bool = True,
        num_freqs: int = 8,
        include_pi: bool = True,
        qkv_bias: bool = True,
        qk_norm: bool = False,
        label_type: str = "binary",
        drop_path_rate: float = 0.0,
        scale_factor: float = 1.0,
        use_ln_post: bool = True,
        ckpt_path: str | Path | None = None,
        with_encoder: bool = False,
    ) -> None:
        super().__init__()
        self.scale_factor = scale_factor
        self.latent_shape = (num_latents, embed_dim)
        self.fourier_embedder = FourierEmbedder(num_freqs=num_freqs, include_pi=include_pi)
        self._encoder_options: dict[str, Any] = {
            "num_latents": num_latents,
            "downsample_ratio": downsample_ratio,
            "pc_size": pc_size,
            "pc_sharpedge_size": pc_sharpedge_size,
            "point_feats": point_feats,
            "width": width,
            "heads": heads,
            "layers": num_encoder_layers,
            "qkv_bias": qkv_bias,
            "use_ln_post": use_ln_post,
            "qk_norm": qk_norm,
        }
        self.encoder: PointCrossAttentionEncoder | None = None
        self.pre_kl: nn.Linear | None = None
        self.post_kl = nn.Linear(embed_dim, width)
        self.transformer = Transformer(
            width=width,
            layers=num_decoder_layers,
            heads=heads,
            qkv_bias=qkv_bias,
            qk_norm=qk_norm,
            drop_path_rate=drop_path_rate,
        )
        self.geo_decoder = CrossAttentionDecoder(
            num_latents=num_latents,
            out_channels=1,
            fourier_embedder=self.fourier_embedder,
            width=width,
            heads=heads,
            downsample_ratio=geo_decoder_downsample_ratio,
            mlp_expand_ratio=geo_decoder_mlp_expand_ratio,
            enable_ln_post=geo_decoder_ln_post,
            qkv_bias=qkv_bias,
            qk_norm=qk_norm,
            label_type=label_type,
        )
        if with_encoder:
            self.build_encoder()
        if ckpt_path is not None:
            self.init_from_ckpt(ckpt_path)

    def build_encoder(self) -> None:
        """Create ``encoder`` and ``pre_kl`` with fresh weights, for training or to be loaded; nothing if they exist.

        They are created where this VAE's other weights are (the meta device included), in their dtype.
        """
        if self.encoder is not None:
            return
        like = self.post_kl.weight
        with like.device:
            encoder = PointCrossAttentionEncoder(fourier_embedder=self.fourier_embedder, **self._encoder_options)
            pre_kl = nn.Linear(self.post_kl.out_features, self.post_kl.in_features * 2)
        self.encoder, self.pre_kl = encoder.to(like.dtype), pre_kl.to(like.dtype)
        self.encoder.train(self.training)

    def build_for(self, keys: Iterable[str]) -> None:
        """Build what a checkpoint with these keys (without component prefix) has weights for: the encoder or not."""
        if any(key.startswith(ENCODER_PREFIXES) for key in keys):
            self.build_encoder()

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As torch's; the encoder is built first when the state dict has weights for it."""
        self.build_for(state_dict)
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    def forward(self, latents: Tensor) -> Tensor:
        """latents: (B, N, embed_dim), unscaled. Returns the features of the shape, (B, N, width)."""
        return self.transformer(self.post_kl(latents))

    def decode(self, latents: Tensor) -> Tensor:
        """The same as ``forward``."""
        return self(latents)

    def encode(
        self,
        surface: Tensor,
        sample_posterior: bool = True,
        *,
        generator: torch.Generator | None = None,
        selection: PointSelection | None = None,
    ) -> Tensor:
        """surface: (B, pc_size + pc_sharpedge_size, 3 + point_feats), uniform points first. Returns latents
        (B, num_latents, embed_dim); times ``scale_factor`` they are what the denoiser works on.

        sample_posterior: draw from the distribution, else take its mean. Raises WeightsNotFoundError without an
        encoder and InputError for a wrong number of points or features.
        """
        distribution = self.encode_distribution(surface, generator=generator, selection=selection)
        return distribution.sample(generator) if sample_posterior else distribution.mode()

    def encode_distribution(
        self,
        surface: Tensor,
        *,
        generator: torch.Generator | None = None,
        selection: PointSelection | None = None,
    ) -> DiagonalGaussianDistribution:
        """The distribution of latents of a surface; arguments and errors as ``encode``."""
        if self.encoder is None or self.pre_kl is None:
            raise WeightsNotFoundError(
                "this VAE was loaded without an encoder: its checkpoint holds decoder weights only; load one that has "
                "them, such as hunyuan3d-vae-v2-0-withencoder or hunyuan3d-vae-v2-1"
            )
        if surface.ndim != 3 or surface.shape[-1] < 3:
            raise InputError(f"encode expects (batch, points, 3 + features), got {tuple(surface.shape)}")
        latents, _ = self.encoder(surface[..., :3], surface[..., 3:], selection, generator)
        return DiagonalGaussianDistribution(self.pre_kl(latents), feat_dim=-1)
