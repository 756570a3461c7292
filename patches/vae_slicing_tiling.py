"""Description: VAE slicing and tiling in both diffusion stages of texture generation.
  Decoding six views at once is its peak.
Origin: memo, technique 5 (VAE tiling and slicing)
Applies-To: Hunyuan3D-2, 2.0 and 2.1 states
Forwarded: no
Last-Update: 2026-11-23

Switched on right after the pipeline is made, before it moves to the device. Slicing keeps the result. Tiling never
triggers at 512 px with the library's own tile size, so it changes nothing unless the configuration has `vae_tile_px`
(smaller tiles need less memory and change the result slightly).
"""

from __future__ import annotations

from patches._diffusion_stages import DELIGHT, VIEWS, config_name, made_pipeline
from tools.patching.model import Place
from tools.patching.syntax import Source, holds_call


def _place(file: str, class_name: str) -> Place:
    def edit(source: Source) -> None:
        statement, target, _ = made_pipeline(source, class_name)
        config = config_name(source, class_name)
        code = (
            f"{target}.vae.enable_slicing()\n"
            f"{target}.vae.enable_tiling()\n"
            f'if getattr({config}, "vae_tile_px", None):\n'
            f"    {target}.vae.tile_sample_min_size = {config}.vae_tile_px\n"
            f"    {target}.vae.tile_latent_min_size = {config}.vae_tile_px // 8\n"
        )
        source.insert(statement, code)

    def broken(source: Source) -> str | None:
        init = source.method(class_name, "__init__")
        missing = [name for name in ("enable_slicing", "enable_tiling") if not holds_call(init, name)]
        return f"{class_name}.__init__ does not call {' and '.join(missing)}" if missing else None

    return Place(file, edit, broken)


PLACES = [_place(*DELIGHT), _place(*VIEWS)]
