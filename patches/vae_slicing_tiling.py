"""Description: VAE slicing and tiling in both diffusion stages of texture generation.
  Decoding six views at once is its peak.
Origin: memo, technique 5 (VAE tiling and slicing)
Applies-To: Hunyuan3D-2, 2.0 and 2.1 states
Forwarded: no
Last-Update: 2026-11-23

Switched on right after the pipeline is made, before it moves to the device. Slicing keeps the result. Tiles are made at
least 512 px wide (some published VAEs say 256), the size of the views, so tiling changes nothing there unless the
configuration has `vae_tile_px` before the pipeline is built (smaller tiles need less memory and change the result
slightly). Larger pictures are decoded in tiles.
"""

from __future__ import annotations

from patches._diffusion_stages import DELIGHT, VIEWS, calls_one_of, config_name, lacking
from tools.patching.model import Place
from tools.patching.syntax import Source

SLICING = ("enable_slicing", "enable_vae_slicing")
TILING = ("enable_tiling", "enable_vae_tiling")


def _tiling(target: str, config: str) -> str:
    return (
        f"{target}.vae.enable_tiling()\n"
        f'if hasattr({target}.vae, "tile_latent_min_size"):\n'
        f'    vae_tile_px = getattr({config}, "vae_tile_px", None) or max(512, {target}.vae.tile_sample_min_size)\n'
        f"    vae_px_per_latent = {target}.vae.tile_sample_min_size / {target}.vae.tile_latent_min_size\n"
        f"    {target}.vae.tile_sample_min_size = vae_tile_px\n"
        f"    {target}.vae.tile_latent_min_size = int(vae_tile_px / vae_px_per_latent)\n"
    )


def _place(file: str, class_name: str) -> Place:
    def edit(source: Source) -> None:
        config = config_name(source, class_name)
        while pending := lacking(source, class_name, calls_one_of(*TILING)):
            statement, target, _ = pending[0]
            source.insert(statement, _tiling(target, config))
        while pending := lacking(source, class_name, calls_one_of(*SLICING)):
            statement, target, _ = pending[0]
            source.insert(statement, f"{target}.vae.enable_slicing()\n")

    def broken(source: Source) -> str | None:
        missing = [names[0] for names in (SLICING, TILING) if lacking(source, class_name, calls_one_of(*names))]
        return f"{class_name}.__init__ does not call {' and '.join(missing)}" if missing else None

    return Place(file, edit, broken)


PLACES = [_place(*DELIGHT), _place(*VIEWS)]
