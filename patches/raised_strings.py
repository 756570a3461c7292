"""Description: Strings raised as exceptions become errors with that text.
  Raising a string is a TypeError without it.
Origin: upstream bug
Applies-To: Hunyuan3D-2, 2.0 and 2.1 states
Forwarded: no
Last-Update: 2026-11-23
"""

from __future__ import annotations

import libcst as cst

from tools.patching.model import Place
from tools.patching.syntax import Source, find_all

TEXT = (cst.SimpleString, cst.FormattedString, cst.ConcatenatedString)


def _is_text(node: cst.CSTNode | None) -> bool:
    """A literal, or one that is formatted or joined: `"..." % x`, `"...".format(x)`, `"..." + x`."""
    if isinstance(node, cst.BinaryOperation):
        return _is_text(node.left) or (isinstance(node.operator, cst.Add) and _is_text(node.right))
    if isinstance(node, cst.Call):
        return isinstance(node.func, cst.Attribute) and _is_text(node.func.value)
    return isinstance(node, TEXT)


def _raised(source: Source) -> list[cst.Raise]:
    return [node for node in find_all(source.module, cst.Raise) if _is_text(node.exc)]


def _place(file: str, class_name: str) -> Place:
    def edit(source: Source) -> None:
        source.class_(class_name)
        while raised := _raised(source):
            source.mark(raised[0])
            text = raised[0].exc
            assert isinstance(text, cst.BaseExpression)
            if "\n" not in source.module.code_for_node(text):
                text = text.with_changes(lpar=text.lpar[:-1], rpar=text.rpar[1:])  # the call's own take their place
            call = cst.Call(func=cst.Name("ValueError"), args=[cst.Arg(text)])
            space = cst.SimpleWhitespace(" ")
            source.replace(raised[0], raised[0].with_changes(exc=call, whitespace_after_raise=space))

    def broken(source: Source) -> str | None:
        source.class_(class_name)
        return f"{len(_raised(source))} strings are raised" if _raised(source) else None

    return Place(file, edit, broken)


PLACES = [
    _place("hy3dgen/texgen/pipelines.py", "Hunyuan3DPaintPipeline"),
    _place("hy3dgen/texgen/differentiable_renderer/mesh_render.py", "MeshRender"),
]
