"""Which of the nine memory techniques a run applied, and why (not), for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hy3dgen.jobs.choice import PAINTED
from hy3dgen.jobs.options import JobOptions
from hy3dgen.runtime.device import CUDA
from hy3dgen.runtime.stages import Decision, StageRecord

NETWORK_METHODS = ("u2net", "u2netp")


def decide(options: JobOptions, compute: Mapping[str, str], stages: Sequence[StageRecord]) -> list[Decision]:
    """One decision for each technique, in the memo's order.

    options: as they ran; compute: device, dtype and attention as in the report; stages: of the finished run
    """
    cutout = next((record for record in stages if record.name == "cutout"), None)
    return [
        _half_precision(compute),
        _background_on_cpu(options, cutout),
        _size_cap(options, cutout),
        Decision("4 int32 indices", True, "faces are int32; the schedulers' timesteps stay int64"),
        _vae(options, stages),
        _sliced(compute),
        _xformers(compute),
        Decision("8 cancelling", True, "every loop stops within one step or chunk"),
        Decision("9 torch.compile", options.compile, "asked for" if options.compile else "only with --compile"),
    ]


def _half_precision(compute: Mapping[str, str]) -> Decision:
    half = compute["dtype"] in ("float16", "bfloat16")
    why = f"{compute['dtype']} on {compute['device']}"
    return Decision("1 half precision", half, why)


def _background_on_cpu(options: JobOptions, cutout: StageRecord | None) -> Decision:
    name = "2 background removal on the CPU"
    if cutout is None:
        return Decision(name, False, "the cut-out was taken from an earlier run")
    methods = sorted({str(value) for key, value in cutout.figures.items() if key.startswith("method_")})
    by_network = any(method in NETWORK_METHODS for method in methods)
    if by_network:
        return Decision(name, options.rembg != "gpu", f"by {', '.join(methods)}, --rembg {options.rembg}")
    words = {
        "alpha": "the picture was cut out already",
        "grabcut": "by colours, without a network",
        "off": "switched off",
    }
    return Decision(name, False, ", ".join(words.get(method, method) for method in methods))


def _size_cap(options: JobOptions, cutout: StageRecord | None) -> Decision:
    name, cap = "3 input size cap", options.max_image_size
    if cutout is None:
        return Decision(name, False, "the cut-out was taken from an earlier run")
    reduced = any(bool(value) for key, value in cutout.figures.items() if key.startswith("reduced_"))
    why = f"reduced to {cap} px before the background was removed" if reduced else f"at most {cap} px already"
    return Decision(name, reduced, why)


def _vae(options: JobOptions, stages: Sequence[StageRecord]) -> Decision:
    name = "5 VAE slicing and tiling"
    if options.texture not in PAINTED:
        return Decision(name, False, "no diffusion model paints in this run")
    noted = [d for record in stages for d in record.decisions if "vae" in d.technique.lower()]
    applied = [d.technique for d in noted if d.applied]
    return Decision(name, bool(applied), ", ".join(applied) or "; ".join(d.why for d in noted) or "not needed")


def _sliced(compute: Mapping[str, str]) -> Decision:
    if compute["attention"] == "sliced":
        return Decision("6 attention slicing", True, "--attention sliced")
    why = f"{compute['attention']} keeps no score matrix, slicing would need more memory and time"
    return Decision("6 attention slicing", False, why)


def _xformers(compute: Mapping[str, str]) -> Decision:
    if compute["attention"] == "xformers":
        return Decision("7 xformers", True, "installed, and it supports the device")
    why = "not installed, or switched off" if compute["device"] == CUDA else "it works on CUDA devices only"
    return Decision("7 xformers", False, why)
