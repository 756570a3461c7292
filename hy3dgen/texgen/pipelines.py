"""Mesh and pictures -> painted mesh: ``Hunyuan3DPaintPipeline``, and ``paint_mesh`` for jobs.

Delight, maps, views, bake and fill run one after the other; of the networks only the one that works is on the device.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
import trimesh
from PIL import Image

from hy3dgen.errors import UsageError
from hy3dgen.images.load import open_picture
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.rendering import maps
from hy3dgen.runtime import compile as compiling
from hy3dgen.runtime.device import CPU, pick_device, pick_dtype
from hy3dgen.runtime.engine import Engine
from hy3dgen.runtime.memory import release_cached
from hy3dgen.runtime.plan import StagePlan
from hy3dgen.runtime.readahead import reading_ahead
from hy3dgen.runtime.stages import CancelEvent, StageRecord, cancelling, check_cancelled, stage
from hy3dgen.texgen.bake import Baked, Drawings, bake, fill_over_surface, shares
from hy3dgen.texgen.config import DEFAULT_SUBFOLDER, Hunyuan3DTexGenConfig, Recall, make_anew
from hy3dgen.texgen.differentiable_renderer.mesh_render import MeshRender
from hy3dgen.texgen.locating import configured, is_available
from hy3dgen.texgen.projection import Coverage, Projection
from hy3dgen.texgen.utils.uv_warp_utils import mesh_uv_wrap
from hy3dgen.texgen.views import camera_index, check_views, flattened, recenter, resized, squared
from hy3dgen.weights.locate import model_roots

logger = logging.getLogger(__name__)  # a public name of the reference
T = TypeVar("T")
Picture = str | os.PathLike[str] | Image.Image


class Hunyuan3DPaintPipeline:
    """Paints a mesh after pictures of it.

    Attributes: ``config``; ``models``: {'delight_model' (absent without one), 'multiview_model'}; ``render``, the
    renderer; ``coverage``: of the last painted mesh, shares of texels seen, blended and filled.
    """

    @classmethod
    def from_pretrained(
        cls,
        model_path: str | os.PathLike[str],
        subfolder: str = DEFAULT_SUBFOLDER,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        *,
        delight: bool = True,
        offline: bool | None = None,
    ) -> Hunyuan3DPaintPipeline:
        """Find the delight and the paint model, or fetch the files that a run needs, and build the pipeline.

        model_path: a folder in the official layout, a hub repository, or a catalogue name ('paint', 'paint-turbo')
        device, dtype: None for what suits the machine; delight: False leaves light and shadow in the pictures
        A local folder without a delight model is fine: pictures are then taken as they are.
        Raises WeightsNotFoundError with the places tried, WeightsDamagedError, DownloadError, LicenceError, UsageError.
        """
        return cls(configured(model_path, subfolder, device=device, dtype=dtype, delight=delight, offline=offline))

    def __init__(self, config: Hunyuan3DTexGenConfig) -> None:
        self.config = config
        self.models: dict[str, Any] = {}
        self.coverage: Coverage | None = None
        self.device = pick_device(config.device)
        self.render = MeshRender(
            default_resolution=config.render_size, texture_size=config.texture_size, device=self.device
        )
        self._drawings = Drawings(self.render)
        self._engine: Engine | None = None
        self._recall: Recall = make_anew
        self.load_models()

    def load_models(self) -> None:
        """Open the models' files (mapped; nothing goes to the device before it is used)."""
        from hy3dgen.texgen.utils.multiview_utils import Multiview_Diffusion_Net

        release_cached(self.device)
        if self.config.light_remover_ckpt_path is not None:
            from hy3dgen.texgen.utils.dehighlight_utils import Light_Shadow_Remover

            self.models["delight_model"] = Light_Shadow_Remover(self.config)
        self.models["multiview_model"] = Multiview_Diffusion_Net(self.config)
        if self.config.compile_blocks:
            self.compile()

    def networks(self) -> list[Any]:
        """All networks, in the order in which a run uses them."""
        delight = self.models["delight_model"].pipeline if "delight_model" in self.models else None
        paint = self.models["multiview_model"].pipeline
        first = [] if delight is None else [delight.vae, delight.unet]
        return [*first, paint.vae, paint.unet.unet_dual, paint.unet.unet]

    def to(self, device: str | torch.device | None = None, dtype: str | torch.dtype | None = None) -> Any:
        """Run on another device or in another precision from the next call on; returns the pipeline."""
        self.device = pick_device(self.device if device is None else device)
        self.config.device, self.config.dtype = self.device, self.config.dtype if dtype is None else dtype
        self.render.to(self.device)
        self._drawings.forget()
        for model in self.models.values():
            model.device = self.device
            model.pipeline.residency.move(self.device, pick_dtype(self.device, self.config.dtype))
        return self

    def enable_model_cpu_offload(self, gpu_id: int | None = None, device: str | torch.device | None = None) -> None:
        """Kept for existing scripts: every network leaves the device after its use anyway. gpu_id: which GPU to use."""
        place = pick_device(device)
        self.to(place if gpu_id is None else torch.device(place.type, gpu_id))

    def use_engine(self, engine: Engine | None) -> None:
        """Run by a memory plan: its placements, its levers, and a leaner one where memory runs out. None: without."""
        self._engine = engine
        if engine is None:
            for model in self.models.values():
                model.pipeline.residency.placer, model.pipeline.residency.keep = None, False

    def _attempt(self, stage_name: str, run: Callable[[], T]) -> T:
        """``run()`` as the plan says, again with a leaner one while the device's memory runs out."""
        if self._engine is None:
            return run()

        def once(plan: StagePlan | None) -> T:
            if plan is not None:
                self._follow(plan)
            return run()

        return self._engine.attempts(stage_name, once)

    def _follow(self, plan: StagePlan) -> None:
        """Take over what the plan says of the stage that comes now."""
        assert self._engine is not None
        stay = self._engine.plan.all_resident
        for model in self.models.values():
            residency = model.pipeline.residency
            if residency.keep and not stay:  # memory ran out while everything stayed: nothing may stay any more
                residency.leave()
            residency.placer, residency.keep = None if stay else self._engine, stay
        if plan.vae_slicing is not None:
            self.config.vae_slicing, self.config.vae_tiling = plan.vae_slicing, plan.vae_tiling
            self.config.vae_strips = plan.vae_strips
            self.config.split_guidance, self.config.split_feed_forward = plan.cfg_split, plan.split_feed_forward
        place = torch.device(CPU) if plan.on_host else self.device
        if self.render.device != place:
            self.render.to(place)

    def compile(self) -> None:
        """Compile the blocks of both UNets: slow first run, faster later ones; works with streamed weights, too.

        Raises MissingExtraError where torch.compile cannot work.
        """
        compiling.ensure_available(self.device)
        compiling.keep_cache(model_roots()[-1])
        for model in self.models.values():
            unet = model.pipeline.unet
            compiling.compile_blocks(getattr(unet, "unet", unet))

    # steps of a run

    def render_normal_multiview(
        self, camera_elevs: Sequence[float], camera_azims: Sequence[float], use_abs_coor: bool = True
    ) -> list[Image.Image]:
        """A normal map, RGB, for each camera (angles in degrees)."""
        return [
            _picture(maps.normal_map(self._drawings.view(elev, azim), camera_space=not use_abs_coor))
            for elev, azim in zip(camera_elevs, camera_azims, strict=True)
        ]

    def render_position_multiview(
        self, camera_elevs: Sequence[float], camera_azims: Sequence[float]
    ) -> list[Image.Image]:
        """A position map, RGB, for each camera (angles in degrees)."""
        return [
            _picture(maps.position_map(self._drawings.view(elev, azim)))
            for elev, azim in zip(camera_elevs, camera_azims, strict=True)
        ]

    def bake_from_multiview(
        self,
        views: Sequence[Image.Image],
        camera_elevs: Sequence[float],
        camera_azims: Sequence[float],
        view_weights: Sequence[float],
        method: str = "fast",
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Project and merge the views: (texture (T, T, 3) float32 in [0, 1], painted (T, T, 1) bool).

        Raises UsageError for a method other than 'fast'.
        """
        baked = self._bake(views, camera_elevs, camera_azims, view_weights, method)
        return baked.texture, baked.painted

    def texture_inpaint(self, texture: torch.Tensor, mask: np.ndarray) -> torch.Tensor:
        """Fill what the mask (T, T) uint8 does not mark, as ``config.fill`` says: (T, T, 3) float32 in [0, 1]."""
        if self.config.fill == "reference":
            filled = self.render.uv_inpaint(texture, mask)
        else:
            filled = fill_over_surface(texture.detach().cpu().numpy(), mask, self.render.mesh)
        return torch.from_numpy(filled / np.float32(255)).to(texture.device)

    def recenter_image(self, image: Image.Image, border_ratio: float = 0.2) -> Image.Image:
        """The cut-out object in the middle of a square; see ``views.recenter``."""
        return recenter(image, border_ratio)

    # whole runs

    @torch.no_grad()
    def __call__(
        self,
        mesh: trimesh.Trimesh | trimesh.Scene,
        image: Picture | Sequence[Picture],
        *,
        cancel_event: CancelEvent | None = None,
    ) -> trimesh.Trimesh:
        """The mesh with new UVs and a texture; what was given is not changed.

        mesh: a trimesh, its UVs and materials are discarded; image: one or several pictures of it (paths or PIL, any
        mode), the object cut out or on white. Not a square? It is padded with white, not stretched.
        cancel_event: ends the run within one step when set.
        Raises ImageError, MeshError, UsageError, NumericalError, Cancelled.
        """
        with cancelling(cancel_event):
            pictures = self._without_light(_opened(image))
            with stage("unwrap"):
                wrapped = mesh_uv_wrap(mesh)
            self.render.load_mesh(wrapped)
            self.render.set_texture(self._painted(lambda: pictures))
        return self.render.save_mesh()

    @torch.no_grad()
    def paint(self, mesh: Mesh, image: Picture | Sequence[Picture]) -> Mesh:
        """As calling the pipeline, for a mesh that has UVs already, which are kept. Raises MeshError without UVs."""
        opened = _opened(image)
        self.render.set_mesh(mesh.vertices, mesh.faces, mesh.uv, None if mesh.uv is None else mesh.faces)
        texture = self._painted(lambda: self._recall("delighted", lambda: self._without_light(opened)))
        return mesh.with_(texture=(texture * 255).round().byte().cpu().numpy())

    def _without_light(self, pictures: Sequence[Image.Image]) -> list[Image.Image]:
        """Pictures as the paint model takes them: square RGB, light and shadow removed where there is a model."""
        ready = [squared(self.recenter_image(picture)) for picture in pictures]
        model = self.models.get("delight_model")
        if model is None and self.config.start == "guess":
            return [picture if picture.mode == "RGBA" else squared(picture) for picture in ready]
        if model is None:
            return [flattened(picture, self.models["multiview_model"].view_size) for picture in ready]
        with stage("delight"):
            lit = []
            for picture in ready:
                check_cancelled()
                lit.append(self._attempt("delight", partial(model, picture)))
        return lit

    def recall_with(self, recall: Recall) -> None:
        """Let ``recall`` keep the pictures without light ('delighted') and the painted 'views', and bring them back."""
        self._recall = recall

    def _painted(self, pictures: Callable[[], list[Image.Image]]) -> torch.Tensor:
        """The texture of the renderer's mesh: (T, T, 3) float32 in [0, 1]. Stages maps, views, bake, fill.

        pictures: makes the reference pictures; asked only when the views are not recalled
        """
        config = self.config
        elevs, azims = config.candidate_camera_elevs, config.candidate_camera_azims
        weights = config.candidate_view_weights
        check_views(elevs, azims, weights)
        self._drawings.forget()
        views = self._recall("views", lambda: self._views(pictures(), elevs, azims))
        with stage("bake"):
            size = self.render.default_resolution[::-1]
            views = resized(views, size)
            project = partial(self._bake, views, elevs, azims, weights, config.merge_method)
            baked = self._attempt("bake", project)
        self._drawings.forget()
        with stage("fill") as record:
            self._note_coverage(baked, record)
            mask = baked.painted[..., 0].byte().cpu().numpy() * np.uint8(255)
            return self.texture_inpaint(baked.texture, mask)

    def _views(self, pictures: list[Image.Image], elevs: Sequence[int], azims: Sequence[int]) -> list[Image.Image]:
        """The object painted from every camera. Stages maps and views."""
        with stage("maps"):

            def draw() -> list[Image.Image]:
                return self.render_normal_multiview(elevs, azims) + self.render_position_multiview(elevs, azims)

            controls = self._attempt("maps", draw)
        with stage("views"):
            cameras = [camera_index(elev, azim) for elev, azim in zip(elevs, azims, strict=True)]
            views: list[Image.Image] = self._attempt(
                "views", partial(self.models["multiview_model"], pictures, controls, cameras)
            )
            return views

    def _bake(
        self,
        views: Sequence[Image.Image],
        elevs: Sequence[float],
        azims: Sequence[float],
        weights: Sequence[float],
        method: str,
    ) -> Baked:
        if method != "fast":
            raise UsageError(f"unknown merge method '{method}'; the only one is 'fast'")
        return bake(self._drawings, self.render, views, elevs, azims, weights, exponent=self.config.bake_exp)

    def _note_coverage(self, baked: Baked, record: StageRecord) -> None:
        seen, blended, filled = shares(baked, self.render.mesh)
        self.coverage = Coverage(seen, blended, filled)
        record.figures["coverage"] = vars(self.coverage)


def paint_mesh(
    mesh: Mesh,
    pictures: Sequence[Image.Image],
    *,
    model: str | os.PathLike[str] = "paint-turbo",
    subfolder: str = DEFAULT_SUBFOLDER,
    steps: int | None = None,
    delight_steps: int | None = None,
    delight: bool = True,
    texture_size: int = 2048,
    seed: int = 0,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    offline: bool | None = None,
    engine: Engine | None = None,
    recall: Recall | None = None,
    **settings: Any,
) -> Projection:
    """Paint a mesh with a paint model: what ``--texture paint`` and ``paint-turbo`` do.

    mesh: with uv, kept; pictures: one or several, best RGBA with the object cut out
    model: 'paint', 'paint-turbo', a folder in the official layout or a hub repository; subfolder: which of its paint
        models, for the last two
    steps, delight_steps: None for the model's usual number; delight: remove light and shadow first
    engine: a memory plan at work, for its stages delight, maps, views and bake
    recall: keeps the pictures without light ('delighted') and the painted 'views' for a later run
    settings: further fields of ``Hunyuan3DTexGenConfig`` (``vae_tiling``, ``split_guidance``, …)
    Opens the stages load, delight, maps, views, bake and fill; equal seeds give equal textures.
    Returns mesh with texture and coverage (no overlaps). Raises MeshError, ImageError, UsageError, WeightsError,
    NumericalError, Cancelled.
    """
    if not len(pictures):
        raise UsageError("no picture to paint after; give at least one")
    with stage("load"):
        config = configured(model, subfolder, device=device, dtype=dtype, delight=delight, offline=offline)
        wanted = {"texture_size": texture_size, "fill": "surface", **settings}
        wanted |= {"multiview_inference_steps": steps} if steps is not None else {}
        wanted |= {"delight_inference_steps": delight_steps} if delight_steps is not None else {}
        _set(config, wanted)
        pipeline = Hunyuan3DPaintPipeline(config)
        pipeline.models["multiview_model"].seed_everything(seed)
        pipeline.use_engine(engine)
        if recall is not None:
            pipeline.recall_with(recall)
    with reading_ahead(pipeline.networks(), pipeline.device):
        textured = pipeline.paint(mesh, pictures)
    assert pipeline.coverage is not None
    return Projection(textured, pipeline.coverage, ())


def _set(config: Hunyuan3DTexGenConfig, values: dict[str, Any]) -> None:
    for name, value in values.items():
        if name not in Hunyuan3DTexGenConfig.__dataclass_fields__:
            raise TypeError(f"unknown setting '{name}' of the paint pipeline; see Hunyuan3DTexGenConfig")
        setattr(config, name, value)


def _opened(image: Picture | Sequence[Picture]) -> list[Image.Image]:
    """One or several paths or pictures, as RGB or RGBA."""
    items = list(image) if isinstance(image, (list, tuple)) else [image]
    if not items:
        raise UsageError("no picture to paint after; give at least one")
    return [
        item if isinstance(item, Image.Image) and item.mode in ("RGB", "RGBA") else open_picture(item)  # type: ignore[arg-type]
        for item in items
    ]


def _picture(drawn: torch.Tensor) -> Image.Image:
    return Image.fromarray(maps.to_uint8(drawn))


__all__ = ["Hunyuan3DPaintPipeline", "Hunyuan3DTexGenConfig", "configured", "is_available", "paint_mesh"]
