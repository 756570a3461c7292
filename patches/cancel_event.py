"""Description: Sampling loops stop within one step when a cancel event is set. They could only be killed.
Origin: memo, technique 8 (cancelling)
Applies-To: Hunyuan3D-2, 2.0 and 2.1 states
Forwarded: no
Last-Update: 2026-11-23

Both shape pipelines and the paint pipeline take `cancel_event=` (anything with `is_set()`), or find it as an
attribute `cancel_event` of the pipeline, and raise InterruptedError.
"""

from __future__ import annotations

from collections.abc import Sequence

import libcst as cst

from tools.patching.model import Place
from tools.patching.syntax import DoesNotFit, Source, as_block, assignments, find_all, last_name, walk

NAME = "cancel_event"
CHECK = f'if {NAME} is not None and {NAME}.is_set():\n    raise InterruptedError("cancelled")\n'
DEFAULT = f'{NAME} = {NAME} if {NAME} is not None else getattr(self, "{NAME}", None)\n'
STEP_NAMES = ("timesteps", "num_inference_steps")


NETWORKS = ("model", "unet", "transformer")


def _mentions(node: cst.CSTNode, names: set[str]) -> bool:
    return any(isinstance(child, cst.Name) and child.value in names for child in walk(node))


def _asks(loop: cst.For) -> bool:
    """Whether the loop looks at a local cancel event: ours, or a fork's own."""
    attributes = [node.attr for node in find_all(loop, cst.Attribute)]
    names = [node for node in find_all(loop, cst.Name) if node.value == NAME]
    return any(all(name is not attribute for attribute in attributes) for name in names)


def _loop(function: cst.FunctionDef, where: str) -> cst.For:
    """The sampling loop: over the time steps (wrapped or not, or a local made of them), or with the network inside.

    Of several, the first that runs a network or the scheduler's step.
    """
    names = set(STEP_NAMES)
    for _, target, value in assignments(function):
        if target and _mentions(value, names) and any(word in target.lower() for word in ("step", "bar", "iter")):
            names.add(target)
    loops = find_all(function, cst.For)
    working = [
        loop for loop in loops if any(last_name(c.func) in (*NETWORKS, "step") for c in find_all(loop, cst.Call))
    ]
    over_steps = [loop for loop in loops if _mentions(loop.iter, names)]
    for candidates in ([loop for loop in working if loop in over_steps], over_steps, working):
        if candidates:
            return candidates[0]
    nearest = f"a loop of {len(loops)}" if loops else None
    raise DoesNotFit(f"{where} has no loop over timesteps", nearest)


def _sampling(source: Source, class_name: str, methods: Sequence[str]) -> tuple[cst.FunctionDef, cst.For, str]:
    """The first of the methods that holds the loop."""
    first: DoesNotFit | None = None
    for method in methods:
        try:
            function = source.method(class_name, method)
            return function, _loop(function, f"{class_name}.{method}"), f"{class_name}.{method}"
        except DoesNotFit as error:
            first = first or error
    assert first is not None
    raise first


def _place(file: str, class_name: str, *methods: str) -> Place:
    def edit(source: Source) -> None:
        function, loop, _ = _sampling(source, class_name, methods)
        source.mark(loop)
        block = as_block(loop.body)
        source.replace(loop.body, block.with_changes(body=[*source.statements(CHECK), *block.body]))
        source.insert_at_top(source.method(class_name, function.name.value), DEFAULT)
        source.add_parameter(source.method(class_name, function.name.value), NAME, "None")

    def broken(source: Source) -> str | None:
        _, loop, where = _sampling(source, class_name, methods)
        return None if _asks(loop) else f"the loop of {where} cannot be stopped"

    return Place(file, edit, broken)


PLACES = [
    _place("hy3dgen/shapegen/pipelines.py", "Hunyuan3DDiTPipeline", "__call__"),
    _place("hy3dgen/shapegen/pipelines.py", "Hunyuan3DDiTFlowMatchingPipeline", "__call__"),
    _place("hy3dgen/texgen/hunyuanpaint/pipeline.py", "HunyuanPaintPipeline", "denoise", "__call__"),
]
