"""Description: ATTN_BACKEND chooses the attention of the shape networks. Values: auto, sdpa, xformers, sage.
Origin: memo, technique 7 (xformers first)
Applies-To: Hunyuan3D-2, 2.0 and 2.1 states
Forwarded: no
Last-Update: 2026-11-23

The environment is read where both modules bind `scaled_dot_product_attention`; 'auto' keeps what was bound there.
"""

from __future__ import annotations

import libcst as cst

from tools.patching.model import Place
from tools.patching.syntax import DoesNotFit, Source, dotted, find_all, has_name

BOUND = "scaled_dot_product_attention"
CHOOSER = "attention_from_environment"
CODE = f'''\
def {CHOOSER}(bound):
    """The attention that ATTN_BACKEND names, on (batch, heads, tokens, width); `bound` for 'auto'."""
    import os

    name = os.environ.get("ATTN_BACKEND", "auto")
    if name == "auto":
        return bound
    if name == "sdpa":
        import torch.nn.functional

        return torch.nn.functional.{BOUND}
    if name == "xformers":
        from xformers.ops import memory_efficient_attention

        def with_xformers(q, k, v, **kwargs):
            if any(value is not None and value is not False and value != 0.0 for value in kwargs.values()):
                return bound(q, k, v, **kwargs)  # masks and the like: not translated
            parts = (part.transpose(1, 2).contiguous() for part in (q, k, v))
            return memory_efficient_attention(*parts).transpose(1, 2)

        return with_xformers
    if name == "sage":
        from sageattention import sageattn

        return sageattn
    raise ValueError(f"ATTN_BACKEND={{name!r}} is unknown; use auto, sdpa, xformers or sage")


{BOUND} = {CHOOSER}({BOUND})
'''


def _binds(node: cst.CSTNode) -> bool:
    """Whether a statement at module level gives the attention function its name."""
    if isinstance(node, cst.FunctionDef):
        return node.name.value == BOUND
    if isinstance(node, cst.ClassDef):
        return False
    targets = [t.target for a in find_all(node, cst.Assign) for t in a.targets]
    if any(isinstance(target, cst.Name) and target.value == BOUND for target in targets):
        return True
    aliases = [alias for imported in find_all(node, cst.ImportFrom) for alias in _aliases(imported)]
    return any((alias.evaluated_alias or alias.evaluated_name) == BOUND for alias in aliases)


def _aliases(node: cst.ImportFrom) -> list[cst.ImportAlias]:
    return [] if isinstance(node.names, cst.ImportStar) else list(node.names)


def edit(source: Source) -> None:
    """Rebind the name behind the last statement at module level that binds it."""
    if not any(_binds(node) for node in source.module.body):
        _bind(source)
    bindings = [node for node in source.module.body if _binds(node)]
    last = source.mark(bindings[-1])
    first, *rest = source.statements(CODE)
    blank = [cst.EmptyLine(indent=False)] * 2
    at = list(source.module.body).index(last) + 1
    body = list(source.module.body)
    new = [first.with_changes(leading_lines=blank), *rest]
    source.module = source.module.with_changes(body=[*body[:at], *new, *body[at:]])


def _bind(source: Source) -> None:
    """Give a module that calls torch's function by its full name a name of its own for it."""
    calls = source.calls(source.module, BOUND)
    torchs = [call for call in calls if dotted(call.func) in (f"F.{BOUND}", f"torch.nn.functional.{BOUND}")]
    if not torchs:
        nearest = f"{dotted(calls[0].func)}(...)" if calls else None
        raise DoesNotFit(f"{BOUND} is neither bound at module level nor called as torch's", nearest)
    source.mark(torchs[0])
    full = source.module.code_for_node(torchs[0].func)
    for _ in torchs:
        named = next(call for call in source.calls(source.module, BOUND) if dotted(call.func) != BOUND)
        source.replace(named, named.with_changes(func=cst.Name(BOUND)))
    source.insert_after_imports(f"{BOUND} = {full}\n")


def broken(source: Source) -> str | None:
    """The module's attention is chosen by the environment variable."""
    return None if has_name(source.module, CHOOSER) else "ATTN_BACKEND is not read"


PLACES = [
    Place("hy3dgen/shapegen/models/denoisers/hunyuan3ddit.py", edit, broken),
    Place("hy3dgen/shapegen/models/autoencoders/attention_processors.py", edit, broken),
]
