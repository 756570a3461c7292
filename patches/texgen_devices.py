"""Description: Texture generation runs where torch finds a device. It named the CUDA device in a dozen places.
Origin: upstream bug
Applies-To: Hunyuan3D-2, 2.0 and 2.1 states
Forwarded: no
Last-Update: 2026-11-23

Every literal 'cuda' that chooses a device (assigned to `device`, default of a parameter `device`, argument of
`.to(...)` or of `device=`) becomes a choice made when the line runs.
"""

from __future__ import annotations

import libcst as cst

from tools.patching.model import Place
from tools.patching.syntax import Source, find_all, last_name

CHOICE = '("cuda" if torch.cuda.is_available() else "cpu")'
LITERALS = ("cuda", "cuda:0")


def _is_literal(node: cst.CSTNode | None) -> bool:
    return isinstance(node, cst.SimpleString) and node.raw_value in LITERALS


def _literals(source: Source) -> list[cst.CSTNode]:
    """Literals that choose a device; strings in comparisons or messages are left alone."""
    found: list[cst.CSTNode] = []
    for param in find_all(source.module, cst.Param):
        if param.name.value == "device" and _is_literal(param.default):
            found.append(param.default)  # type: ignore[arg-type]
    for assign in find_all(source.module, cst.Assign):
        if any(last_name(target.target) == "device" for target in assign.targets) and _is_literal(assign.value):
            found.append(assign.value)
    for call in find_all(source.module, cst.Call):
        to_device = last_name(call.func) in ("to", "device")
        for arg in call.args:
            by_name = arg.keyword is not None and arg.keyword.value in ("device", "torch_device")
            if _is_literal(arg.value) and (by_name or (to_device and arg.keyword is None)):
                found.append(arg.value)
    return found


def _place(file: str, class_name: str) -> Place:
    def edit(source: Source) -> None:
        source.class_(class_name)
        while found := _literals(source):
            source.mark(found[0])
            source.replace(found[0], cst.parse_expression(CHOICE))
        source.ensure_import("torch")

    def broken(source: Source) -> str | None:
        source.class_(class_name)
        return f"{len(_literals(source))} places name the CUDA device" if _literals(source) else None

    return Place(file, edit, broken)


PLACES = [
    _place("hy3dgen/texgen/pipelines.py", "Hunyuan3DTexGenConfig"),
    _place("hy3dgen/texgen/hunyuanpaint/pipeline.py", "HunyuanPaintPipeline"),
    _place("hy3dgen/texgen/differentiable_renderer/mesh_render.py", "MeshRender"),
]
