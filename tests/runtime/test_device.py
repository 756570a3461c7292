"""Device and dtype follow the machine unless somebody says otherwise."""

from __future__ import annotations

import pytest
import torch

from hy3dgen.errors import UsageError
from hy3dgen.runtime import device as devices
from hy3dgen.runtime import memory
from hy3dgen.runtime.seeds import generator


def test_best_device_is_chosen(monkeypatch):
    here: set[str] = set()
    monkeypatch.setattr(devices, "is_available", lambda kind: kind in here | {"cpu"})
    assert devices.pick_device().type == "cpu"
    here.add("mps")
    assert devices.pick_device("auto").type == "mps"
    here.add("cuda")
    assert devices.pick_device(None).type == "cuda"
    assert devices.pick_device("cpu").type == "cpu"


@pytest.mark.parametrize("name", ["tpu", "xpu", "meta", "cuda:x"])
def test_unknown_device_is_refused(name):
    with pytest.raises(UsageError, match=name):
        devices.pick_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has one")
def test_missing_device_points_to_the_doctor():
    with pytest.raises(UsageError, match="doctor"):
        devices.pick_device("cuda")


@pytest.mark.parametrize(
    ("kind", "asked", "dtype"),
    [
        ("cpu", None, torch.float32),
        ("cuda", None, torch.float16),
        ("mps", "auto", torch.float16),
        ("cuda", "bf16", torch.bfloat16),
        ("cpu", "float16", torch.float16),
        ("cuda", torch.float32, torch.float32),
    ],
)
def test_dtype_follows_the_device(kind, asked, dtype):
    assert devices.pick_dtype(torch.device(kind), asked) == dtype


def test_unknown_dtype_is_refused():
    with pytest.raises(UsageError, match="int4"):
        devices.pick_dtype(torch.device("cpu"), "int4")


def test_generators_do_not_touch_the_process():
    before = torch.get_rng_state()
    first, second = (torch.randn(3, generator=generator(7)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())


def test_cpu_has_no_device_peaks():
    cpu = torch.device("cpu")
    memory.reset_peaks(cpu)
    memory.release_cached(cpu)
    assert memory.peak_allocated_bytes(cpu) == memory.peak_reserved_bytes(cpu) == 0
    assert memory.peak_host_bytes() > 10 * memory.MIB
