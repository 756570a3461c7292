"""Description: Texture generation runs where torch finds a device. It named the CUDA device in a dozen places.
Origin: upstream bug
Applies-To: Hunyuan3D-2, 2.0 and 2.1 states
Forwarded: no
Last-Update: 2026-11-23

Every literal 'cuda' that chooses a device (assigned to `device`, argument of `.to(...)`, `torch.device(...)`,
`torch.Generator(...)` or of `device=`), and every bare `.cuda()`, becomes a choice made when the line runs. A parameter
`device='cuda'` becomes `device=None`, with the choice first in the function: a default is fixed when the
file is imported.
"""

from __future__ import annotations

import libcst as cst

from tools.patching.model import Place
from tools.patching.syntax import Source, find_all, last_name, walk

CHOICE = '("cuda" if torch.cuda.is_available() else "cpu")'
LITERALS = ("cuda", "cuda:0")
KEYWORDS = ("device", "torch_device", "map_location")
CALLEES = ("to", "device", "Generator")


def _is_literal(node: cst.CSTNode | None) -> bool:
    return isinstance(node, cst.SimpleString) and node.raw_value in LITERALS


def _chooses(node: cst.CSTNode | None) -> bool:
    """A literal, or `torch.device` of one."""
    return _is_literal(node) or (
        isinstance(node, cst.Call) and last_name(node.func) == "device" and any(_is_literal(a.value) for a in node.args)
    )


def _defaults(source: Source) -> list[tuple[cst.FunctionDef, cst.Param]]:
    """Parameters that are a device and have a literal as their default."""
    found = []
    for function in find_all(source.module, cst.FunctionDef):
        params = function.params
        for param in (*params.posonly_params, *params.params, *params.kwonly_params):
            if param.name.value in KEYWORDS and _chooses(param.default):
                found.append((function, param))
    return found


def _literals(source: Source) -> list[cst.CSTNode]:
    """Literals that choose a device; strings in comparisons or messages are left alone."""
    found: list[cst.CSTNode] = []
    for node in walk(source.module):
        targets: list[cst.CSTNode] = []
        if isinstance(node, cst.Assign):
            targets = [target.target for target in node.targets]
        elif isinstance(node, cst.AnnAssign):
            targets = [node.target]
        if any(last_name(target) in KEYWORDS for target in targets) and _is_literal(getattr(node, "value", None)):
            found.append(node.value)  # type: ignore[attr-defined]
        if isinstance(node, cst.Param) and node.name.value in KEYWORDS and _is_literal(node.default):
            found.append(node.default)  # type: ignore[arg-type]
        if isinstance(node, cst.Call):
            for index, arg in enumerate(node.args):
                by_name = arg.keyword is not None and arg.keyword.value in KEYWORDS
                first = index == 0 and arg.keyword is None and last_name(node.func) in CALLEES
                if _is_literal(arg.value) and (by_name or first):
                    found.append(arg.value)
            if last_name(node.func) == "cuda" and not node.args and isinstance(node.func, cst.Attribute):
                found.append(node)
    return found


def _replace(source: Source, node: cst.CSTNode) -> None:
    if isinstance(node, cst.Call):
        assert isinstance(node.func, cst.Attribute)
        moved = node.with_changes(
            func=node.func.with_changes(attr=cst.Name("to")), args=[cst.Arg(cst.parse_expression(CHOICE[1:-1]))]
        )
        source.replace(node, moved)
    else:
        source.replace(node, cst.parse_expression(CHOICE))


def _place(file: str, class_name: str) -> Place:
    def edit(source: Source) -> None:
        source.class_(class_name)
        while found := _defaults(source):
            function, param = found[0]
            source.mark(param)
            assert param.default is not None
            name, default = param.name.value, source.module.code_for_node(param.default)
            for literal in find_all(param.default, cst.SimpleString):
                default = default.replace(source.module.code_for_node(literal), CHOICE)
            late = function.with_changes(
                params=function.params.deep_replace(param, param.with_changes(default=cst.Name("None")))
            )
            source.replace(function, late)
            source.insert_at_top(late, f"{name} = {default} if {name} is None else {name}\n")
        while literals := _literals(source):
            _replace(source, source.mark(literals[0]))
        source.ensure_import("torch")

    def broken(source: Source) -> str | None:
        source.class_(class_name)
        count = len(_literals(source)) + len(_defaults(source))
        return f"{count} places name the CUDA device" if count else None

    return Place(file, edit, broken)


PLACES = [
    _place("hy3dgen/texgen/pipelines.py", "Hunyuan3DTexGenConfig"),
    _place("hy3dgen/texgen/hunyuanpaint/pipeline.py", "HunyuanPaintPipeline"),
    _place("hy3dgen/texgen/differentiable_renderer/mesh_render.py", "MeshRender"),
]
