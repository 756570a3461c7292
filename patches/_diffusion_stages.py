"""The two diffusion stages of texture generation, where several patches have their places. Not a patch itself."""

from __future__ import annotations

from collections.abc import Callable

import libcst as cst

from tools.patching.syntax import DoesNotFit, Source, assignments, dotted, find_all, last_name, parameters, walk

DELIGHT = ("hy3dgen/texgen/utils/dehighlight_utils.py", "Light_Shadow_Remover")
VIEWS = ("hy3dgen/texgen/utils/multiview_utils.py", "Multiview_Diffusion_Net")
LOADERS = ("from_pretrained", "from_single_file")

Made = tuple[cst.SimpleStatementLine, str, list[cst.Call]]


def made_pipelines(source: Source, class_name: str) -> list[Made]:
    """Where `__init__` makes the diffusion pipeline: (statement, dotted target, calls that load it), one a branch.

    When several networks are loaded, those made by a class called ...Pipeline count, else those assigned to a name
    that says so.
    """
    init = source.method(class_name, "__init__")
    found: list[Made] = []
    for statement, target, value in assignments(init):
        calls = _loading(value)
        if calls and target and all(statement is not other for other, _, _ in found):
            found.append((statement, target, calls))
    made = [entry for entry in found if any("Pipeline" in source.origin(call.func) for call in entry[2])]
    made = made or [entry for entry in found if entry[1].split(".")[-1] in ("pipeline", "pipe")]
    if not made:
        nearest = f"{dotted(found[0][2][0].func)}(...)" if found else None
        raise DoesNotFit(f"{class_name}.__init__ assigns no ...Pipeline.from_pretrained(...)", nearest)
    source.mark(made[0][0])
    return made


def _loading(value: cst.BaseExpression) -> list[cst.Call]:
    """The loading calls that an assigned value stands for: itself, with `.to(...)` behind, or a choice of two."""
    if isinstance(value, cst.IfExp):
        return [*_loading(value.body), *_loading(value.orelse)]
    if not isinstance(value, cst.Call):
        return []
    if last_name(value.func) in LOADERS:
        return [value]
    return _loading(value.func.value) if isinstance(value.func, cst.Attribute) else []


def lacking(source: Source, class_name: str, present: Callable[[cst.CSTNode], bool]) -> list[Made]:
    """Those of the pipelines made in `__init__` behind which, on the same path, nothing is ``present``."""
    init = source.method(class_name, "__init__")
    return [
        entry
        for entry in made_pipelines(source, class_name)
        if not any(present(node) for later in _after(init.body, entry[0]) for node in walk(later))
    ]


def _after(block: cst.CSTNode, statement: cst.CSTNode) -> list[cst.CSTNode]:
    """The statements that run behind ``statement``, from its own block outwards; other branches are not among them."""
    behind: list[cst.CSTNode] = []
    body = getattr(block, "body", ())
    for index, node in enumerate(body if isinstance(body, list | tuple) else ()):
        if any(child is statement for child in walk(node)):
            same_line = node.body if isinstance(node, cst.SimpleStatementLine) else ()
            behind += [*same_line, *body[index + 1 :]]
            if node is not statement:
                for inner in find_all(node, cst.IndentedBlock):
                    if any(child is statement for child in inner.body):
                        behind += _after(inner, statement)
    return behind


def calls_one_of(*names: str) -> Callable[[cst.CSTNode], bool]:
    """Whether a node calls a method of one of these names."""
    return lambda node: isinstance(node, cst.Call) and last_name(node.func) in names


def config_name(source: Source, class_name: str) -> str:
    """Name of the configuration parameter of `__init__`."""
    init = source.method(class_name, "__init__")
    names = [*parameters(init), *(param.name.value for param in init.params.kwonly_params)]
    if len(names) < 2:
        raise DoesNotFit(f"{class_name}.__init__ takes no configuration")
    return "config" if "config" in names else names[1]
