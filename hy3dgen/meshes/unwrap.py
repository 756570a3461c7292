"""A UV map for a mesh: charts without overlap on one square page, and figures that say how good it is.

uvunwrap does the work; xatlas stands in where it fails or its result is not good enough, and the log says why.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hy3dgen.errors import MeshError, UsageError
from hy3dgen.meshes.cleanup import check
from hy3dgen.meshes.jit import compiled
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.meshes.normals import vertex_normals
from hy3dgen.meshes.topology import (
    compact,
    consistent_winding,
    face_areas,
    joined_faces,
    orient,
    parts_by_vertex,
)

logger = logging.getLogger(__name__)

Method = Literal["auto", "uvunwrap", "xatlas"]

_MAX_OVERLAP = 0.01
# 1.3 million faces take uvunwrap 48 s of processor time and 1.2 GB. From about here on a page of 2048² has less than
# two texels for a face, so a map is of no use.
MAX_FACES = 2_000_000
"""Faces that a mesh may have to get a UV map."""


@dataclass(frozen=True)
class UvMetrics:
    """How good a UV map is.

    coverage: share of the page's texels under a face, 0 to 1
    overlap: share of the covered texels that lie under more than one face
    charts: number of separate pieces
    stretch: L2 stretch (Sander) relative to the best uniform scale, 1 is distortion-free; inf with a zero-area UV face
    mirrored: faces that are turned over in the map
    """

    coverage: float
    overlap: float
    charts: int
    stretch: float
    mirrored: int


def unwrap(mesh: Mesh, *, size_px: int = 2048, padding_px: int = 2, method: Method = "auto") -> Mesh:
    """The same surface with a UV map; vertices are copied at seams, faces keep their order and winding is made outward.

    size_px: page for which the charts are packed; padding_px: empty texels around each chart there.
    method: "auto" tries uvunwrap, then xatlas with a logged reason; the others insist.
    Smooth normals from before the cut come along. An earlier UV map and texture are dropped. Deterministic.
    Raises MeshError for a mesh with NaN vertices, without faces or without area, of over two million faces, or when no
    method gives a usable map.
    """
    if method not in ("auto", "uvunwrap", "xatlas"):
        raise UsageError(f"unknown unwrap method '{method}'; methods are auto, uvunwrap, xatlas")
    if size_px < 16 or padding_px < 0:
        raise UsageError(f"size_px is {size_px} and padding_px {padding_px}; expected at least 16 and 0")
    check(mesh)
    if len(mesh.faces) > MAX_FACES:
        raise MeshError(
            f"{len(mesh.faces)} faces are too many for a UV map (at most {MAX_FACES}): "
            "hardly a texel would be left for each; reduce the mesh first, for example to 40000 faces"
        )
    bad = int((~np.isfinite(mesh.vertices[mesh.faces]).all((1, 2))).sum())
    if bad:
        raise MeshError(f"{bad} of {len(mesh.faces)} faces touch a NaN or infinite vertex; clean the mesh first")
    joined = mesh.with_(faces=joined_faces(mesh).astype(np.int32), uv=None, texture=None)
    mesh = orient(compact(joined))[0]
    if mesh.normals is None:
        mesh = mesh.with_(normals=vertex_normals(mesh))
    points = _unit_size(mesh)
    if method == "auto" and not consistent_winding(mesh.faces):
        logger.info("unwrapping with xatlas: the winding cannot be made consistent (a one-sided surface)")
        method = "xatlas"
    if method != "xatlas":
        try:
            return _checked(_with_uvunwrap(mesh, points, size_px, padding_px), mesh)
        except MeshError as error:
            if method == "uvunwrap":
                raise
            logger.warning("unwrapping with xatlas, because uvunwrap did not do: %s", error)
    return _checked(_with_xatlas(mesh, points, size_px, padding_px), mesh)


def _unit_size(mesh: Mesh) -> np.ndarray:
    """Used vertices moved to the unit cube, (V, 3) float32: xatlas gives NaN for meshes a micro-unit wide."""
    used = mesh.vertices[np.unique(mesh.faces)].astype(np.float64)
    low, high = used.min(0), used.max(0)
    span = float((high - low).max())
    if span <= 0:
        raise MeshError("all vertices of the mesh are in one place; there is no surface to unwrap")
    return np.clip((mesh.vertices.astype(np.float64) - low) / span, -1.0, 2.0).astype(np.float32)


def _with_uvunwrap(mesh: Mesh, points: np.ndarray, size_px: int, padding_px: int) -> Mesh:
    import uvunwrap

    piece = uvunwrap.Mesh(points, np.ascontiguousarray(mesh.faces, np.int32))
    try:
        atlas = uvunwrap.generate([piece], page_size=size_px, padding=padding_px)
    except uvunwrap.UnwrapError as error:
        raise MeshError(f"uvunwrap could not unwrap {len(mesh.faces)} faces: {error}") from error
    if atlas.page_count != 1:
        raise MeshError(f"uvunwrap needed {atlas.page_count} pages for {len(mesh.faces)} faces at {size_px} px")
    out = atlas.meshes[0]
    faces = np.asarray(out.indices, np.int32).reshape(-1, 3)
    return _cut(mesh, np.asarray(out.xref, np.int64), faces, np.asarray(out.uv, np.float32).reshape(-1, 2))


def _with_xatlas(mesh: Mesh, points: np.ndarray, size_px: int, padding_px: int) -> Mesh:
    import xatlas

    atlas = xatlas.Atlas()
    pack = xatlas.PackOptions()
    # xatlas exceeds the resolution by up to a sixth and is scaled back to the page, so ask for that much more
    pack.resolution, pack.padding = size_px, padding_px + -(-padding_px // 6)
    try:
        atlas.add_mesh(points, np.ascontiguousarray(mesh.faces, np.uint32))
        atlas.generate(pack_options=pack)
    except (RuntimeError, ValueError) as error:
        raise MeshError(f"xatlas could not unwrap {len(mesh.faces)} faces: {error}") from error
    source, faces, uv = atlas[0]
    return _cut(mesh, source.astype(np.int64), faces.astype(np.int32), uv.astype(np.float32))


def _cut(mesh: Mesh, source: np.ndarray, faces: np.ndarray, uv: np.ndarray) -> Mesh:
    """The mesh with vertices copied as ``source``, (V',), says."""
    if not np.isfinite(uv).all():
        raise MeshError(f"{int((~np.isfinite(uv)).any(1).sum())} of {len(uv)} UVs are NaN or infinite")
    assert mesh.normals is not None
    return Mesh(mesh.vertices[source], faces, uv=np.clip(uv, 0.0, 1.0), normals=mesh.normals[source])


def _checked(result: Mesh, mesh: Mesh) -> Mesh:
    """``result``, if it is a usable map of ``mesh``; else MeshError. Costs some 50 ms at 40 000 faces."""
    if len(result.faces) != len(mesh.faces) or not np.array_equal(
        result.vertices[result.faces], mesh.vertices[mesh.faces]
    ):
        raise MeshError("the unwrapped mesh is not the one that went in")
    flat = result.with_(vertices=np.pad(np.asarray(result.uv), ((0, 0), (0, 1))))
    if face_areas(flat).sum() > 1 + _MAX_OVERLAP:
        raise MeshError("the faces of the UV map are larger than the page, so many lie under more than one face")
    metrics = uv_metrics(result, 512)
    if metrics.coverage < 0.02:
        raise MeshError(f"the UV map covers only {metrics.coverage:.1%} of its page")
    if metrics.overlap > _MAX_OVERLAP:
        raise MeshError(f"{metrics.overlap:.1%} of the UV map lies under more than one face")
    return result


def uv_metrics(mesh: Mesh, size_px: int = 1024) -> UvMetrics:
    """Measure a UV map on a page of ``size_px``. Raises MeshError when the mesh has none."""
    if mesh.uv is None:
        raise MeshError("the mesh has no UV map; unwrap it first")
    layers = texel_layers(mesh.uv, mesh.faces, size_px)
    covered = int((layers > 0).sum())
    flat = mesh.uv.astype(np.float64)[mesh.faces]
    along, across = flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]
    twice_area = along[:, 0] * across[:, 1] - along[:, 1] * across[:, 0]
    return UvMetrics(
        coverage=covered / size_px**2,
        overlap=float((layers > 1).sum()) / max(covered, 1),
        charts=int(parts_by_vertex(mesh.faces, len(mesh.vertices)).max(initial=-1)) + 1,
        stretch=_stretch(mesh, flat, twice_area),
        mirrored=int((twice_area < 0).sum()),
    )


def _stretch(mesh: Mesh, flat: np.ndarray, twice_area: np.ndarray) -> float:
    """Sander's L2 stretch over faces that have area on the surface, times the root of the area ratio."""
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    span = np.ptp(corners.reshape(-1, 3), axis=0).max()
    corners = corners / (span or 1.0)
    solid = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    real = solid > 1e-12
    corners, flat, twice_area, solid = corners[real], flat[real], twice_area[real], solid[real]
    if len(solid) == 0 or (twice_area == 0).any():
        return float("inf")
    t = flat[..., 1]
    s = flat[..., 0]
    d_ds = np.einsum("fki,fk->fi", corners, np.stack([t[:, 1] - t[:, 2], t[:, 2] - t[:, 0], t[:, 0] - t[:, 1]], 1))
    d_dt = np.einsum("fki,fk->fi", corners, np.stack([s[:, 2] - s[:, 1], s[:, 0] - s[:, 2], s[:, 1] - s[:, 0]], 1))
    squared = ((d_ds**2).sum(1) + (d_dt**2).sum(1)) / twice_area**2 / 2
    return float(np.sqrt((squared * solid).sum() / solid.sum()) * np.sqrt(np.abs(twice_area).sum() / solid.sum()))


def texel_layers(uv: np.ndarray, faces: np.ndarray, size_px: int) -> np.ndarray:
    """How many faces cover the centre of each texel, (size, size) int32, row 0 at v = 0.

    Exact integers on 1/256 texel with a fill rule, so neighbours never both take the texels on their common edge.
    """
    grid = np.round(uv.astype(np.float64) * size_px * 256).astype(np.int64)
    layers = np.zeros((size_px, size_px), np.int32)
    _add_layers(grid, faces, layers)
    return layers


@compiled
def _add_layers(grid, faces, layers):
    """Add 1 at the texels of every face. grid: (V, 2) int64 corners in 1/256 texel, texel centres at 256 i + 128."""
    size = layers.shape[0]
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, bx, by, cx, cy = grid[a, 0], grid[a, 1], grid[b, 0], grid[b, 1], grid[c, 0], grid[c, 1]
        turn = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if turn == 0:
            continue
        if turn < 0:
            bx, by, cx, cy = cx, cy, bx, by
        left, right = max(-((128 - min(ax, bx, cx)) // 256), 0), min((max(ax, bx, cx) - 128) // 256 + 1, size)
        low, high = max(-((128 - min(ay, by, cy)) // 256), 0), min((max(ay, by, cy) - 128) // 256 + 1, size)
        for row in range(low, high):
            y = row * 256 + 128
            for column in range(left, right):
                x = column * 256 + 128
                if _owns(ax, ay, bx, by, x, y) and _owns(bx, by, cx, cy, x, y) and _owns(cx, cy, ax, ay, x, y):
                    layers[row, column] += 1


@compiled
def _owns(ax, ay, bx, by, x, y):
    """Whether a point lies left of the line from a to b, or on it where the rule gives the line to this side."""
    side = (bx - ax) * (y - ay) - (by - ay) * (x - ax)
    return side > 0 or (side == 0 and (by > ay or (by == ay and bx < ax)))
