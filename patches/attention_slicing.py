"""Description: Attention slicing where no memory-efficient kernel exists.
  Elsewhere slicing would raise memory and time.
Origin: memo, technique 6 (attention slicing), in its honest form
Applies-To: Hunyuan3D-2, 2.0 and 2.1 states
Forwarded: no
Last-Update: 2026-11-23

With torch's scaled dot-product attention, `enable_attention_slicing` replaces the fused kernel by explicit score
matrices: more memory, not less. So it is switched on only for a torch that has no such kernel.
"""

from __future__ import annotations

from patches._diffusion_stages import DELIGHT, VIEWS, calls_one_of, lacking
from tools.patching.model import Place
from tools.patching.syntax import Source

SLICES = calls_one_of("enable_attention_slicing", "set_attention_slice")


def _place(file: str, class_name: str) -> Place:
    def edit(source: Source) -> None:
        while pending := lacking(source, class_name, SLICES):
            statement, target, _ = pending[0]
            source.insert(
                statement,
                'if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):\n'
                f"    {target}.enable_attention_slicing()\n",
            )
        source.ensure_import("torch")

    def broken(source: Source) -> str | None:
        return f"{class_name}.__init__ never slices attention" if lacking(source, class_name, SLICES) else None

    return Place(file, edit, broken)


PLACES = [_place(*DELIGHT), _place(*VIEWS)]
