"""Description: The paint pipeline is loaded without its text encoder and tokenizer.
  They are never used: 0.65 GB of VRAM.
Origin: memo, beyond it: exact savings
Applies-To: Hunyuan3D-2, 2.0 and 2.1 states
Forwarded: no
Last-Update: 2026-11-23

Text states of the paint network are learned parameters, so the result keeps its bits.
"""

from __future__ import annotations

import libcst as cst

from patches._diffusion_stages import VIEWS, made_pipelines
from tools.patching.model import Place
from tools.patching.syntax import DoesNotFit, Source, dotted, find_all, keyword, walk

FILE, CLASS = VIEWS
PARTS = ("text_encoder", "tokenizer")


def _absent(source: Source, call: cst.Call) -> list[str]:
    """The parts that a loading call is not told about; a dictionary that it is given may hold them."""
    inside: list[cst.CSTNode] = [arg.value for arg in call.args if arg.star == "**"]
    starred = {dotted(node) for node in inside} - {""}
    for assign in find_all(source.method(CLASS, "__init__"), cst.Assign):
        for target in assign.targets:
            base = target.target.value if isinstance(target.target, cst.Subscript) else target.target
            if dotted(base) in starred:
                inside += [assign.value, target.target]
    named = {node.raw_value for root in inside for node in walk(root) if isinstance(node, cst.SimpleString)}
    named |= {arg.keyword.value for root in inside for arg in find_all(root, cst.Arg) if arg.keyword is not None}
    return [part for part in PARTS if keyword(call, part) is None and part not in named]


def _calls(source: Source) -> list[cst.Call]:
    return [call for _, _, calls in made_pipelines(source, CLASS) for call in calls]


def _own(call: cst.Call) -> list[str]:
    """The parts that a fork passes of its own."""
    return [part for part in PARTS if (arg := keyword(call, part)) is not None and dotted(arg.value) != "None"]


def edit(source: Source) -> None:
    """Pass None for both parts."""
    own = [part for call in _calls(source) for part in _own(call)]
    if own:
        raise DoesNotFit(f"{CLASS}.__init__ passes a {own[0]} of its own")
    while pending := [call for call in _calls(source) if _absent(source, call)]:
        source.add_arguments(pending[0], *((part, "None") for part in _absent(source, pending[0])))


def broken(source: Source) -> str | None:
    """Neither part is loaded by any from_pretrained."""
    loaded = [part for call in _calls(source) for part in (*_absent(source, call), *_own(call))]
    return f"from_pretrained loads {' and '.join(loaded)}" if loaded else None


PLACES = [Place(FILE, edit, broken)]
