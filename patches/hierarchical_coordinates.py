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
from tools.patching.syntax import DoesNotFit, Source, calls_of, dotted, keyword, parameters

CLASS = "HierarchicalVolumeDecoding"


def _rounded(source: Source) -> list[cst.Call]:
    """Calls of torch.tensor whose dtype is that of a local tensor (not of an argument such as the latents)."""
    method = source.method(CLASS, "__call__")
    given = set(parameters(method)) | {param.name.value for param in method.params.kwonly_params}
    found = []
    for call in calls_of(method, "tensor"):
        arg = keyword(call, "dtype")
        name = dotted(arg.value) if arg is not None else ""
        owner = name.removesuffix(".dtype")
        if name.endswith(".dtype") and "." not in owner and owner not in given:
            found.append(call)
    return found


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
    """Some coordinates are float32 by name, none has the type of an index tensor."""
    method = source.method(CLASS, "__call__")
    kinds = [dotted(arg.value) for call in calls_of(method, "tensor") if (arg := keyword(call, "dtype")) is not None]
    if _rounded(source):
        return "coordinates have an integer type"
    return None if "torch.float32" in kinds or "torch.float" in kinds else "no float32 coordinates"


PLACES = [Place("hy3dgen/shapegen/models/autoencoders/volume_decoders.py", edit, broken)]
