"""Networks that remove noise from latents."""

from hy3dgen.shapegen.models.denoisers.hunyuan3ddit import Hunyuan3DDiT

__all__ = ["Hunyuan3DDiT"]
