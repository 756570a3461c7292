"""Weights into modules: strict, per tensor, without a second copy; errors that name key and file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from hy3dgen.errors import WeightsDamagedError, WeightsNotFoundError
from hy3dgen.weights.config import read_component_config, read_pipeline_config
from hy3dgen.weights.load import (
    build_without_memory,
    component_names,
    freeze,
    load_weights,
    open_weights,
    repair_key,
)
from hy3dgen.weights.residency import Residency


class Toy(nn.Module):
    """Parameters, a stored buffer, and a table that no file holds."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.layer = nn.Linear(3, width)
        self.norm = nn.LayerNorm(width)
        self.token = nn.Parameter(torch.zeros(1, width))
        self.register_buffer("table", torch.zeros(2))
        self.register_buffer("frequencies", 2.0 ** torch.arange(3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.layer(x)) + self.token


def file_of(module: nn.Module, path: Path, prefix: str = "", dtype: torch.dtype = torch.float16) -> Path:
    tensors = {prefix + key: torch.randn_like(value).to(dtype) for key, value in module.state_dict().items()}
    save_file(tensors, path)
    return path


def loaded(path: Path, dtype: torch.dtype | None = None, prefix: str = "", ignorable: tuple[str, ...] = ()) -> Toy:
    with open_weights(path) as source:
        return load_weights(build_without_memory(Toy), source, prefix=prefix, dtype=dtype, ignorable=ignorable)


def test_building_takes_no_memory_and_keeps_computed_tables() -> None:
    toy = build_without_memory(Toy)
    assert toy.layer.weight.is_meta and toy.norm.bias.is_meta
    assert toy.frequencies.tolist() == [1, 2, 4]


def test_a_loaded_module_is_ready(tmp_path: Path) -> None:
    """C21: the reference left modules in training mode."""
    path = file_of(Toy(), tmp_path / "a.safetensors")
    toy = loaded(path, torch.float32)
    assert not toy.training and not any(parameter.requires_grad for parameter in toy.parameters())
    assert not any(tensor.is_meta for tensor in (*toy.parameters(), *toy.buffers()))
    assert {tensor.dtype for tensor in (*toy.parameters(), *toy.buffers())} == {torch.float32}
    with open_weights(path) as source:
        assert torch.equal(toy.layer.weight, source.get("layer.weight").float())
    assert toy(torch.zeros(1, 3)).shape == (1, 4)


def test_equal_dtypes_share_the_mapped_file(tmp_path: Path) -> None:
    path = file_of(Toy(), tmp_path / "a.safetensors")
    with open_weights(path) as source:
        toy = load_weights(build_without_memory(Toy), source, dtype=torch.float16)
        assert toy.layer.weight.data_ptr() == source.get("layer.weight").data_ptr()
    assert torch.isfinite(toy.layer.weight).all()  # still mapped after the file was closed


@pytest.mark.parametrize("suffix", ["ckpt", "bin"])
def test_torch_files_hold_components_or_a_state_dict(tmp_path: Path, suffix: str) -> None:
    state = {key: value.half() for key, value in Toy().state_dict().items()}
    torch.save({"model": state, "vae": {}}, tmp_path / f"nested.{suffix}")
    torch.save({"state_dict": state}, tmp_path / f"flat.{suffix}")
    torch.save(state, tmp_path / f"old.{suffix}", _use_new_zipfile_serialization=False)
    for name, prefix in (("nested", "model."), ("flat", ""), ("old", "")):
        toy = loaded(tmp_path / f"{name}.{suffix}", torch.float32, prefix)
        assert torch.equal(toy.layer.weight, state["layer.weight"].float())


class Payload:
    """What a hostile pickle does: calls a function while it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, zipped: bool) -> None:
    """C5: the reference's self-loading networks unpickled anything."""
    torch.save({"model": Payload(tmp_path / "ran")}, tmp_path / "a.ckpt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsDamagedError, match="refused"), open_weights(tmp_path / "a.ckpt"):
        pass
    assert not (tmp_path / "ran").exists()


def test_missing_and_unknown_keys_are_named(tmp_path: Path) -> None:
    """C6: the reference's VAE loaded any keys and kept random numbers for the rest."""
    path = file_of(Toy(), tmp_path / "a.safetensors", "vae.")
    with pytest.raises(WeightsDamagedError, match=r"a\.safetensors lacks 'model\.token'"):
        loaded(path, prefix="model.")
    state = {**Toy().state_dict(), "encoder.extra": torch.zeros(2)}
    save_file(state, tmp_path / "b.safetensors")
    with pytest.raises(WeightsDamagedError, match=r"unknown 'encoder\.extra'"):
        loaded(tmp_path / "b.safetensors")
    assert isinstance(loaded(tmp_path / "b.safetensors", ignorable=("encoder.",)), Toy)


def test_a_wrong_shape_is_named(tmp_path: Path) -> None:
    path = file_of(Toy(5), tmp_path / "a.safetensors")
    with pytest.raises(WeightsDamagedError, match=r"a\.safetensors: 'token' has shape \(1, 5\).*expects \(1, 4\)"):
        loaded(path)


@pytest.mark.parametrize("kept", [0, 5, 100, -8])
def test_a_truncated_file_is_named(tmp_path: Path, kept: int) -> None:
    path = file_of(Toy(), tmp_path / "a.safetensors")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(WeightsDamagedError, match=r"a\.safetensors"):
        loaded(path)
    torch.save(Toy().state_dict(), tmp_path / "b.ckpt")
    (tmp_path / "b.ckpt").write_bytes((tmp_path / "b.ckpt").read_bytes()[:kept])
    with pytest.raises(WeightsDamagedError, match=r"b\.ckpt"):
        loaded(tmp_path / "b.ckpt")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFoundError, match="gone"), open_weights(tmp_path / "gone.safetensors"):
        pass


def test_a_module_with_an_unfilled_tensor_is_refused() -> None:
    with pytest.raises(WeightsDamagedError, match=r"layer\.weight"):
        freeze(build_without_memory(Toy))


def test_names_of_other_library_versions_are_repaired(tmp_path: Path) -> None:
    """C24: transformers 5 renamed the parts of DINOv2 and split the gated feed-forward."""
    assert (
        repair_key("m.encoder.layer.3.attention.q_proj.weight") == "m.encoder.layer.3.attention.attention.query.weight"
    )
    assert repair_key("m.encoder.layer.3.attention.o_proj.bias") == "m.encoder.layer.3.attention.output.dense.bias"
    assert repair_key("_orig_mod.layer.weight") == "layer.weight"
    assert repair_key("vae.geo_decoder.ln_post.weight") == "vae.geo_decoder.ln_post.weight"

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.ModuleDict({"layer": nn.ModuleList([nn.ModuleDict({"mlp": nn.ModuleDict()})])})
            self.encoder["layer"][0]["mlp"]["weights_in"] = nn.Linear(2, 6)  # type: ignore[index]

    gate, up = torch.randn(3, 2), torch.randn(3, 2)
    stem = "encoder.layer.0.mlp"
    biases = {f"{stem}.gate_proj.bias": torch.zeros(3), f"{stem}.up_proj.bias": torch.ones(3)}
    save_file({f"{stem}.gate_proj.weight": gate, f"{stem}.up_proj.weight": up, **biases}, tmp_path / "a.safetensors")
    with open_weights(tmp_path / "a.safetensors") as source:
        module = load_weights(build_without_memory(Gated), source)
    assert torch.equal(module.state_dict()[f"{stem}.weights_in.weight"], torch.cat([gate, up]))


def test_components_of_a_file(tmp_path: Path) -> None:
    save_file({"model.a": torch.zeros(1), "vae.b.c": torch.zeros(1)}, tmp_path / "a.safetensors")
    with open_weights(tmp_path / "a.safetensors") as source:
        assert component_names(source) == {"model", "vae"}


@pytest.mark.parametrize("has_home", [True, False])
def test_a_module_visits_a_device_and_goes_home(tmp_path: Path, has_home: bool) -> None:
    toy = loaded(file_of(Toy(), tmp_path / "a.safetensors"))
    before = toy.layer.weight
    residency = Residency(toy, has_home=has_home)
    residency.enter(torch.device("cpu"), torch.float32)
    assert residency.is_resident and toy.layer.weight.dtype == torch.float32 and toy.frequencies.tolist() == [1, 2, 4]
    with torch.inference_mode():
        residency.enter(torch.device("cpu"), torch.bfloat16)
    assert toy.layer.weight.dtype == torch.bfloat16 and not toy.layer.weight.is_inference()
    residency.leave()
    assert not residency.is_resident
    if has_home:
        assert toy.layer.weight.data_ptr() == before.data_ptr() and toy.layer.weight.dtype == torch.float16


def test_configs_say_what_they_lack(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    for text, complaint in (
        ("model: [", "cannot be read as YAML"),
        ("- a\n- b", "should hold a mapping"),
        ("model: {target: a.B}", "no section vae, conditioner"),
        ("target: a.B\nparams: {}", "VAE folder"),
    ):
        path.write_text(text)
        with pytest.raises(WeightsDamagedError, match=complaint):
            read_pipeline_config(path)
    sections = ("model", "vae", "conditioner", "scheduler", "image_processor")
    path.write_text(
        "\n".join(f"{name}: {{target: a.B, params: {{x: 1}}}}" for name in sections) + "\npipeline: {target: c.D}"
    )
    assert read_pipeline_config(path)["vae"].params == {"x": 1}
    assert read_component_config(path, "vae").target == "a.B"
    path.write_text("params: {width: 3}")
    assert read_component_config(path).params == {"width": 3}


MEASURE = """
import re, sys, threading, time, torch
from torch import nn
from hy3dgen.weights.load import build_without_memory, load_weights, open_weights
from hy3dgen.weights.residency import Residency

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1]) << 10

def build(layers):
    return build_without_memory(lambda: nn.Sequential(*(nn.Linear(2048, 2048) for _ in range(layers))))

parts, peak, done = {"conditioner": 8, "model": 12, "vae": 4}, 0, False
def watch():
    global peak
    while not done:
        peak = max(peak, anonymous())
        time.sleep(0.002)

torch.zeros(1).half().float()
from pathlib import Path
start = anonymous()
thread = threading.Thread(target=watch); thread.start()
with open_weights(Path(sys.argv[1])) as source:
    homes = {n: Residency(load_weights(build(k), source, prefix=n + "."), has_home=True) for n, k in parts.items()}
mapped = anonymous() - start
for residency in homes.values():
    residency.enter(torch.device("cpu"), getattr(torch, sys.argv[2]))
    time.sleep(0.02)
    residency.leave()
done = True; thread.join()
print(mapped, peak - start)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(("dtype", "bytes_per_value"), [("float32", 4), ("float16", 0)])
def test_loading_never_holds_more_than_the_largest_component(tmp_path: Path, dtype: str, bytes_per_value: int) -> None:
    """A1, A2: the reference held random float32 networks, the whole checkpoint and the cast copies at once."""
    names = {"conditioner": 8, "model": 12, "vae": 4}
    tensors = {}
    for name, layers in names.items():
        for index in range(layers):
            tensors[f"{name}.{index}.weight"] = torch.zeros(2048, 2048, dtype=torch.float16)
            tensors[f"{name}.{index}.bias"] = torch.zeros(2048, dtype=torch.float16)
    path = tmp_path / "a.safetensors"  # 201 MB
    save_file(tensors, path)
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path), dtype], check=True, capture_output=True, text=True, cwd=root
    )
    mapped, peak = map(int, run.stdout.split())
    largest = 12 * 2048 * 2049 * bytes_per_value
    slack = 12 << 20  # Python objects and the allocator
    assert mapped < slack
    assert peak <= 1.1 * largest + slack
