"""Several processes: they see different shapes, keep equal weights, repeat exactly, and end together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from tests.training.conftest import micro_config
from training import checkpoints
from training.__main__ import main
from training.generator import draw
from training.generator.stream import ShapeStream
from training.ranks import Ranks, _waited, started_at
from training.schedules import ByTime, Until

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    command = [sys.executable, "-m", "training", *arguments]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A micro VAE trained by two processes."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "config.yaml").write_text(yaml.safe_dump(micro_config()))
    made = run(
        "vae", "--config", str(folder / "config.yaml"), "--out", str(folder / "vae"), "--processes", "2", "--points",
        "32", "--queries", "16", *SMALL,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return folder / "vae"


SMALL = ["--device", "cpu", "--steps", "2", "--batch", "2", "--log-every", "1", "--block", "4", "--no-state"]


def shards(folder: Path) -> dict[str, torch.Tensor]:
    return checkpoints.read_shards(folder)[0]


def test_two_processes_count_and_save_once(vae: Path):
    tensors, facts = checkpoints.read_shards(vae)
    assert facts["samples"] == 8 and facts["step"] == 2 and facts["stream"]["offset"] == 0
    assert facts["stream"]["block"] >= 2, "a later run must begin behind the blocks of both"
    assert not (vae / checkpoints.STATE).exists()
    records = [json.loads(line) for line in (vae / "log.jsonl").read_text().splitlines()]
    assert [record["samples"] for record in records if record["kind"] == "vae"] == [4, 8]
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())


def test_two_processes_repeat_exactly_and_differ_from_one(vae: Path, tmp_path: Path):
    arguments = ["flow", "--load", str(vae), "--pool", "4", "--fresh", *SMALL]
    for name, processes in (("one", "2"), ("two", "2"), ("alone", "1")):
        made = run(*arguments, "--out", str(tmp_path / name), "--processes", processes)
        assert made.returncode == 0, made.stderr
    one, two, alone = (shards(tmp_path / name) for name in ("one", "two", "alone"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], alone[name]) for name in one)


def test_a_failure_of_one_ends_all(tmp_path: Path):
    """The other would wait for ever in the first collective."""
    begin = time.monotonic()
    made = run("flow", "--out", str(tmp_path), "--processes", "2", "--load", str(tmp_path / "missing"), *SMALL)
    assert made.returncode == 2 and "missing" in made.stderr
    assert time.monotonic() - begin < 120


def test_the_exit_code_is_that_of_the_failure_not_of_those_ended_for_it():
    waits = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    fails = subprocess.Popen([sys.executable, "-c", "raise SystemExit(2)"])
    begin = time.monotonic()
    assert _waited([waits, fails]) == 2
    assert waits.returncode not in (None, 0) and time.monotonic() - begin < 30


def test_one_of_several_ends_without_taking_libraries_down():
    code = "import atexit; atexit.register(print, 'down'); from training.ranks import leave; print('up'); leave(3)"
    for world, words in (("1", "up\ndown\n"), ("2", "up\n")):
        made = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"WORLD_SIZE": world}, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert (made.returncode, made.stdout) == (3, words)


def test_gradients_are_averaged_over_processes(tmp_path: Path):
    script = tmp_path / "means.py"
    script.write_text(
        "import torch\n"
        "from training.ranks import joined\n"
        "with joined(torch.device('cpu')) as (ranks, device):\n"
        "    values = [torch.full((2, 3), float(ranks.rank)), torch.arange(4.0) * (ranks.rank + 1)]\n"
        "    ranks.mean_(values)\n"
        "    assert torch.equal(values[0], torch.full((2, 3), 0.5)), values\n"
        "    assert torch.equal(values[1], torch.arange(4.0) * 1.5), values\n"
        "    same = [torch.full((3,), float(ranks.rank + 7))]\n"
        "    ranks.same_(same)\n"
        "    assert same[0].tolist() == [7.0] * 3\n"
        "    assert ranks.agreed(0.25 if ranks.main else 0.75, not ranks.main) == (0.25, True)\n"
        "    assert ranks.gathered(ranks.rank) == [0, 1]\n"
    )
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29631", "WORLD_SIZE": "2", "PYTHONPATH": str(ROOT)}
    children = [
        subprocess.Popen([sys.executable, str(script)], env=os.environ | shared | {"RANK": str(rank)})
        for rank in (0, 1)
    ]
    assert [child.wait(120) for child in children] == [0, 0]


def test_alone_everything_is_the_identity():
    values = [torch.arange(3.0)]
    ranks = Ranks()
    ranks.mean_(values)
    ranks.same_(values)
    assert values[0].tolist() == [0, 1, 2] and ranks.agreed(0.5, True) == (0.5, True) and ranks.gathered(1) == [1]


def test_streams_of_processes_share_no_block():
    def stream(rank: int, world: int) -> ShapeStream:
        with draw.blocks(9, rank, size=3, stride=world) as source:
            return ShapeStream((next(source) for _ in range(3)), CPU, 9, block=rank, stride=world)

    lots = [stream(rank, 2).take(4) for rank in (0, 1)]
    rows = [{row.numpy().tobytes() for row in lot.solids.rows[:, 0]} for lot in lots]
    assert not rows[0] & rows[1]
    moved = stream(1, 2)
    moved.take(6)
    assert moved.place()["block"] % 2 == 1


def test_a_piece_within_minutes_ends_at_its_moment():
    clock = [100.0]
    progress = Until(160.0, now=lambda: clock[0])
    clock[0] = 130.0  # compiled
    progress.begin()
    assert progress.share(0) == 0
    clock[0] = 145.0
    assert progress.share(5) == pytest.approx(0.5) and progress.spent_s() == 15
    progress.pause(10)  # an evaluation moves nothing
    assert progress.share(5) == pytest.approx(0.5)
    clock[0] = 161.0
    assert progress.share(9) > 1
    assert abs(started_at() - time.time()) < 3600


def test_the_clock_starts_when_everything_is_compiled():
    clock = [0.0]
    progress = ByTime(1.0, spent_s=15.0, now=lambda: clock[0])
    clock[0] = 40.0
    progress.begin()
    assert progress.share(0) == pytest.approx(0.25)


@pytest.mark.parametrize("processes", ["0", "many", "-1"])
def test_a_wrong_number_of_processes_is_a_sentence(processes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["flow", "--device", "cpu", "--steps", "1", "--out", str(tmp_path), "--processes", processes]) == 2
    assert "--processes" in capsys.readouterr().err
