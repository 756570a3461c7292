"""From a grid of values to triangles.

Values are positive inside. Faces come out as the published extractors give them, enclosing a negative volume;
``export_to_trimesh`` turns them outward. Points that were not evaluated hold NaN: faces that touch them are artefacts
of the band's border and are dropped, so nothing non-finite is handed on.
"""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hy3dgen.errors import MissingExtraError, UsageError
from hy3dgen.shapegen.models.autoencoders import cubes
from hy3dgen.shapegen.models.autoencoders.decoding.lattice import Bounds, box_of, checked_resolution

log = logging.getLogger(__name__)


@dataclass
class Latent2MeshOutput:
    """mesh_v: (V, 3) float32 in the box's units; mesh_f: (F, 3) int32, facing inward."""

    mesh_v: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.float32))
    mesh_f: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.int32))


def center_vertices(vertices: Tensor) -> Tensor:
    """(V, 3) moved so that the centre of their bounding box is the origin; a new tensor."""
    return vertices - (vertices.amin(dim=0) + vertices.amax(dim=0)) / 2


class SurfaceExtractor:
    """Base class: a batch of grids to a list of meshes."""

    def run(self, grid_logit: Tensor, **kwargs: Any) -> tuple[np.ndarray, np.ndarray] | None:
        """(vertices (V, 3), faces (F, 3)) of one (g, g, g) grid, or None when it has no surface."""
        raise NotImplementedError

    def __call__(self, grid_logits: Tensor, **kwargs: Any) -> list[Latent2MeshOutput | None]:
        """grid_logits: (B, g, g, g). One mesh per item; None, with a logged warning, where there is no surface.

        The keywords are those of ``latents2mesh`` and go to ``run``. Errors are not caught.
        """
        outputs: list[Latent2MeshOutput | None] = []
        for index, grid in enumerate(grid_logits):
            found = self.run(grid, **kwargs)
            if found is None:
                log.warning("item %d has no surface: its field never crosses the level", index)
                outputs.append(None)
                continue
            vertices, faces = found
            outputs.append(Latent2MeshOutput(vertices.astype(np.float32), np.ascontiguousarray(faces, dtype=np.int32)))
        return outputs


class MCSurfaceExtractor(SurfaceExtractor):
    """Marching cubes, where the grid is: with Lewiner's disambiguation on the host, by array code on an accelerator.

    exact: map grid points to where they were evaluated. By default the mapping is the published one, which divides by
    R + 1 for R cells, so that a mesh is smaller by up to one cell and shifted towards the box's minimum.
    """

    def __init__(self, exact: bool = False) -> None:
        self.exact = exact

    def run(
        self,
        grid_logit: Tensor,
        *,
        mc_level: float = 0.0,
        bounds: Bounds = 1.01,
        octree_resolution: int | None = None,
        **kwargs: Any,
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """(vertices (V, 3) float32 in the box's units, faces (F, 3) int32), or None when there is no surface.

        grid_logit: (g, g, g), NaN where not evaluated; octree_resolution: as asked for, which the published mapping
        uses even when the grid is smaller; not needed with ``exact``. Raises UsageError for unusable bounds.
        """
        low, high = box_of(bounds)
        found = marching_cubes(grid_logit, mc_level)
        if found is None:
            return None
        vertices, faces = found
        if self.exact:
            cells: Any = np.array(grid_logit.shape) - 1
        else:
            cells = checked_resolution(octree_resolution) + 1
        return (vertices / cells * (high - low) + low).astype(np.float32), faces


def marching_cubes(grid: Tensor, level: float) -> tuple[np.ndarray, np.ndarray] | None:
    """(vertices (V, 3) float32 in index units, faces (F, 3) int32) of a (g, g, g) grid, all finite; None if empty.

    A grid on the host (and on a Mac's GPU, which shares its memory) goes through scikit-image, one on another device is
    extracted there by ``cubes.surface`` and only the mesh travels. The two agree but for the cut of a cell's surface
    into triangles and cells that hold a tunnel. Raises UsageError for a grid that has not three axes.
    """
    if grid.ndim != 3:
        raise UsageError(f"a grid of values has three axes, but this one has the shape {tuple(grid.shape)}")
    if min(grid.shape) < 2:
        return None
    if grid.device.type not in ("cpu", "mps"):
        points, triangles = cubes.surface(grid.detach().float(), level)
        return (points.cpu().numpy(), triangles.to(torch.int32).cpu().numpy()) if len(triangles) else None
    return _on_host(grid.detach().to(device="cpu", dtype=torch.float32).numpy(), level)


def _on_host(values: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray] | None:
    # Imported here: scikit-image loads slowly and most users of this module's names never extract.
    from skimage.measure import marching_cubes as lewiner

    lowest, highest = np.fmin.reduce(values, axis=None), np.fmax.reduce(values, axis=None)  # NaN only if all are
    if not lowest <= level <= highest:
        return None
    try:
        vertices, faces, _, _ = lewiner(values, level, method="lewiner", spacing=(1.0, 1.0, 1.0))
    except RuntimeError as error:
        if "No surface found" not in str(error):
            raise
        return None
    return _finite_part(vertices, faces)


def _finite_part(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The faces whose corners are all finite, with the vertices that they use; the same order."""
    finite = np.isfinite(vertices).all(axis=1)
    if finite.all():
        return vertices.astype(np.float32), faces.astype(np.int32)
    faces = faces[finite[faces].all(axis=1)]
    if len(faces) == 0:
        return None
    used = np.zeros(len(vertices), dtype=bool)
    used[faces.reshape(-1)] = True
    renumbered = (np.cumsum(used) - 1).astype(np.int32)
    return vertices[used].astype(np.float32), renumbered[faces]


class DMCSurfaceExtractor(SurfaceExtractor):
    """Dual marching cubes of the package ``diso``, which needs CUDA and a compiler to install.

    The mesh keeps its place and scale in the box and follows ``mc_level``.
    """

    def __init__(self) -> None:
        self._builder: Any = None

    def run(
        self, grid_logit: Tensor, *, mc_level: float = 0.0, bounds: Bounds = 1.01, **kwargs: Any
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """As ``MCSurfaceExtractor.run`` with its exact mapping.

        Raises MissingExtraError when diso is not installed or cannot be loaded here.
        """
        low, high = box_of(bounds)
        build, device = self._get_builder(grid_logit.device)
        values = grid_logit.detach().to(device=device, dtype=torch.float32) - mc_level
        known = values.isfinite()
        if not (known & (values > 0)).any() or not (known & (values <= 0)).any():
            return None
        # The package knows no holes: what was not evaluated becomes outside, and the shell that this makes along the
        # band's inner border is dropped again, as it lies in cells with a corner that was not evaluated.
        distance = torch.where(known, -values, values.new_ones(())).contiguous()
        vertices, faces = build(distance, deform=None, return_quads=False, normalize=True)
        faces = faces[_in_known_cells(vertices, known)[faces.long()].all(dim=1)]
        placed = vertices.cpu().double().numpy() * (high - low) + low
        placed[~np.isin(np.arange(len(placed)), faces.cpu().numpy())] = np.nan  # so that they are dropped below
        return _finite_part(placed.astype(np.float32), faces.flip(1).cpu().numpy()) if len(faces) else None

    def _get_builder(self, device: torch.device) -> tuple[Any, torch.device]:
        """The package's function and the device that it works on, made once."""
        if self._builder is None:
            try:
                from diso import DiffDMC
            except (ImportError, OSError) as error:  # OSError: its CUDA libraries cannot be loaded
                raise MissingExtraError(
                    f"surface extraction 'dmc' needs the package diso and a CUDA device ({error}); "
                    "install it with 'pip install diso', or use 'mc'",
                    package="diso",
                    command="pip install diso",
                ) from error
            accelerator = device if device.type != "cpu" else torch.accelerator.current_accelerator()
            if accelerator is None:
                raise UsageError("surface extraction 'dmc' needs a CUDA device, and torch sees none here; use 'mc'")
            self._builder = DiffDMC(dtype=torch.float32).to(accelerator), accelerator
        return self._builder


def _in_known_cells(vertices: Tensor, known: Tensor) -> Tensor:
    """(V,) bool: vertices (V, 3) in [0, 1] whose grid cell has only known corners."""
    cells = torch.tensor(known.shape, device=vertices.device) - 1
    at = (vertices * cells).floor().long().clamp(min=torch.zeros_like(cells), max=cells - 1)
    result = torch.ones(len(vertices), dtype=torch.bool, device=vertices.device)
    for i, j, k in itertools.product((0, 1), repeat=3):
        result &= known[at[:, 0] + i, at[:, 1] + j, at[:, 2] + k]
    return result


SurfaceExtractors = {"mc": MCSurfaceExtractor, "dmc": DMCSurfaceExtractor}
