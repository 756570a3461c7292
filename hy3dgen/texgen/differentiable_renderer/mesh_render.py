"""``MeshRender`` with the reference's method names over ``rendering`` and ``baking``; no algorithm lives here.

Angles in degrees, axes and signs as in ``rendering.cameras``. Maps come as 'th' tensors (H, W, C), 'np' arrays or 'pl'
pictures. Unlike the reference it runs on any device, never writes to the caller's arrays, and keeps the last
rasterisation, so that the maps of one view cost one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import trimesh
from PIL import Image

from hy3dgen.baking.blend import Merge
from hy3dgen.baking.inpaint import fill_picture, spread_over_vertices
from hy3dgen.baking.splat import back_project, splat, splat_mean
from hy3dgen.errors import MeshError, UsageError
from hy3dgen.rendering import maps
from hy3dgen.rendering.cameras import View, to_file_space
from hy3dgen.rendering.rasterizers import BACKENDS, Raster, interpolate, rasterize
from hy3dgen.rendering.surface import RasterMesh, prepare
from hy3dgen.runtime.device import pick_device
from hy3dgen.texgen.differentiable_renderer import mesh_utils

__all__ = ["MeshRender", "linear_grid_put_2d", "scatter_add_nd_with_count", "stride_from_shape"]

Colour = torch.Tensor | np.ndarray | Image.Image
Size = int | Sequence[int]
Center = Sequence[float] | None


def stride_from_shape(shape: Sequence[int]) -> list[int]:
    """Row-major strides, in elements."""
    return [math.prod(shape[k + 1 :]) for k in range(len(shape))]


def scatter_add_nd_with_count(
    input: torch.Tensor,
    count: torch.Tensor,
    indices: torch.Tensor,
    values: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add values (N, C) and weights (N, 1), ones when None, in place at indices (N, D)."""
    strides = torch.tensor(stride_from_shape(input.shape[:-1]), device=indices.device)
    flat = (indices * strides).sum(-1)
    weights = torch.ones_like(values[..., :1]) if weights is None else weights
    input.view(-1, input.shape[-1]).index_add_(0, flat, values)
    count.view(-1, 1).index_add_(0, flat, weights)
    return input, count


def linear_grid_put_2d(
    H: int,
    W: int,
    coords: torch.Tensor,
    values: torch.Tensor,
    return_count: bool = False,
) -> Any:
    """Mean of samples on a grid (H, W, C), or with ``return_count`` their sums and weights; see ``baking.splat``."""
    return splat(H, W, coords, values) if return_count else splat_mean(H, W, coords, values)


class MeshRender:
    """The reference's renderer interface; give it a mesh with ``load_mesh`` or ``set_mesh``.

    camera_type: 'orth' or 'perspective'; raster_mode: 'cr' or 'auto' (chosen by device) or a name of
    ``rendering.rasterizers.BACKENDS``; device: chosen by the machine when None. Sizes: one number or (height, width).
    """

    def __init__(
        self,
        camera_distance: float = 1.45,
        camera_type: str = "orth",
        default_resolution: Size = 1024,
        texture_size: Size = 1024,
        use_antialias: bool = True,
        max_mip_level: int | None = None,
        filter_mode: str = "linear",
        bake_mode: str = "linear",
        raster_mode: str = "cr",
        device: str | torch.device | None = None,
    ) -> None:
        if raster_mode not in ("cr", "auto", *BACKENDS):
            raise UsageError(f"unknown raster_mode '{raster_mode}'; use cr, auto, {', '.join(BACKENDS)}")
        if camera_type not in ("orth", "perspective"):
            raise UsageError(f"unknown camera_type '{camera_type}'; use orth or perspective")
        if bake_mode != "linear":
            raise UsageError(f"unknown bake_mode '{bake_mode}'; the only one is linear")
        self.device = pick_device(device)
        self.default_resolution, self.texture_size = _pair(default_resolution), _pair(texture_size)
        self.camera_distance, self.camera_type = camera_distance, camera_type
        self.use_antialias, self.max_mip_level, self.filter_mode = use_antialias, max_mip_level, filter_mode
        self.bake_mode, self.raster_mode = bake_mode, raster_mode
        self.bake_angle_thres = 75.0
        self.bake_unreliable_kernel_size = int(2 / 512 * max(self.default_resolution))
        self.ortho_scale = 1.2
        self.scale_factor = 1.15
        self.mesh_copy: trimesh.Trimesh | None = None
        self.tex: torch.Tensor | None = None
        self._mesh: RasterMesh | None = None
        self._drawing: maps.Drawing | None = None

    # the mesh

    def load_mesh(self, mesh: trimesh.Trimesh, scale_factor: float = 1.15, auto_center: bool = True) -> None:
        """Take a trimesh; ``save_mesh`` gives the same object back with the texture on it."""
        vertices, faces, uv, uv_faces, _ = mesh_utils.load_mesh(mesh)
        self.mesh_copy = mesh
        self.set_mesh(vertices, faces, uv, uv_faces, scale_factor=scale_factor, auto_center=auto_center)

    def set_mesh(
        self,
        vtx_pos: np.ndarray,
        pos_idx: np.ndarray,
        vtx_uv: np.ndarray | None = None,
        uv_idx: np.ndarray | None = None,
        scale_factor: float = 1.15,
        auto_center: bool = True,
    ) -> None:
        """Vertices (V, 3) of file space, faces (F, 3), uv (U, 2) with v up, uv faces (F, 3); copied."""
        if vtx_uv is None or uv_idx is None:
            vtx_uv = uv_idx = None
        self._mesh = prepare(
            vtx_pos, pos_idx, vtx_uv, uv_idx, scale_factor=scale_factor, framed=auto_center, device=self.device
        )
        self._drawing = None
        if auto_center:
            self.scale_factor = scale_factor

    @property
    def mesh(self) -> RasterMesh:
        """The mesh that was set; raises MeshError when there is none."""
        if self._mesh is None:
            raise MeshError("no mesh to draw; call load_mesh or set_mesh first")
        return self._mesh

    vtx_pos = property(lambda self: self.mesh.positions)
    pos_idx = property(lambda self: self.mesh.faces)
    vtx_uv = property(lambda self: self.mesh.uv)
    uv_idx = property(lambda self: self.mesh.uv_faces)

    def get_mesh(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
        """(vertices, faces, uv, uv faces): file space again, still centred and scaled; new arrays."""
        uv = None
        if self.mesh.uv is not None:
            uv = self.mesh.uv.cpu().numpy().copy()
            uv[:, 1] = 1.0 - uv[:, 1]
        uv_faces = None if self.mesh.uv_faces is None else self.mesh.uv_faces.cpu().numpy().copy()
        positions = to_file_space(self.mesh.positions.cpu().numpy())
        return positions, self.mesh.faces.cpu().numpy().copy(), uv, uv_faces

    def save_mesh(self) -> trimesh.Trimesh:
        """The loaded trimesh with the current texture as its material."""
        if self.mesh_copy is None:
            raise MeshError("no mesh to save; call load_mesh first")
        picture = Image.fromarray(maps.to_uint8(torch.from_numpy(self.get_texture())))
        return mesh_utils.save_mesh(self.mesh_copy, picture)

    def set_texture(self, tex: Colour) -> None:
        """Take a texture (H, W, 3) in [0, 1], or a picture; resized to texture_size."""
        picture = tex if isinstance(tex, Image.Image) else Image.fromarray(maps.to_uint8(torch.as_tensor(tex)))
        resized = picture.resize(self.texture_size[::-1]).convert("RGB")
        self.tex = torch.from_numpy(np.array(resized) / np.float32(255)).to(self.device)

    def get_texture(self) -> np.ndarray:
        """(T, T, 3) float32 in [0, 1]; raises MeshError before set_texture."""
        if self.tex is None:
            raise MeshError("no texture yet; call set_texture first")
        return self.tex.cpu().numpy().copy()

    def set_default_render_resolution(self, default_resolution: Size) -> None:
        """Pixels of maps drawn without a resolution of their own."""
        self.default_resolution = _pair(default_resolution)

    def set_default_texture_resolution(self, texture_size: Size) -> None:
        """Texels of baked textures."""
        self.texture_size = _pair(texture_size)

    def to(self, device: str | torch.device) -> None:
        """Move mesh and texture."""
        self.device = pick_device(device)
        self._mesh = None if self._mesh is None else self._mesh.to(self.device)
        self.tex = None if self.tex is None else self.tex.to(self.device)
        self._drawing = None

    # views and maps

    def view(self, elev: float, azim: float, camera_distance: float | None = None, center: Center = None) -> View:
        """The camera that the methods below use."""
        target = None if center is None else (float(center[0]), float(center[1]), float(center[2]))
        distance = self.camera_distance if camera_distance is None else camera_distance
        view = View(azim, elev, distance, self.ortho_scale, target)
        if self.camera_type == "orth":
            return view
        aspect = self.default_resolution[1] / self.default_resolution[0]
        return view.with_(fovy_deg=49.13, aspect_wh=aspect, near=0.01)

    @property
    def camera_proj_mat(self) -> np.ndarray:
        """(4, 4) float32 projection of the current camera type."""
        return self.view(0, 0).projection()

    def drawing(
        self,
        elev: float,
        azim: float,
        camera_distance: float | None = None,
        center: Center = None,
        resolution: Size | None = None,
    ) -> maps.Drawing:
        """Rasterise a view, or return the last drawing if it was this one."""
        view = self.view(elev, azim, camera_distance, center)
        size = self.default_resolution if resolution is None else _pair(resolution)
        last = self._drawing
        if last is None or last.mesh is not self.mesh or last.view != view or last.raster.face_ids.shape != size:
            self._drawing = last = maps.draw(self.mesh, view, size, backend=self._backend)
        return last

    @property
    def _backend(self) -> str:
        return "auto" if self.raster_mode == "cr" else self.raster_mode

    def get_pos_from_mvp(
        self, elev: float, azim: float, camera_distance: float | None = None, center: Center = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(camera-space (V, 4), clip-space (1, V, 4)) vertices."""
        camera, clip = self.view(elev, azim, camera_distance, center).project(self.mesh.positions)
        return torch.cat([camera, torch.ones_like(camera[:, :1])], dim=1), clip[None]

    def render_normal(
        self,
        elev: float,
        azim: float,
        camera_distance: float | None = None,
        center: Center = None,
        resolution: Size | None = None,
        bg_color: Sequence[float] = (1, 1, 1),
        use_abs_coor: bool = False,
        normalize_rgb: bool = True,
        return_type: str = "th",
    ) -> Any:
        """Normals of renderer space (``use_abs_coor``) or camera space; see ``maps.normal_map``."""
        drawing = self.drawing(elev, azim, camera_distance, center, resolution)
        background = tuple(bg_color)
        normals = maps.normal_map(drawing, camera_space=not use_abs_coor, encoded=normalize_rgb, background=background)
        return _returned(normals, return_type)

    def render_position(
        self,
        elev: float,
        azim: float,
        camera_distance: float | None = None,
        center: Center = None,
        resolution: Size | None = None,
        bg_color: Sequence[float] = (1, 1, 1),
        return_type: str = "th",
    ) -> Any:
        """Positions in [0, 1]; see ``maps.position_map``."""
        drawing = self.drawing(elev, azim, camera_distance, center, resolution)
        return _returned(maps.position_map(drawing, background=tuple(bg_color)), return_type)

    def render_depth(
        self,
        elev: float,
        azim: float,
        camera_distance: float | None = None,
        center: Center = None,
        resolution: Size | None = None,
        return_type: str = "th",
    ) -> Any:
        """Depth, 1 nearest; see ``maps.depth_map``."""
        return _returned(maps.depth_map(self.drawing(elev, azim, camera_distance, center, resolution)), return_type)

    def render(
        self,
        elev: float,
        azim: float,
        camera_distance: float | None = None,
        center: Center = None,
        resolution: Size | None = None,
        return_type: str = "th",
    ) -> Any:
        """The textured mesh without light, (H, W, 4): colour and coverage."""
        drawing = self.drawing(elev, azim, camera_distance, center, resolution)
        texture = torch.from_numpy(self.get_texture()).to(self.device)
        if self.mesh.uv is None or self.mesh.uv_faces is None:
            raise MeshError("the mesh has no texture coordinates; unwrap it first")
        grid = interpolate(self.mesh.uv, self.mesh.uv_faces, drawing.raster) * 2 - 1
        sampled = torch.nn.functional.grid_sample(
            texture.permute(2, 0, 1)[None], grid[None], padding_mode="border", align_corners=True
        )
        colour = sampled[0].permute(1, 2, 0) * drawing.visible
        return _returned(torch.cat([colour, drawing.visible], dim=-1), return_type)

    def convert_normal_map(self, image: Image.Image | np.ndarray) -> Image.Image:
        """Re-encode a normal picture with other axes; see ``maps.turned_normal_picture``."""
        return maps.turned_normal_picture(image)

    def render_sketch_from_geometry(self, normal_image: torch.Tensor, depth_image: torch.Tensor) -> torch.Tensor:
        """(H, W, 1) float32, 1 on edges of the normal or the depth map."""
        return self._sketch(maps.geometry_edges(normal_image, depth_image))

    def render_sketch_from_depth(self, depth_image: torch.Tensor) -> torch.Tensor:
        """(H, W, 1) float32, 1 on edges of the depth map."""
        return self._sketch(maps.depth_edges(depth_image))

    def _sketch(self, edges: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(edges.astype(np.float32))[..., None].to(self.device)

    def uv_feature_map(self, vert_feat: torch.Tensor, bg: float | None = None) -> torch.Tensor:
        """Per-vertex features (V, C) drawn in texture space, (T, T, C); ``bg`` where no chart lies."""
        raster = maps.draw_atlas(self.mesh, self.texture_size, backend=self._backend)
        features = interpolate(vert_feat.to(self.device), self.mesh.faces, raster)
        return features if bg is None else torch.where(raster.covered[..., None], features, features.new_tensor(bg))

    def render_uvpos(self, return_type: str = "th") -> Any:
        """Positions in texture space, (T, T, 3): 0.5 + position / 2."""
        return _returned(self.uv_feature_map(self.mesh.positions * 0.5 + 0.5), return_type)

    # rasteriser, low level

    def raster_rasterize(
        self, pos: torch.Tensor, tri: torch.Tensor, resolution: Size, ranges: Any = None, grad_db: bool = True
    ) -> tuple[torch.Tensor, None]:
        """Clip-space (V, 4) or (1, V, 4) -> ((1, H, W, 4): barycentrics and face id, None)."""
        raster = rasterize(pos.reshape(-1, 4), tri, _pair(resolution), backend=self._backend)
        return torch.cat([raster.barycentrics, raster.face_ids[..., None].float()], dim=-1)[None], None

    def raster_interpolate(
        self,
        uv: torch.Tensor,
        rast_out: torch.Tensor,
        uv_idx: torch.Tensor,
        rast_db: Any = None,
        diff_attrs: Any = None,
    ) -> tuple[torch.Tensor, None]:
        """Attributes (V, C) or (1, V, C) -> ((1, H, W, C), None)."""
        raster = Raster(rast_out[0, ..., 3].int().contiguous(), rast_out[0, ..., :3].contiguous())
        return interpolate(uv.reshape(-1, uv.shape[-1]), uv_idx, raster)[None], None

    def raster_antialias(self, color: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        """The identity, as in the reference."""
        return color

    def color_rgb_to_srgb(self, image: Colour) -> Any:
        """Linear [0, 1] to sRGB, in the type that came in."""
        if isinstance(image, Image.Image):
            values = self.color_rgb_to_srgb(np.array(image) / np.float32(255))
            return Image.fromarray((values * 255).astype(np.uint8))
        library: Any = torch if isinstance(image, torch.Tensor) else np
        curve = 1.055 * library.clip(image, 0.0031308, None) ** (1 / 2.4) - 0.055
        return library.where(image <= 0.0031308, 12.92 * image, curve)

    # baking

    def back_project(
        self,
        image: Colour,
        elev: float,
        azim: float,
        camera_distance: float | None = None,
        center: Center = None,
        method: str | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Splat a picture: (texture (T, T, C), trust (T, T, 1), zeros (T, T, 1)); see ``baking.splat``."""
        if (method or self.bake_mode) != "linear":
            raise UsageError(f"unknown back projection '{method}'; the only one is linear")
        pixels = self._pixels(image)
        drawing = self.drawing(elev, azim, camera_distance, center, pixels.shape[:2])
        texture, trust = back_project(
            pixels, drawing, self.texture_size,
            limit_deg=self.bake_angle_thres, margin_px=self.bake_unreliable_kernel_size,
        )  # fmt: skip
        return texture, trust, torch.zeros_like(trust)

    def _pixels(self, image: Colour) -> torch.Tensor:
        values = np.array(image) / np.float32(255) if isinstance(image, Image.Image) else image
        pixels = torch.as_tensor(values).float().to(self.device)
        return pixels[..., None] if pixels.ndim == 2 else pixels

    def bake_texture(
        self,
        colors: Sequence[Colour],
        elevs: Sequence[float],
        azims: Sequence[float],
        camera_distance: float | None = None,
        center: Center = None,
        exp: float = 6,
        weights: Sequence[float] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Back-project and merge views, each as soon as it is projected; trust = weight * cosine ** exp."""
        merge = Merge()
        for i, (color, elev, azim) in enumerate(zip(colors, elevs, azims, strict=True)):
            texture, cosine, _ = self.back_project(color, elev, azim, camera_distance, center)
            merge.add(texture, (1.0 if weights is None else weights[i]) * cosine**exp)
        return merge.result()

    def fast_bake_texture(
        self, textures: Sequence[torch.Tensor], cos_maps: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Merge projected views in order: (texture (T, T, C), painted (T, T, 1) bool); see ``baking.blend``."""
        merge = Merge()
        for texture, trust in zip(textures, cos_maps, strict=True):
            merge.add(texture, trust)
        return merge.result()

    def uv_inpaint(self, texture: Colour, mask: np.ndarray) -> np.ndarray:
        """Fill what the mask (T, T) uint8 does not mark: (T, T, 3) uint8; see ``baking.inpaint``."""
        vertices, faces, uv, uv_faces = self.get_mesh()
        if uv is None or uv_faces is None:
            raise MeshError("the mesh has no texture coordinates; unwrap it first")
        painted, known = spread_over_vertices(
            self._pixels(texture).cpu().numpy(), np.asarray(mask).squeeze(), vertices, uv, faces, uv_faces
        )
        return fill_picture(painted, known)


def _pair(size: Size) -> tuple[int, int]:
    return (int(size), int(size)) if isinstance(size, int | np.integer) else (int(size[0]), int(size[1]))


def _returned(values: torch.Tensor, return_type: str) -> Any:
    if return_type == "th":
        return values
    if return_type == "np":
        return values.cpu().numpy()
    if return_type == "pl":
        pixels = maps.to_uint8(values)
        return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    raise UsageError(f"unknown return_type '{return_type}'; use th, np or pl")
