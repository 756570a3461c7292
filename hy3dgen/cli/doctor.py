"""``python -m hy3dgen doctor``: what this machine can run, and for each problem the command that mends it.

Facts are gathered by small functions, so that each can be tested; printing comes last.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import hy3dgen
from hy3dgen.cli.console import Console
from hy3dgen.cli.exit_codes import DONE
from hy3dgen.cli.installed import installed_version, requirement_lines, unmet
from hy3dgen.runtime.device import CPU, CUDA, MPS
from hy3dgen.text2image import MODEL_ID, is_here

PACKAGES_SHOWN = ("torch", "diffusers", "transformers", "accelerate", "onnxruntime", "numba", "xformers")
OPTIONAL_PACKAGES = {
    "xformers": "attention",
    "pymeshlab": "finest face reduction",
    "xatlas": "spare unwrapper",
    "ray": "batches",
}
CUDA_INDEX = "https://download.pytorch.org/whl/cu130"
GIB = 1 << 30
NEEDED_DISK_GIB = 1.0


@dataclass(frozen=True)
class Problem:
    """Something that is wrong or missing, and the command that mends it."""

    words: str
    command: str


def show_diagnosis(values: argparse.Namespace, console: Console) -> int:
    """Print the diagnosis, as text or JSON. The exit code is 0 also when problems were found: they are the answer."""
    found = diagnose()
    console.result(json.dumps(found, indent=1) if values.json else as_text(found))
    return DONE


def diagnose() -> dict[str, Any]:
    """Everything the doctor knows, as plain values: machine, devices, packages, memory, weights, problems."""
    cards = nvidia_cards()
    torch_facts = describe_torch()
    weights = describe_weights()
    problems = [*package_problems(), *device_problems(cards, torch_facts), *other_problems()]
    return {
        "hy3dgen": hy3dgen.__version__,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "cpu_cores": os.cpu_count(),
        "memory_gib": host_memory_gib(),
        "free_disk_gib": free_disk_gib(),
        "nvidia_cards": cards,
        "torch": torch_facts,
        "packages": {name: installed_version(name) for name in PACKAGES_SHOWN},
        "optional": {name: _version(name) for name in OPTIONAL_PACKAGES},
        "weights": weights,
        "text_to_image": is_here(),
        "runs": what_runs(torch_facts, weights),
        "memory": memory_needs(torch_facts),
        "problems": [asdict(problem) for problem in problems],
    }


def nvidia_cards() -> list[dict[str, str]]:
    """NVIDIA cards that the driver knows, whether or not torch can use them; empty without the driver's tool."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, "--query-gpu=name,memory.total,memory.free,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in answer.splitlines() if line.count(",") == 3]
    return [{"name": n, "memory": total, "free": free, "driver": driver} for n, total, free, driver in rows]


def describe_torch() -> dict[str, Any]:
    """torch's build and the device this package would choose; 'error' when torch cannot be imported."""
    try:
        import torch

        from hy3dgen.runtime.attention import resolve_backend
        from hy3dgen.runtime.device import describe, pick_device
    except (ImportError, OSError) as error:
        return {"error": str(error).splitlines()[0]}
    device = pick_device()
    return {
        "version": torch.__version__,
        "cuda_build": torch.version.cuda,
        "rocm_build": torch.version.hip,
        "device": str(device),
        "device_words": describe(device),
        "device_memory": device_memory(device),
        "attention": resolve_backend(os.environ.get("ATTN_BACKEND") or "auto", device),
    }


def device_memory(device: Any) -> dict[str, float] | None:
    """Free and total memory of an accelerator in GiB; None on the CPU."""
    import torch

    if device.type == CPU:
        return None
    if device.type == MPS:
        return {"total_gib": round(torch.mps.recommended_max_memory() / GIB, 2)}
    free_bytes, total_bytes = torch.cuda.mem_get_info(device)
    return {"free_gib": round(free_bytes / GIB, 2), "total_gib": round(total_bytes / GIB, 2)}


def describe_weights() -> list[dict[str, Any]]:
    """Every model of the catalogue: its size, and its folder when it is here."""
    from hy3dgen.weights import inventory

    return [
        {
            "name": model.entry.name,
            "kind": model.entry.kind,
            "gigabytes": round(model.size_bytes / 1e9, 2),
            "folder": None if model.folder is None else str(model.folder),
        }
        for model in inventory.list_models()
    ]


def what_runs(torch_facts: Mapping[str, Any], weights: list[dict[str, Any]]) -> list[str]:
    """What a user can start now, in sentences."""
    if "error" in torch_facts:
        return ["nothing yet: torch cannot be imported"]
    here = [w["name"] for w in weights if w["folder"] is not None and w["kind"] == "shape"]
    where = torch_facts["device_words"]
    lines = [f"python color.py --input picture.png --model {name}: on {where}" for name in here]
    if here == ["nano"]:
        lines.append("the official models: after python -m hy3dgen weights get NAME (python -m hy3dgen weights list)")
    return lines


def memory_needs(torch_facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For every shape model the smallest ``--vram`` in GiB, without and with painting, and whether it fits here now.

    'fits' is None where no GPU is in use: then a card of the usual kind is meant.
    """
    if "error" in torch_facts:
        return []
    from hy3dgen.jobs.memory import ceiling_for, imagined_ceiling, smallest_gib
    from hy3dgen.jobs.models import filled
    from hy3dgen.jobs.options import JobOptions
    from hy3dgen.runtime.device import pick_device
    from hy3dgen.weights import catalogue

    ceiling = ceiling_for("auto", pick_device())
    machine = (ceiling or imagined_ceiling("8")).machine
    rows = []
    for name in catalogue.names("shape"):
        entry = catalogue.entry(name)
        plain, painted = (
            smallest_gib(filled(JobOptions(texture=texture), entry), name, machine) for texture in ("project", "paint")
        )
        fits = None if ceiling is None else plain * GIB <= ceiling.size_bytes
        rows.append({"model": name, "gib": plain, "gib_with_paint": painted, "fits": fits})
    return rows


def package_problems() -> list[Problem]:
    """Required packages that are missing or do not fit."""
    return [
        Problem(f"{line} is needed, found {found or 'none'}", "python -m pip install -r requirements.txt")
        for line, found in unmet(requirement_lines())
    ]


def device_problems(cards: list[dict[str, str]], torch_facts: Mapping[str, Any]) -> list[Problem]:
    """A card that torch cannot use: the usual trap on Windows, where the registry's torch is for the CPU only."""
    if "error" in torch_facts:
        return [
            Problem(f"torch cannot be imported: {torch_facts['error']}", "python -m pip install -r requirements.txt")
        ]
    if not cards or str(torch_facts["device"]).startswith(CUDA):
        return []
    card = cards[0]["name"]
    if torch_facts["cuda_build"] is None:
        return [
            Problem(
                f"{card} is in this machine, but torch {torch_facts['version']} is built for the CPU only",
                f"python -m pip install --force-reinstall torch --index-url {CUDA_INDEX}",
            )
        ]
    return [
        Problem(
            f"{card} is in this machine, but torch (CUDA {torch_facts['cuda_build']}) cannot use it with driver "
            f"{cards[0]['driver']}",
            "update the NVIDIA driver, or install a torch for an older CUDA from https://pytorch.org/get-started/locally",
        )
    ]


def other_problems() -> list[Problem]:
    """Disk, and the background model."""
    problems = []
    if free_disk_gib() < NEEDED_DISK_GIB:
        problems.append(Problem(f"only {free_disk_gib():.1f} GiB of disk are free here", "free some space"))
    from hy3dgen.images import matting

    if matting.find_model() is None:
        problems.append(
            Problem(
                "no background removal model on this machine: u2net (176 MB) is fetched when it is first needed; "
                "without a network only plain backgrounds can be removed",
                matting.COMMAND,
            )
        )
    return problems


def host_memory_gib() -> float | None:
    """Main memory of the machine in GiB, None where the system does not say."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB, 1)
    except (ValueError, OSError, AttributeError):
        return _windows_memory_gib()


def free_disk_gib() -> float:
    """Free space of the current folder's disk in GiB."""
    return round(shutil.disk_usage(Path.cwd()).free / GIB, 1)


def as_text(found: Mapping[str, Any]) -> str:
    """The diagnosis as lines for people."""
    torch_facts = found["torch"]
    memory = f"{found['memory_gib']} GiB" if found["memory_gib"] else "unknown"
    lines = [
        f"hy3dgen {found['hy3dgen']}, Python {found['python']}, {found['system']}",
        f"cores {found['cpu_cores']}, memory {memory}, free disk {found['free_disk_gib']} GiB",
    ]
    lines += [
        f"NVIDIA card: {c['name']}, {c['memory']} ({c['free']} free), driver {c['driver']}"
        for c in found["nvidia_cards"]
    ]
    if "error" not in torch_facts:
        cuda = torch_facts["cuda_build"]
        build = f"CUDA {cuda}" if cuda else torch_facts["rocm_build"] or "CPU"
        lines.append(f"torch {torch_facts['version']} (built for {build}), attention {torch_facts['attention']}")
        lines.append(f"runs on: {torch_facts['device_words']}" + _memory_words(torch_facts["device_memory"]))
    lines.append(
        "packages: " + ", ".join(f"{name} {version or 'missing'}" for name, version in found["packages"].items())
    )
    lines.append("optional: " + ", ".join(f"{name} {version or '-'}" for name, version in found["optional"].items()))
    here = [w for w in found["weights"] if w["folder"] is not None]
    lines += ["", "Weights here:", *(f"  {w['name']}: {w['folder']} ({w['gigabytes']} GB)" for w in here)]
    lines += ["", "You can run:", *(f"  {line}" for line in found["runs"])]
    lines += ["", "Smallest --vram on a GPU, in GiB, with projected and with painted texture:"]
    for row in found["memory"]:
        fits = {True: "fits now", False: "does not fit now", None: ""}[row["fits"]]
        lines.append(f"  {row['model']:<12}{row['gib']:>6.2f}{row['gib_with_paint']:>8.2f}  {fits}".rstrip())
    drawing = "here" if found["text_to_image"] else "not here (hf download " + MODEL_ID + ")"
    lines += ["", f"Weights for --prompt: {drawing}"]
    if not found["problems"]:
        return "\n".join([*lines, "", "No problems found."])
    words = [part for p in found["problems"] for part in (f"  {p['words']}", f"    mend: {p['command']}")]
    return "\n".join([*lines, "", "Problems:", *words])


def _memory_words(memory: Mapping[str, float] | None) -> str:
    if memory is None:
        return ""
    free = f"{memory['free_gib']} GiB free of " if "free_gib" in memory else ""
    return f", {free}{memory['total_gib']} GiB"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _windows_memory_gib() -> float | None:
    try:
        import ctypes

        kilobytes = ctypes.c_ulonglong(0)
        if not ctypes.windll.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kilobytes)):  # type: ignore[attr-defined]
            return None
        return round(kilobytes.value * 1024 / GIB, 1)
    except (ImportError, AttributeError, OSError):
        return None
