"""Description: enable_model_cpu_offload of the shape pipeline works. It read an attribute that nobody defined.
Origin: upstream bug
Applies-To: Hunyuan3D-2, 2.0 and 2.1 states
Forwarded: no
Last-Update: 2026-11-23

Adds the missing `components`: the parts that visit the device one after another. Calls then make their tensors on
`_execution_device`, which is `device` unless parts are offloaded; `device` itself is the CPU then.
"""

from __future__ import annotations

import libcst as cst

from tools.patching.model import Place
from tools.patching.syntax import DoesNotFit, Source, assignments, dotted, find_all, has_name

CLASS = "Hunyuan3DDiTPipeline"
CODE = '''\
@property
def components(self):
    """The parts of this pipeline by name, as offloading wants them."""
    names = ("conditioner", "model", "vae", "scheduler", "image_processor")
    return {name: getattr(self, name) for name in names if hasattr(self, name)}
'''


CLASSES = (CLASS, "Hunyuan3DDiTFlowMatchingPipeline")
EXECUTION = "_execution_device"


def _defines(source: Source) -> bool:
    owner = source.class_(CLASS)
    if any(node.name.value == "components" for node in find_all(owner, cst.FunctionDef)):
        return True
    return any(target in ("components", "self.components") for _, target, _ in assignments(owner))


def _resting(source: Source) -> list[cst.Attribute]:
    """Places in the calls that take `self.device`, where the parts rest, for the device on which they run."""
    if not any(node.name.value == EXECUTION for node in find_all(source.class_(CLASS), cst.FunctionDef)):
        return []
    classes = [node for node in find_all(source.module, cst.ClassDef) if node.name.value in CLASSES]
    calls = [f for node in classes for f in find_all(node, cst.FunctionDef) if f.name.value == "__call__"]
    return [node for call in calls for node in find_all(call.body, cst.Attribute) if dotted(node) == "self.device"]


def edit(source: Source) -> None:
    """Add the property, and run calls where the parts run."""
    owner = source.class_(CLASS)
    if not _defines(source):
        if not has_name(owner, "components"):
            raise DoesNotFit(f"{CLASS} does not read 'components'; its offloading is another one")
        source.add_member(owner, CODE)
    while resting := _resting(source):
        source.replace(resting[0], resting[0].with_changes(attr=cst.Name(EXECUTION)))


def broken(source: Source) -> str | None:
    """The class defines what it reads, and calls follow the parts."""
    if not _defines(source):
        return f"{CLASS} never defines 'components'"
    return "calls make tensors where the parts rest" if _resting(source) else None


PLACES = [Place("hy3dgen/shapegen/pipelines.py", edit, broken)]
