"""Upstream's path of the volume decoders, features of a shape to its values on a grid. Home: ``decoding``."""

from hy3dgen.shapegen.models.autoencoders.decoding.dense import VanillaVolumeDecoder
from hy3dgen.shapegen.models.autoencoders.decoding.flashvdm import FlashVDMVolumeDecoding
from hy3dgen.shapegen.models.autoencoders.decoding.hierarchical import HierarchicalVolumeDecoding
from hy3dgen.shapegen.models.autoencoders.decoding.lattice import generate_dense_grid_points
from hy3dgen.shapegen.models.autoencoders.decoding.masks import extract_near_surface_volume_fn

__all__ = [
    "extract_near_surface_volume_fn",
    "generate_dense_grid_points",
    "VanillaVolumeDecoder",
    "HierarchicalVolumeDecoding",
    "FlashVDMVolumeDecoding",
]
