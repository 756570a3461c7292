"""Optimiser, averages, schedules, checkpoints, log: each against what defines it."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

from hy3dgen.errors import NumericalError, OutputError, WeightsDamagedError, WeightsNotFoundError
from tests.training.conftest import micro_networks
from training import checkpoints
from training.coupling import coupled, kd_order, principal_axes
from training.ema import MovingAverage
from training.log import JsonLines
from training.optim import MuonAdamW, is_hidden, orthogonalised
from training.schedules import BySteps, ByTime, Schedule


@pytest.mark.parametrize("shape", [(3, 48, 48), (2, 96, 32), (2, 32, 96)])
def test_orthogonalised_matrices_are_nearly_orthogonal_and_keep_their_directions(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    made = orthogonalised(matrices, dtype=torch.float32)
    singular = torch.linalg.svdvals(made)
    assert made.shape == shape and singular.min() > 0.5 and singular.max() < 1.3
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    nearest = u @ v
    assert ((made * nearest).sum() / (made.norm() * nearest.norm())) > 0.97
    assert orthogonalised(torch.zeros(1, 4, 4)).abs().max() == 0


def test_muon_takes_the_matrices_of_blocks_only():
    names = {name for name, p in micro_networks().named_parameters() if is_hidden(name, p, 16)}
    assert "model.double_blocks.0.img_attn.qkv.weight" in names
    assert "vae.transformer.resblocks.0.attn.c_qkv.weight" in names
    assert "conditioner.main_image_encoder.model.encoder.layer.0.mlp.fc1.weight" in names
    assert not names & {"model.latent_in.weight", "vae.post_kl.weight", "side.weight"}


def test_a_step_moves_against_the_gradient_by_the_rate():
    matrix, bias = nn.Parameter(torch.zeros(32, 64)), nn.Parameter(torch.zeros(8))
    optimiser = MuonAdamW([("blocks.0.weight", matrix), ("head.bias", bias)], least_side=16)
    matrix.grad, bias.grad = torch.randn(32, 64), torch.ones(8)
    gradient = matrix.grad.clone()
    optimiser.step(0.01)
    assert (matrix * gradient).sum() < 0 and matrix.grad is None
    # orthogonal, scaled by 0.2 √(longer side): entries of about 0.2 · rate · √(64 / 64)
    assert matrix.detach().square().mean().sqrt().item() == pytest.approx(0.01 * 0.2, rel=0.25)
    torch.testing.assert_close(bias.detach(), torch.full((8,), -0.01), rtol=1e-3, atol=0)


def test_the_optimiser_goes_on_from_its_state():
    def run(steps: int, restart_at: int | None) -> torch.Tensor:
        matrix, vector = nn.Parameter(torch.ones(16, 16)), nn.Parameter(torch.ones(4))
        named = [("blocks.w", matrix), ("b", vector)]
        optimiser = MuonAdamW(named, least_side=16)
        for step in range(steps):
            if step == restart_at:
                state = optimiser.state_dict()
                optimiser = MuonAdamW(named, least_side=16)
                optimiser.load_state_dict(state)
            generator = torch.Generator().manual_seed(step)
            matrix.grad, vector.grad = torch.randn(16, 16, generator=generator), torch.randn(4, generator=generator)
            optimiser.step(0.02)
        return torch.cat([matrix.flatten(), vector]).detach()

    torch.testing.assert_close(run(6, restart_at=3), run(6, restart_at=None), rtol=0, atol=0)


def test_averages_follow_the_formula_and_are_put_back():
    parameter = nn.Parameter(torch.zeros(3))
    average, expected = MovingAverage([parameter], decay=0.5), torch.zeros(3)
    for step in range(1, 6):
        with torch.no_grad():
            parameter.fill_(float(step))
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = expected * decay + step * (1 - decay)
    with average.applied():
        torch.testing.assert_close(parameter.detach(), expected)
    torch.testing.assert_close(parameter.detach(), torch.full((3,), 5.0))


def test_schedules_by_time_and_by_steps():
    now = [100.0]
    progress = ByTime(2.0, spent_s=30.0, now=lambda: now[0])
    assert progress.share(0) == pytest.approx(0.25)
    now[0] += 60
    assert progress.share(10**6) == pytest.approx(0.75)
    progress.pause(20.0)
    assert progress.spent_s() == pytest.approx(70.0)
    assert BySteps(8).share(2) == 0.25
    schedule = Schedule(rate=1.0, decay=0.4, warm_up=10)
    assert [schedule.at(0.1, step) for step in (0, 4, 9, 50)] == pytest.approx([0.1, 0.5, 1.0, 1.0])
    assert [schedule.at(share, 50) for share in (0.59, 0.8, 1.0, 1.1)] == pytest.approx([1.0, 0.5, 0.0, 0.0])
    assert Schedule(rate=1.0, decay=0.0, warm_up=0).at(0.999, 0) == 1.0


def test_shards_round_trip_and_are_small(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SHARD_BYTES", 1000)
    tensors = {f"layer.{i}": torch.randn(20, 20, generator=torch.Generator().manual_seed(i)) for i in range(5)}
    paths = checkpoints.write_shards(tmp_path, tensors, {"samples": 7})
    assert len(paths) == 6 and all(path.stat().st_size < 1200 for path in paths[:-1])
    read, facts = checkpoints.read_shards(tmp_path)
    assert facts == {"samples": 7} and list(read) == list(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(read[name], tensor.half())
    checkpoints.write_shards(tmp_path, {"one": torch.zeros(3)}, {})
    assert list(checkpoints.read_shards(tmp_path)[0]) == ["one"]
    with pytest.raises(OutputError, match="alone"):
        checkpoints.write_shards(tmp_path, {"large": torch.zeros(600)}, {})


def test_damaged_and_missing_shards_are_named(tmp_path):
    with pytest.raises(WeightsNotFoundError, match=r"shards\.json"):
        checkpoints.read_shards(tmp_path)
    shard = checkpoints.write_shards(tmp_path, {"a": torch.zeros(4)}, {})[0]
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(bytes(data))
    with pytest.raises(WeightsDamagedError, match="shard-00"):
        checkpoints.read_shards(tmp_path)
    shard.unlink()
    with pytest.raises(WeightsNotFoundError, match="shard-00"):
        checkpoints.read_shards(tmp_path)
    with pytest.raises(WeightsNotFoundError, match="--load"):
        checkpoints.read_state(tmp_path, torch.device("cpu"))
    (tmp_path / checkpoints.STATE).write_bytes(b"PK not a state")
    with pytest.raises(WeightsDamagedError, match=r"state\.pt"):
        checkpoints.read_state(tmp_path, torch.device("cpu"))


def test_the_log_is_json_and_stops_at_nan(tmp_path):
    path = tmp_path / "log.jsonl"
    log = JsonLines(path, show=False)
    log.write("vae", mse=0.123456789, nested={"a": [1.0, 2]})
    with pytest.raises(NumericalError, match="mse"):
        log.write("vae", mse=math.nan)
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert first["mse"] == 0.12346 and first["nested"] == {"a": [1.0, 2]} and second["mse"] == "nan"


def test_coupling_permutes_and_shortens_the_way():
    generator = torch.Generator().manual_seed(0)
    noise, data = torch.randn(3, 32, 4, generator=generator), torch.randn(3, 32, 4, generator=generator)
    basis = principal_axes(data)
    torch.testing.assert_close(basis.T @ basis, torch.eye(4), rtol=0, atol=1e-5)
    paired = coupled(noise, data, basis)
    torch.testing.assert_close(paired.sum(1), data.sum(1), rtol=0, atol=1e-5)
    torch.testing.assert_close(paired.norm(dim=-1).sort(1).values, data.norm(dim=-1).sort(1).values)
    assert (paired - noise).square().mean() < 0.6 * (data - noise).square().mean()
    order = kd_order(data, 4)
    assert torch.equal(order.sort(1).values, torch.arange(32).expand(3, 32))
    half = data[..., 0].gather(1, order)
    assert bool((half[:, :16].amax(1) <= half[:, 16:].amin(1)).all())
