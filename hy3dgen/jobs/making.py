"""The stages of one task in order, each through what is kept of an earlier run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

import hy3dgen
from hy3dgen.errors import MeshError
from hy3dgen.images.matting import find_model
from hy3dgen.jobs.formats import LATENTS, MESH, TEXTURED, UNWRAPPED, VIEWS, Figures, Views, pictures_kind
from hy3dgen.jobs.identity import mesh_hash, picture_hash
from hy3dgen.jobs.keep import Keep, key_of, through
from hy3dgen.jobs.memory import paint_settings
from hy3dgen.jobs.models import Models
from hy3dgen.jobs.options import JobOptions
from hy3dgen.jobs.pictures import Opened, cut_out_pictures, open_pictures, picture_from_words
from hy3dgen.jobs.shape import decode_latents, reduce_given, sample_latents, tidy
from hy3dgen.jobs.task import Task
from hy3dgen.jobs.texture import Place, colour, with_uv
from hy3dgen.meshes.cleanup import check
from hy3dgen.meshes.io import read_mesh
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.meshes.topology import face_areas, is_watertight
from hy3dgen.meshes.unwrap import MAX_FACES
from hy3dgen.reports.run import Source
from hy3dgen.text2image import MODEL_ID

VIEW_OPTIONS = ("texture", "delight", "paint_steps", "delight_steps", "seed", "vae_tiling", "allow_lossy")


@dataclass(frozen=True)
class Made:
    """What a task has become: the mesh, the pictures it came from, and figures for the report."""

    sources: tuple[Source, ...]
    views: Views
    mesh: Mesh
    figures: Figures


def make(
    task: Task,
    options: JobOptions,
    models: Models,
    keep: Keep | None = None,
    *,
    on_shape: Callable[[Mesh], None] | None = None,
) -> Made:
    """Run the stages of ``task``. Everything that can be wrong with the inputs is found before a model is loaded.

    on_shape: called with the mesh as soon as there is one, before it gets its colours
    """
    given_mesh, mesh_source = _given_mesh(task, models.asked.faces)
    if task.prompt is not None:
        opened = picture_from_words(task.prompt, _drawn(task.prompt, options, models, keep))
    else:
        opened = open_pictures(task.pictures)
    sources = tuple(picture.source for picture in opened.values())
    sources += (mesh_source,) if mesh_source is not None else ()
    views, views_key = _views(opened, options, models, keep)
    if given_mesh is None:
        mesh, figures, mesh_key = _shape(views, views_key, options, models, keep)
    else:
        assert mesh_source is not None
        mesh, figures = reduce_given(given_mesh, models.asked.faces)
        mesh_key = key_of("given mesh", mesh_source.sha256, models.asked.faces)
    if on_shape is not None:
        on_shape(mesh)
    figures = {"watertight": is_watertight(mesh), **figures}
    if options.texture == "none":
        return Made(sources, views, mesh, figures)
    mesh, coverage = _texture(mesh, mesh_key, views, views_key, options, models, keep)
    return Made(sources, views, mesh, {**figures, "coverage": coverage})


def _given_mesh(task: Task, faces: int | None) -> tuple[Mesh | None, Source | None]:
    """The mesh that the user brought, read and checked, and where it came from. faces: to how many it is reduced."""
    if task.mesh is None:
        return None, None
    if isinstance(task.mesh, Mesh):
        mesh, path = task.mesh, None
        check(mesh)
    else:
        mesh, path = read_mesh(task.mesh), str(task.mesh)
    if min(len(mesh.faces), faces or len(mesh.faces)) > MAX_FACES:
        raise MeshError(
            f"the mesh has {len(mesh.faces):,} faces, more than {MAX_FACES:,} cannot be textured here; let it be "
            "reduced with --faces 200000"
        )
    if not (face_areas(mesh) > 0).any():
        raise MeshError("no face of the mesh has an area, so there is no surface to colour")
    return mesh, Source("mesh", task.mesh_sha256 or mesh_hash(task.mesh), path)


def _drawn(words: str, options: JobOptions, models: Models, keep: Keep | None) -> Image.Image:
    """The picture of a prompt."""
    key = key_of("picture", words, hyperparameters(options, "seed"), MODEL_ID)
    [picture] = through(keep, "picture", key, pictures_kind("picture"), lambda: [models.draw(words, options.seed)])
    return picture


def _views(opened: Mapping[str, Opened], options: JobOptions, models: Models, keep: Keep | None) -> tuple[Views, str]:
    """The cut-out pictures and a hash of what they are, whatever made them so."""
    if keep is None:
        return cut_out_pictures(opened, options, models.background), ""
    hashes = {view: picture_hash(picture.image) for view, picture in opened.items()}
    # Whoever installs a background model after a poor cut-out wants a new one.
    model = find_model()
    key = key_of(
        "cutout", hyperparameters(options, "rembg", "max_image_size"), hashes, None if model is None else model.stem
    )
    views = keep.through("cutout", key, VIEWS, lambda: cut_out_pictures(opened, options, models.background))
    return views, key_of({view: picture_hash(image) for view, image in views.items()})


def _shape(
    views: Views, views_key: str, options: JobOptions, models: Models, keep: Keep | None
) -> tuple[Mesh, Figures, str]:
    sampling = hyperparameters(options, "steps", "guidance", "seed")
    key = key_of("latents", views_key, sampling, models.shape_identity()) if keep is not None else ""
    many = models.takes_many_views
    latents = through(
        keep, "latents", key, LATENTS, lambda: sample_latents(models.shape_pipeline(), views, options, many_views=many)
    )
    key = key_of("mesh", key, hyperparameters(options, "octree_resolution", "decoder", "faces", "allow_lossy"))

    def decode() -> tuple[Mesh, Figures]:
        found = decode_latents(models.shape_pipeline(), latents, options)
        models.warm_colours()
        mesh, report = tidy(found, options.faces)
        return mesh, {"parts_removed": report.parts_removed}

    mesh, figures = through(keep, "mesh", key, MESH, decode)
    return mesh, figures, key


def _texture(
    mesh: Mesh, mesh_key: str, views: Views, views_key: str, options: JobOptions, models: Models, keep: Keep | None
) -> tuple[Mesh, Mapping[str, float]]:
    key = key_of("unwrapped", mesh_key, hyperparameters(options, "unwrap", "texture_size"))
    models.warm_colours()
    unwrapped, _ = through(keep, "unwrapped", key, UNWRAPPED, lambda: (with_uv(mesh, options), {}))
    inputs = (views_key, hyperparameters(options, *VIEW_OPTIONS), models.identity() if keep is not None else {})
    key = key_of("texture", key, *inputs)

    def recall(name: str, make: Callable[[], list[Image.Image]]) -> list[Image.Image]:
        # Pictures without light do not depend on the mesh, and views not on its UVs or the size of the texture.
        return through(
            keep, name, key_of(name, mesh_key if name == "views" else "", *inputs), pictures_kind(name), make
        )

    def paint() -> tuple[Mesh, Figures]:
        models.await_colours()
        place = Place(models.device, models.dtype, models.engine)
        painted, coverage = colour(unwrapped, views, options, place, paint_settings(options), recall)
        return painted, {name: round(float(share), 6) for name, share in coverage.items()}

    return through(keep, "texture", key, TEXTURED, paint)


def hyperparameters(options: JobOptions, *names: str) -> dict[str, Any]:
    """Some options with the program's version, for a key: another version may make other results."""
    return {"version": hy3dgen.__version__, **{name: getattr(options, name) for name in names}}
