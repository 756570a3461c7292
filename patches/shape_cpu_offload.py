"""Description: enable_model_cpu_offload of the shape pipeline works. It read an attribute that nobody defined.
Origin: upstream bug
Applies-To: Hunyuan3D-2, 2.0 and 2.1 states
Forwarded: no
Last-Update: 2026-11-23

Adds the missing `components`: the parts that visit the device one after another.
"""

from __future__ import annotations

import libcst as cst

from tools.patching.model import Place
from tools.patching.syntax import DoesNotFit, Source, assignments, find_all, has_name

CLASS = "Hunyuan3DDiTPipeline"
CODE = '''\
@property
def components(self):
    """The parts of this pipeline by name, as offloading wants them."""
    names = ("conditioner", "model", "vae", "scheduler", "image_processor")
    return {name: getattr(self, name) for name in names if hasattr(self, name)}
'''


def _defines(source: Source) -> bool:
    owner = source.class_(CLASS)
    if any(node.name.value == "components" for node in find_all(owner, cst.FunctionDef)):
        return True
    return any(target in ("components", "self.components") for _, target, _ in assignments(owner))


def edit(source: Source) -> None:
    """Add the property."""
    owner = source.class_(CLASS)
    if not has_name(owner, "components"):
        raise DoesNotFit(f"{CLASS} does not read 'components'; its offloading is another one")
    source.add_member(owner, CODE)


def broken(source: Source) -> str | None:
    """The class defines what it reads."""
    return None if _defines(source) else f"{CLASS} never defines 'components'"


PLACES = [Place("hy3dgen/shapegen/pipelines.py", edit, broken)]
