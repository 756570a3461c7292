"""Networks of shape generation."""

from hy3dgen.shapegen.models.autoencoders.model import ShapeVAE
from hy3dgen.shapegen.models.conditioner import (
    CLIPImageEncoder,
    DinoImageEncoder,
    DualImageEncoder,
    SingleImageEncoder,
)
from hy3dgen.shapegen.models.denoisers.hunyuan3ddit import Hunyuan3DDiT

__all__ = [
    "ShapeVAE",
    "DualImageEncoder",
    "SingleImageEncoder",
    "DinoImageEncoder",
    "CLIPImageEncoder",
    "Hunyuan3DDiT",
]
