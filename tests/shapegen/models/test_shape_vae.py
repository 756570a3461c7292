"""The VAE: strict about weights, no encoder without weights for it, nothing of its own on the meta device."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from hy3dgen.errors import InputError, UsageError, WeightsDamagedError, WeightsNotFoundError
from hy3dgen.shapegen.models import ShapeVAE
from hy3dgen.shapegen.models.autoencoders.model import DiagonalGaussianDistribution

SETTINGS: dict[str, Any] = {
    "num_latents": 8, "embed_dim": 4, "width": 32, "heads": 4, "num_decoder_layers": 1, "num_encoder_layers": 1,
    "pc_size": 40, "pc_sharpedge_size": 40, "downsample_ratio": 5, "include_pi": False, "qk_norm": True,
}  # fmt: skip


def test_decoder_only_checkpoint_has_no_encoder() -> None:
    """C6: the reference built a random encoder and encoded to noise without a word."""
    vae = ShapeVAE(**SETTINGS)
    vae.load_state_dict(ShapeVAE(**SETTINGS).state_dict())
    assert vae.encoder is None
    with pytest.raises(WeightsNotFoundError, match="without an encoder"):
        vae.encode(torch.zeros(1, 80, 6))


def test_encoder_comes_with_its_weights() -> None:
    complete = ShapeVAE(**SETTINGS, with_encoder=True).eval()
    vae = ShapeVAE(**SETTINGS).eval()
    vae.load_state_dict(complete.state_dict())
    surface = torch.rand(2, 80, 6)
    expected = complete.encode(surface, generator=torch.Generator().manual_seed(3))
    assert expected.shape == (2, 8, 4)
    assert torch.equal(vae.encode(surface, generator=torch.Generator().manual_seed(3)), expected)
    assert not torch.equal(vae.encode(surface, generator=torch.Generator().manual_seed(4)), expected)


def test_misspelt_key_is_an_error() -> None:
    """C6: the reference loaded VAEs non-strictly, so missing weights stayed random."""
    state = ShapeVAE(**SETTINGS).state_dict()
    state["post_kl.wieght"] = state.pop("post_kl.weight")
    with pytest.raises(RuntimeError, match=r"post_kl\.weight"):
        ShapeVAE(**SETTINGS).load_state_dict(state)


def test_built_on_meta_and_filled_by_assignment() -> None:
    complete = ShapeVAE(**SETTINGS, with_encoder=True).eval()
    with torch.device("meta"):
        vae = ShapeVAE(**SETTINGS)
    vae.load_state_dict(complete.state_dict(), assign=True)
    vae.eval()
    assert not any(tensor.is_meta for tensor in vae.state_dict().values()) and not list(vae.named_buffers())
    latents, points = torch.randn(1, 8, 4), torch.rand(1, 6, 3)
    with torch.inference_mode():
        expected = complete.geo_decoder(queries=points, latents=complete(latents))
        assert torch.equal(vae.geo_decoder(queries=points, latents=vae(latents)), expected)


def test_construction_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """C7: the reference printed a line for every encoder."""
    ShapeVAE(**(SETTINGS | {"pc_sharpedge_size": 0}), with_encoder=True)
    assert capsys.readouterr() == ("", "")


def test_checkpoint_files(tmp_path: Path) -> None:
    source = ShapeVAE(**SETTINGS)
    torch.save({"state_dict": source.state_dict() | {"loss.weight": torch.zeros(1)}}, tmp_path / "a.ckpt")
    save_file(source.state_dict(), tmp_path / "b.safetensors")
    for vae in (ShapeVAE(**SETTINGS), ShapeVAE(**SETTINGS, ckpt_path=tmp_path / "b.safetensors")):
        if vae.training:
            vae.init_from_ckpt(tmp_path / "a.ckpt", ignore_keys=["loss."])
        assert not vae.training
        assert all(torch.equal(value, source.state_dict()[key]) for key, value in vae.state_dict().items())
    with pytest.raises(WeightsNotFoundError, match="nowhere"):
        ShapeVAE(**SETTINGS, ckpt_path=tmp_path / "nowhere.ckpt")


class Touch:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_checkpoint_with_code_is_refused(tmp_path: Path) -> None:
    """C5: the reference unpickled without restriction, so a checkpoint could run code."""
    marker = tmp_path / "ran"
    (tmp_path / "evil.ckpt").write_bytes(pickle.dumps({"state_dict": Touch(marker)}, protocol=2))
    torch.save({"state_dict": Touch(marker)}, tmp_path / "evil2.ckpt")
    for name in ("evil.ckpt", "evil2.ckpt"):
        with pytest.raises(WeightsDamagedError, match=name):
            ShapeVAE(**SETTINGS).init_from_ckpt(tmp_path / name)
    assert not marker.exists()


def test_unknown_extraction_is_named() -> None:
    pytest.importorskip("hy3dgen.shapegen.models.autoencoders.surface_extractors")
    with pytest.raises(UsageError, match="'marching'"):
        ShapeVAE(**SETTINGS).enable_flashvdm_decoder(mc_algo="marching")


def test_flashvdm_on_and_off() -> None:
    pytest.importorskip("hy3dgen.shapegen.models.autoencoders.surface_extractors")
    from hy3dgen.shapegen.models import autoencoders

    vae = ShapeVAE(**SETTINGS)
    assert isinstance(vae.volume_decoder, autoencoders.VanillaVolumeDecoder)
    assert isinstance(vae.surface_extractor, autoencoders.MCSurfaceExtractor)
    vae.enable_flashvdm_decoder(topk_mode="merge", mc_algo="mc")
    assert isinstance(vae.volume_decoder, autoencoders.FlashVDMVolumeDecoding)
    vae.enable_flashvdm_decoder(adaptive_kv_selection=False, mc_algo="mc")
    assert isinstance(vae.volume_decoder, autoencoders.HierarchicalVolumeDecoding)
    vae.enable_flashvdm_decoder(enabled=False)
    assert isinstance(vae.volume_decoder, autoencoders.VanillaVolumeDecoder)


def test_latents2mesh_passes_keywords_on() -> None:
    vae = ShapeVAE(**SETTINGS)
    seen = []
    vae.volume_decoder = lambda latents, decoder, **kwargs: seen.append((decoder, kwargs)) or latents
    vae.surface_extractor = lambda grid, **kwargs: [(grid.shape, kwargs)]
    meshes = vae.latents2mesh(torch.zeros(1, 8, 32), octree_resolution=4)
    assert meshes == [((1, 8, 32), {"octree_resolution": 4})]
    assert seen == [(vae.geo_decoder, {"octree_resolution": 4})]


def test_wrong_surfaces_are_explained() -> None:
    vae = ShapeVAE(**SETTINGS, with_encoder=True)
    with pytest.raises(InputError, match="40 uniform ones followed by 40 sharp ones"):
        vae.encode(torch.zeros(1, 79, 6))
    with pytest.raises(InputError, match="3 features"):
        vae.encode(torch.zeros(1, 80, 7))
    with pytest.raises(InputError, match="got"):
        vae.encode(torch.zeros(80, 6))
    greedy = ShapeVAE(**(SETTINGS | {"downsample_ratio": 20}), with_encoder=True)
    with pytest.raises(UsageError, match="at least 80 and 80"):
        greedy.encode(torch.zeros(1, 80, 6))


def test_gaussian() -> None:
    torch.manual_seed(0)
    mean, logvar = torch.randn(2, 5, 3), torch.randn(2, 5, 3)
    found = DiagonalGaussianDistribution(torch.cat([mean, logvar], dim=-1), feat_dim=-1)
    ours = torch.distributions.Normal(mean, (0.5 * logvar).exp())
    other = DiagonalGaussianDistribution([mean + 0.3, logvar - 0.2], feat_dim=-1)
    theirs = torch.distributions.Normal(mean + 0.3, (0.5 * (logvar - 0.2)).exp())
    standard = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    divergence = torch.distributions.kl_divergence
    torch.testing.assert_close(found.kl(), divergence(ours, standard).mean(dim=(1, 2)))
    torch.testing.assert_close(found.kl(other), divergence(ours, theirs).mean(dim=(1, 2)))
    sample = found.sample(torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.nll(sample), -ours.log_prob(sample).sum(dim=(1, 2)))
    assert torch.equal(sample, found.sample(torch.Generator().manual_seed(0)))

    certain = DiagonalGaussianDistribution(torch.cat([mean, logvar], dim=1), deterministic=True)
    assert torch.equal(certain.sample(), certain.mode()) and certain.kl().tolist() == [0.0]
    assert certain.nll(mean).tolist() == [0.0]
    assert DiagonalGaussianDistribution(torch.full((1, 2), 99.0)).logvar.item() == 20.0
