"""Make the repository's subset of the recorded numbers: python tools/parity_subset.py PARITY_DIR

For every kind the smallest file, everything in it, in 4 MB all together: weights and inputs that were drawn from a
seeded generator are replaced by the recipe that draws them again (only where it gives equal bits), the rest is
compressed.
"""

from __future__ import annotations

import json
import lzma
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LARGEST_SEED = 100
KEY_LISTS = ("shapegen/state_dict_keys.json", "texgen/unet2p5d-official-keys.json")


def main(argv: list[str]) -> int:
    """Write tests/data/parity from the full set; returns the exit code."""
    if len(argv) != 1 or not Path(argv[0]).is_dir():
        print(__doc__, file=sys.stderr)
        return 2
    sys.path.insert(0, str(ROOT))
    from tests.parity import vectors

    source, target = Path(argv[0]), ROOT / "tests" / "data" / "parity"
    total = 0
    for root, kinds in vectors.KINDS.items():
        for kind in kinds:
            found = [p for p in (source / root).glob("*.safetensors") if vectors.kind_of(root, p.stem) == kind]
            smallest = min(found, key=lambda path: (len(packed(path)), path.name))
            data = packed(smallest)
            (target / root / f"{smallest.name}.xz").write_bytes(data)
            total += len(data)
            print(f"{len(data):8d}  {root}/{smallest.name}")
    for name in KEY_LISTS:
        total += (target / name).stat().st_size
    print(f"{total:8d}  together")
    return 0


def packed(path: Path) -> bytes:
    """The file, weights and inputs replaced by their recipe where they have one, compressed."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save

    with safe_open(path, "pt") as file:
        config = json.loads((file.metadata() or {}).get("config", "{}"))
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    given = {k: v for k, v in tensors.items() if v.dtype == torch.float32 and not k.startswith("output.")}
    drawn = recipes(given)
    if drawn:
        config["drawn"] = drawn
        known = {key for recipe in drawn for key, _, _ in recipe["tensors"]}
        tensors = {key: value for key, value in tensors.items() if key not in known}
    plain = {key: value.contiguous() for key, value in tensors.items()}
    return lzma.compress(save(plain, metadata={"config": json.dumps(config, sort_keys=True)}), preset=9)


def recipes(given: dict[str, Any]) -> list[dict[str, Any]]:
    """[{seed, tensors: [(key, shape, form)]}]: draws, in order, that give some of the tensors bit for bit."""
    import torch

    left, found = dict(given), []
    for seed in range(LARGEST_SEED):
        generator, tensors = torch.Generator().manual_seed(seed), []
        while match := _next(left, generator):
            key, form = match
            tensors.append((key, list(left.pop(key).shape), form))
        if len(tensors) > 1:
            found.append({"seed": seed, "tensors": tensors})
        else:
            left.update({key: given[key] for key, _, _ in tensors})
    return found


def _next(left: dict[str, Any], generator: Any) -> tuple[str, str] | None:
    """The tensor that the generator's next numbers give, and in which form; the generator moves on behind it."""
    import torch

    state = generator.get_state()
    for key, tensor in left.items():
        generator.set_state(state)
        numbers = torch.randn(tensor.shape, generator=generator)
        for form, value in forms(numbers):
            if torch.equal(value, tensor):
                return key, form
    return None


def forms(numbers: Any) -> Iterator[tuple[str, Any]]:
    """What the recording made of standard normal numbers: matrices, embeddings, norm scales, biases."""
    fan_in = numbers[0].numel() if numbers.dim() > 1 else 1
    yield "matrix", numbers / math.sqrt(fan_in)
    yield "matrix by product", numbers * (1 / math.sqrt(fan_in))
    yield "gate", numbers * (1 / math.sqrt(fan_in)) * 3
    yield "plain", numbers
    yield "embedding", 0.3 * numbers
    yield "scale", 1 + 0.2 * numbers
    yield "bias", 0.1 * numbers


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
