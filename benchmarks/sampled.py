"""What other processes and the driver say about memory while a benchmark's process runs."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

SAMPLE_S = 0.05


@dataclass
class DeviceUse:
    """Most device memory in use, in MiB, less what was in use at the start."""

    before_mb: float | None = None
    peak_mb: float = 0.0

    def add(self, used_mb: float) -> None:
        """Take one sample."""
        if self.before_mb is None:
            self.before_mb = used_mb
        self.peak_mb = max(self.peak_mb, used_mb - self.before_mb)


def first_card(environ: Mapping[str, str]) -> str:
    """The card the runs use, as nvidia-smi takes it: the first of CUDA_VISIBLE_DEVICES, a number or an UUID.

    The numbers agree where CUDA_DEVICE_ORDER is PCI_BUS_ID, or the cards are all alike and in one order.
    """
    return environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip() or "0"


@contextlib.contextmanager
def sampled_device() -> Iterator[DeviceUse]:
    """The driver's count of device memory in use while the block runs; stays 0 without nvidia-smi."""
    use = DeviceUse()
    program = shutil.which("nvidia-smi")
    if program is None:
        yield use
        return
    query = [program, "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i", first_card(os.environ)]
    use.add(float(subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]))
    sampler = subprocess.Popen(
        [*query, f"--loop-ms={round(1000 * SAMPLE_S)}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )

    def read() -> None:
        assert sampler.stdout is not None
        for line in sampler.stdout:
            with contextlib.suppress(ValueError):
                use.add(float(line))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield use
    finally:
        sampler.terminate()
        sampler.wait()
        reader.join(timeout=2)


def host_memory_mb(pid: int) -> dict[str, float]:
    """A process's resident memory by kind, in MiB: 'anonymous', 'shared' (pinned memory may count here), 'file'
    (mapped weights, which the system can drop). Empty where /proc does not say."""
    kinds = {"RssAnon": "anonymous", "RssShmem": "shared", "RssFile": "file", "VmPin": "pinned", "VmLck": "locked"}
    found: dict[str, float] = {}
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
            name, _, rest = line.partition(":")
            if name in kinds:
                found[kinds[name]] = int(rest.split()[0]) / 1024
    return found
