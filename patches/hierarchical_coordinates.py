"""Description: Hierarchical volume decoding evaluates its points where they are.
  Integer rounding put all of them in one place.
Origin: upstream bug
Applies-To: Hunyuan3D-2, 2.0 and 2.1 states
Forwarded: no
Last-Update: 2026-11-23

Cell size and box corner were turned into tensors of the index tensor's integer type, which makes the size 0.
"""

from __future__ import annotations

import libcst as cst

from tools.patching.model import Place
from tools.patching.syntax import (
    DoesNotFit,
    Source,
    calls_of,
    dotted,
    find_all,
    has_name,
    keyword,
    last_name,
    parameters,
)

CLASS = "HierarchicalVolumeDecoding"


COORDINATE = ("resolution", "size", "bbox", "bound", "min", "max", "step", "cell")
FLOATS = ("float32", "float", "float16", "float64", "half")
VALUES = ("logit", "latent", "feature", "value")


def _rounded(source: Source) -> list[cst.Call]:
    """Calls that make a tensor of a coordinate with the type of a local tensor (not of an argument or of values)."""
    method = source.method(CLASS, "__call__")
    given = {*parameters(method), *(param.name.value for param in method.params.kwonly_params)}
    found = []
    for call in [*calls_of(method, "tensor"), *calls_of(method, "as_tensor")]:
        arg = keyword(call, "dtype")
        if arg is None or not call.args:
            continue
        integer = last_name(arg.value) in ("long", "int", "int32", "int64") and _is_coordinate(call.args[0])
        owner = arg.value.value if last_name(arg.value) == "dtype" and isinstance(arg.value, cst.Attribute) else None
        if isinstance(owner, cst.Subscript):
            owner = owner.value
        local = isinstance(owner, cst.Name) and owner.value not in given
        values = isinstance(owner, cst.Name) and any(part in owner.value.lower() for part in VALUES)
        if integer or (local and not values):
            found.append(call)
    return found


def _is_coordinate(arg: cst.Arg) -> bool:
    names = [node.value.lower() for node in find_all(arg, cst.Name)]
    return any(part in name for name in names for part in COORDINATE)


def edit(source: Source) -> None:
    """Make those tensors float32."""
    calls = _rounded(source)
    if not calls:
        raise DoesNotFit(f"{CLASS}.__call__ makes no tensor with the type of another")
    while calls:
        source.mark(calls[0])
        source.replace_argument(calls[0], "dtype", "torch.float32")
        calls = _rounded(source)
    source.ensure_import("torch")


def broken(source: Source) -> str | None:
    """No coordinate has the type of an index tensor, and something in the method makes them floating-point numbers."""
    method = source.method(CLASS, "__call__")
    if _rounded(source):
        return "coordinates have an integer type"
    kinds = [dotted(arg.value) for call in calls_of(method, "tensor") if (arg := keyword(call, "dtype")) is not None]
    given = set(parameters(method))
    floats = any(has_name(method, name) for name in FLOATS) or any(kind.split(".")[0] in given for kind in kinds)
    return None if floats else "no float32 coordinates"


PLACES = [Place("hy3dgen/shapegen/models/autoencoders/volume_decoders.py", edit, broken)]
