"""The whole job in one call: ``hy3dgen.generate``. The command line is a thin layer over the same jobs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hy3dgen.jobs.models import Models
from hy3dgen.jobs.options import options_from
from hy3dgen.jobs.output import Outputs
from hy3dgen.jobs.result import Result
from hy3dgen.jobs.run import Surroundings, run_task
from hy3dgen.jobs.task import Task
from hy3dgen.runtime.stages import CancelEvent, Listener

if TYPE_CHECKING:
    from hy3dgen.images.load import PictureSource
    from hy3dgen.meshes.mesh import Mesh

__all__ = ["generate", "Result"]


def generate(
    image: PictureSource | Mapping[str, PictureSource] | None = None,
    *,
    mesh: str | Path | Mesh | None = None,
    prompt: str | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
    keep: str | Path | None = None,
    models: Models | None = None,
    listener: Listener | None = None,
    cancel_event: CancelEvent | None = None,
    **options: Any,
) -> Result:
    """Make one coloured mesh from one picture, from several views of one object, or from words.

    image: path, bytes, PIL image or array; or a mapping with the views 'front', 'left', 'back', 'right'
    mesh: a mesh, or its file, to colour with the pictures instead of making a shape
    prompt: words to make the front picture from, instead of ``image``
    output: a file ending in .glb, .obj, .ply or .stl, or a folder; None writes nothing. As on the command line a
        preview and a report are written beside it, and an existing name gets a number unless ``overwrite``
    keep: a folder for the results of stages; a later call with the same inputs goes on after the last good one
    models: loaded models to use again (``hy3dgen.jobs.models.Models``); their options are used, so give no others
    listener: called with the StageRecord at every start, step, warning and end of a stage
    cancel_event: anything with ``is_set()``; stops the job within one step with Cancelled
    options: fields of ``hy3dgen.jobs.options.JobOptions``: model, texture, steps, guidance, octree_resolution, decoder,
        faces, texture_size, seed, max_image_size, rembg, device, dtype, attention, units, up, origin, unwrap, offline,
        preview

    Returns a Result with mesh, report and preview. Raises TypeError for an unknown option, and the errors of
    ``hy3dgen.errors`` for everything else: UsageError, ImageError, NoSurfaceError, WeightsError,
    OutputError, …
    """
    if models is not None and options:
        raise TypeError(
            f"options ({', '.join(options)}) and models were both given; the models bring their own options"
        )
    pictures: Mapping[str, PictureSource] = {}
    if image is not None:
        pictures = image if isinstance(image, Mapping) else {"front": image}
    task = Task(
        name=_name(pictures, mesh, prompt),
        pictures=pictures,
        mesh=Path(mesh) if isinstance(mesh, str) else mesh,
        prompt=prompt,
    )
    chosen = models if models is not None else Models(options_from(options), many_views=len(pictures) > 1)
    target = None
    if output is not None:
        outputs = Outputs(output=Path(output), overwrite=overwrite, with_preview=chosen.options.preview)
        outputs.protect(task.files())
        outputs.check()
        target = outputs.target(task)
    folder = None if keep is None else Path(keep)
    around = Surroundings(listener=listener, cancel_event=cancel_event, keep=folder)
    return run_task(task, chosen, target, around)


def _name(pictures: Mapping[str, Any], mesh: str | Path | Mesh | None, prompt: str | None) -> str:
    """A stem for files, from whatever has a name."""
    for source in (mesh, pictures.get("front")):
        if isinstance(source, (str, Path)):
            return Path(source).stem
    return "_".join(prompt.split()[:6]) if prompt else "mesh"
