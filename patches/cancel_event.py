"""Description: Sampling loops stop within one step when a cancel event is set. They could only be killed.
Origin: memo, technique 8 (cancelling)
Applies-To: Hunyuan3D-2, 2.0 and 2.1 states
Forwarded: no
Last-Update: 2026-11-23

Both shape pipelines and the paint pipeline take `cancel_event=` (anything with `is_set()`), or find it as an
attribute `cancel_event` of the pipeline, and raise InterruptedError.
"""

from __future__ import annotations

import libcst as cst

from tools.patching.model import Place
from tools.patching.syntax import DoesNotFit, Source, find_all, has_parameter, holds_call, last_name

NAME = "cancel_event"
CHECK = f'if {NAME} is not None and {NAME}.is_set():\n    raise InterruptedError("cancelled")\n'
DEFAULT = f'{NAME} = {NAME} if {NAME} is not None else getattr(self, "{NAME}", None)\n'
STEP_NAMES = ("timesteps", "num_inference_steps")


def _loop(function: cst.FunctionDef, where: str) -> cst.For:
    """The loop over the time steps: over `timesteps`, wrapped in enumerate or a progress bar or not."""
    for loop in find_all(function, cst.For):
        names = {last_name(node) for node in find_all(loop.iter, cst.Name)} | {
            last_name(node) for node in find_all(loop.iter, cst.Attribute)
        }
        if names & set(STEP_NAMES):
            return loop
    raise DoesNotFit(f"{where} has no loop over timesteps")


def _place(file: str, class_name: str, method: str) -> Place:
    where = f"{class_name}.{method}"

    def edit(source: Source) -> None:
        loop = source.mark(_loop(source.method(class_name, method), where))
        body = loop.body
        if not isinstance(body, cst.IndentedBlock):
            raise DoesNotFit(f"the loop of {where} is written on one line")
        source.replace(body, body.with_changes(body=[*source.statements(CHECK), *body.body]))
        source.insert_at_top(source.method(class_name, method), DEFAULT)
        source.add_parameter(source.method(class_name, method), NAME, "None")
        source.mark(loop)

    def broken(source: Source) -> str | None:
        function = source.method(class_name, method)
        if not has_parameter(function, NAME):
            return f"{where} takes no {NAME}"
        return None if holds_call(_loop(function, where), "is_set") else f"the loop of {where} cannot be stopped"

    return Place(file, edit, broken)


PLACES = [
    _place("hy3dgen/shapegen/pipelines.py", "Hunyuan3DDiTPipeline", "__call__"),
    _place("hy3dgen/shapegen/pipelines.py", "Hunyuan3DDiTFlowMatchingPipeline", "__call__"),
    _place("hy3dgen/texgen/hunyuanpaint/pipeline.py", "HunyuanPaintPipeline", "denoise"),
]
