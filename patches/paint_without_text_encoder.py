"""Description: The paint pipeline is loaded without its text encoder and tokenizer.
  They are never used: 0.65 GB of VRAM.
Origin: memo, beyond it: exact savings
Applies-To: Hunyuan3D-2, 2.0 and 2.1 states
Forwarded: no
Last-Update: 2026-11-23

Text states of the paint network are learned parameters, so the result keeps its bits.
"""

from __future__ import annotations

from patches._diffusion_stages import VIEWS, made_pipeline
from tools.patching.model import Place
from tools.patching.syntax import Source, keyword

FILE, CLASS = VIEWS
PARTS = ("text_encoder", "tokenizer")


def edit(source: Source) -> None:
    """Pass None for both parts."""
    _, _, call = made_pipeline(source, CLASS)
    source.add_arguments(call, *((part, "None") for part in PARTS if keyword(call, part) is None))


def broken(source: Source) -> str | None:
    """Both parts are given to from_pretrained."""
    _, _, call = made_pipeline(source, CLASS)
    missing = [part for part in PARTS if keyword(call, part) is None]
    return f"from_pretrained loads {' and '.join(missing)}" if missing else None


PLACES = [Place(FILE, edit, broken)]
