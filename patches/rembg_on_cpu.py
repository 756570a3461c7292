"""Description: Background removal runs on the CPU, with the model named. Frees 1 to 1.5 GB of VRAM.
Origin: memo, technique 2 (background removal on the CPU)
Applies-To: Hunyuan3D-2, 2.0 and 2.1 states
Forwarded: no
Last-Update: 2026-11-23

Every session gets an explicit model (recent rembg releases default to another, non-commercial one) and explicit
providers; `BackgroundRemover(use_cpu=False)` gives the GPU, or the providers written there, back. A fork whose
providers come from an argument or name only the CPU keeps its own choice.
"""

from __future__ import annotations

import libcst as cst

from tools.patching.model import Place
from tools.patching.syntax import DoesNotFit, Source, find_all, has_parameter, keyword

CLASS = "BackgroundRemover"
CPU, GPU = "CPUExecutionProvider", '["CUDAExecutionProvider", "CPUExecutionProvider"]'


def _sessions(source: Source) -> list[cst.Call]:
    return source.calls(source.class_(CLASS), "new_session")


def _named(call: cst.Call) -> bool:
    return keyword(call, "model_name") is not None or any(arg.keyword is None and not arg.star for arg in call.args)


def _providers(call: cst.Call) -> cst.Arg | None:
    """The argument that names the providers: by keyword, or the second."""
    plain = [arg for arg in call.args if arg.keyword is None and not arg.star]
    return keyword(call, "providers") or (plain[1] if len(plain) > 1 else None)


def _chosen(call: cst.Call) -> bool:
    """Whether the providers are somebody's choice or the CPU alone: not left out, no fixed list with a GPU in it."""
    arg = _providers(call)
    if arg is None:
        return False
    if not isinstance(arg.value, cst.List | cst.Tuple):
        return not (isinstance(arg.value, cst.Name) and arg.value.value == "None")
    return all(node.raw_value == CPU for node in find_all(arg.value, cst.SimpleString))


def edit(source: Source) -> None:
    """Give `__init__` the switch and every session call its model and providers."""
    init = source.method(CLASS, "__init__")
    source.call(source.class_(CLASS), "new_session", CLASS)
    if any(arg.star == "**" for call in _sessions(source) for arg in call.args):
        raise DoesNotFit(f"{CLASS} gives new_session a dictionary, which may name model and providers")
    inside = source.calls(init, "new_session")
    pending = [call for call in _sessions(source) if not _chosen(call)]
    if any(all(call is not other for other in inside) for call in pending):
        source.insert_at_top(init, "self.use_cpu = use_cpu\n")
    if pending:
        source.add_parameter(source.method(CLASS, "__init__"), "use_cpu", "True")
    while pending := [call for call in _sessions(source) if not (_named(call) and _chosen(call))]:
        _complete(source, source.mark(pending[0]))


def _complete(source: Source, call: cst.Call) -> None:
    if not _named(call):
        source.add_arguments(call, (None, '"u2net"'))
        return
    inside = any(call is other for other in source.calls(source.method(CLASS, "__init__"), "new_session"))
    switch = f'["{CPU}"] if {"use_cpu" if inside else "self.use_cpu"} else '
    given = _providers(call)
    if given is None:
        source.add_arguments(call, ("providers", switch + GPU))
    else:
        others = source.module.code_for_node(given.value) if isinstance(given.value, cst.List | cst.Tuple) else GPU
        source.replace(given, given.with_changes(value=cst.parse_expression(switch + others)))


def broken(source: Source) -> str | None:
    """Every session is made with a model name, and with providers that are the CPU or somebody's choice."""
    calls = _sessions(source)
    if not calls:
        raise DoesNotFit(f"{CLASS} makes no session")
    if any(arg.star == "**" for call in calls for arg in call.args):
        return "new_session is given a dictionary"
    if not all(_named(call) and _chosen(call) for call in calls):
        return "new_session() without model or providers, or bound to the GPU"
    if any("use_cpu" in source.module.code_for_node(call) for call in calls):
        init = source.method(CLASS, "__init__")
        return None if has_parameter(init, "use_cpu") else f"{CLASS}.__init__ has no use_cpu"
    return None


PLACES = [Place("hy3dgen/rembg.py", edit, broken)]
