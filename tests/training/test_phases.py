"""Both phases at micro size: they learn, they go on exactly where they stopped, and they end when they are told to."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch
import yaml

from tests.training.conftest import micro_config, micro_networks
from training import checkpoints
from training.__main__ import main
from training.flow import FlowOptions, FlowPhase, Pool, flow_times, side_loss
from training.generator.stream import FieldBatch, Lot, ShapeStream, field_batch
from training.log import JsonLines
from training.loop import LAST, Session
from training.networks import load_tensors
from training.schedules import BySteps, Schedule
from training.vae import VaeOptions, VaePhase


class Endless(ShapeStream):
    """The same shapes at every take: a fixed batch."""

    def __init__(self, lot: Lot) -> None:
        self._fixed = lot

    def take(self, count: int) -> Lot:
        return self._fixed[torch.arange(count) % len(self._fixed)]

    def place(self) -> dict[str, int]:
        return {"block": 0, "offset": 0}


def vae_phase(lot: Lot, batch: int = 3) -> VaePhase:
    options = VaeOptions(batch_size=batch, num_queries=32, ahead=2)
    return VaePhase(micro_networks(), Endless(lot), torch.Generator().manual_seed(1), options)


def flow_phase(lot: Lot, **options) -> FlowPhase:
    chosen = FlowOptions(**{"batch_size": 4, "pool": 4, **options})
    return FlowPhase(micro_networks(), Endless(lot), torch.Generator().manual_seed(1), chosen)


def session(phase, out: Path, steps: int, *, show: bool = False) -> Session:
    log = JsonLines(out / "log.jsonl", show=show)
    options = {"least_side": 16}
    schedule = Schedule(5e-3, 0.4, 5)
    return Session(phase, BySteps(steps), schedule, out, log, log_every=5, optimiser_options=options)


def records(folder: Path, kind: str) -> list[dict]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def test_the_vae_learns_a_fixed_batch(lot, tmp_path, monkeypatch):
    fixed = field_batch(lot[:3], 64, 128, torch.Generator().manual_seed(0))
    monkeypatch.setattr("training.vae.field_batch", lambda *_: fixed)
    assert session(vae_phase(lot), tmp_path, 60).run()
    figures = records(tmp_path, "vae")
    assert figures[-1]["mse"] < 0.6 * figures[0]["mse"]
    assert figures[-1]["sign_errors"] < figures[0]["sign_errors"]
    (latents,) = records(tmp_path, "latents")
    state = checkpoints.read_state(tmp_path, torch.device("cpu"))
    assert state["finished"] and state["scale"] == pytest.approx(latents["scale"], rel=1e-4) != 1.0
    assert state["config"]["vae"]["params"]["scale_factor"] == state["scale"]
    assert state["samples"] == 180


def measured(phase: FlowPhase) -> dict[str, float]:
    """Figures over the same 128 times, noises and pictures at every call."""
    phase._generator.manual_seed(0)
    with torch.no_grad():
        figures = [phase.loss()[1] for _ in range(8)]
    return {name: sum(float(figure[name]) for figure in figures) / len(figures) for name in figures[0]}


@pytest.mark.parametrize("coupling", [False, True])
def test_the_flow_learns_a_small_pool(lot, tmp_path, coupling):
    phase = flow_phase(lot, coupling=coupling, batch_size=16, reuse=1e9)
    with torch.no_grad():  # latents that say something: little noise, unit variance
        assert phase.networks.vae.pre_kl is not None
        phase.networks.vae.pre_kl.bias[4:] = -8.0
        phase.networks.scale = 1 / float(phase.networks.encode(lot.points(64, torch.Generator())).mean.std())
    before = {name: value.clone() for name, value in phase.networks.state_dict().items()}
    first = measured(phase)
    assert session(phase, tmp_path, 80).run()
    last = measured(phase)
    assert last["flow"] < 0.93 * first["flow"] and last["side"] < 0.8 * first["side"]
    after = phase.networks.state_dict()
    moved = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {"model", "conditioner", "side"}, "the VAE must stay as it is"


def test_without_side_loss_the_head_stays(lot):
    phase = flow_phase(lot, side=0.0)
    loss, _ = phase.loss()
    loss.backward()
    gradient = phase.networks.side.weight.grad
    assert gradient is not None and gradient.abs().max() == 0
    assert phase.networks.model.latent_in.weight.requires_grad


@pytest.mark.parametrize("make", [vae_phase, flow_phase])
def test_resumed_equals_uninterrupted(make, lot, tmp_path):
    whole = session(make(lot), tmp_path / "whole", 8)
    whole.run()
    cut = session(make(lot), tmp_path / "cut", 8)
    losses = cut.phase.loss

    def loss():
        if cut.step == 4:
            cut.stop.ask()
        return losses()

    cut.phase.loss = loss  # type: ignore[method-assign]
    assert not cut.run() and cut.step == 5
    state = checkpoints.read_state(tmp_path / "cut", torch.device("cpu"))
    assert not state["finished"]
    rest = session(make(lot), tmp_path / "cut", 8)
    rest.load(state, same_piece=True)
    assert rest.run() and rest.step == 8
    one, two = (checkpoints.read_state(tmp_path / name, torch.device("cpu")) for name in ("whole", "cut"))
    for name, value in one["networks"].items():
        torch.testing.assert_close(two["networks"][name], value, rtol=0, atol=0, msg=name)
    assert one["scale"] == two["scale"] and one["samples"] == two["samples"]


def test_the_best_weights_stay(lot, tmp_path):
    """The last evaluation of a piece was worse than one before it, and its weights replaced the better ones."""
    running = session(vae_phase(lot), tmp_path, 9)
    name, parameter = running.phase.parameters()[0]
    values, seen = iter([1.0, 3.0, 2.0]), []

    def evaluate() -> dict[str, float]:
        seen.append(parameter.detach().half().clone())
        return {"figure": next(values)}

    running.evaluate, running.evaluations, running.best = evaluate, 3, "figure"
    assert running.run() and len(seen) == 3
    best, facts = checkpoints.read_shards(tmp_path)
    assert facts["figure"] == 3.0 and facts["step"] == 7
    assert torch.equal(best[name], seen[1])
    last, facts = checkpoints.read_shards(tmp_path / LAST)
    assert "figure" not in facts and facts["step"] == 9
    assert torch.equal(last[name], seen[2]) and not torch.equal(last[name], best[name])
    assert checkpoints.read_state(tmp_path, torch.device("cpu"))["highest"] == 3.0


def test_a_signal_ends_the_piece_and_the_state_is_saved(lot, tmp_path):
    running = session(vae_phase(lot), tmp_path, 1000)
    losses = running.phase.loss

    def loss():
        if running.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return losses()

    running.phase.loss = loss  # type: ignore[method-assign]
    before = signal.getsignal(signal.SIGTERM)
    assert not running.run()
    assert signal.getsignal(signal.SIGTERM) is before
    assert checkpoints.read_state(tmp_path, torch.device("cpu"))["step"] == 3
    assert records(tmp_path, "end")[0]["finished"] is False


def test_the_pool_keeps_the_newest():
    pool = Pool(5)
    for start in (0, 3, 6):
        pool.add(number=torch.arange(start, start + 3))
    assert len(pool) == 5 and sorted(pool.everything("number").tolist()) == [4, 5, 6, 7, 8]
    again = Pool(5)
    again.load_state(pool.state())
    drawn = [p.draw(20, torch.Generator().manual_seed(0))["number"] for p in (pool, again)]
    assert torch.equal(*drawn)
    again.add(number=torch.tensor([9]))
    assert sorted(again.everything("number").tolist()) == [5, 6, 7, 8, 9]


def test_flow_times_and_side_loss():
    times = flow_times(20000, torch.Generator().manual_seed(0))
    assert times.min() >= 0 and times.max() <= 1 and times.mean().item() == pytest.approx(0.5, abs=0.01)
    # standard deviations of the parts: logit-normal .208, uniform .289
    assert times.std().item() == pytest.approx((0.7 * 0.208**2 + 0.3 * 0.2887**2) ** 0.5, abs=0.005)
    target = torch.zeros(2, 4, 4, 6)
    target[:, :2, :2] = torch.tensor([1.0, 0.5, -0.5, 0, 0, 1])  # the first patch is covered
    perfect = torch.zeros(2, 4, 4, 6)
    perfect[:, 0] = target[0, 0, 0]
    loss, depth = side_loss(perfect.flatten(2), target)
    assert loss == 0 and depth == 0
    perfect[:, 3, :, 1:] = 7.0  # nothing is asked where there is nothing
    assert side_loss(perfect.flatten(2), target)[0] == 0
    perfect[:, 0, :, 1] += 0.2
    assert side_loss(perfect.flatten(2), target)[1].item() == pytest.approx(0.1)


def test_the_commands_train_resume_and_export(tmp_path):
    """From nothing through both phases on this process's own options, shards between them."""
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(micro_config()))
    small = ["--device", "cpu", "--steps", "2", "--batch", "2", "--log-every", "1", "--block", "4"]
    vae, flow, out = (str(tmp_path / name) for name in ("vae", "flow", "model"))
    assert main(["vae", "--config", str(config), "--out", vae, "--points", "32", "--queries", "16", *small]) == 0
    (tmp_path / "vae" / checkpoints.STATE).unlink()  # another machine: only shards arrive
    assert main(["flow", "--load", vae, "--out", flow, "--pool", "4", "--fresh", *small]) == 0
    assert main(["flow", "--load", flow, "--out", flow, "--pool", "4", "--looks", "varied", *small]) == 0
    assert checkpoints.read_state(tmp_path / "flow", torch.device("cpu"))["samples"] == 8
    assert main(["flow", "--out", flow, "--resume", *small]) == 2, "the piece is over"
    assert main(["export", "--load", flow, "--out", out]) == 0
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "config.yaml", "log.jsonl", "model.fp16.safetensors", "point_encoder.fp16.safetensors",
    ]  # fmt: skip
    scale = yaml.safe_load((tmp_path / "model" / "config.yaml").read_text())["vae"]["params"]["scale_factor"]
    assert scale == checkpoints.read_state(tmp_path / "flow", torch.device("cpu"))["scale"] != 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vae"], "--minutes or --steps"),
        (["flow", "--steps", "1"], "point encoder"),
        (["flow", "--steps", "1", "--image-size", "100"], "multiple"),
    ],
)
def test_wrong_options_are_sentences(arguments, message, tmp_path, capsys):
    assert main([*arguments, "--device", "cpu", "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_a_field_batch_is_what_the_networks_take(lot, networks):
    batch = field_batch(lot[:2], 64, 8, torch.Generator().manual_seed(0))
    assert isinstance(batch, FieldBatch)
    posterior = networks.encode(batch.surface)
    assert posterior.mean.shape == (2, 16, 4) and posterior.mean.dtype == torch.float32
    assert networks.field(posterior.mean, batch.points).shape == (2, 8)


def test_a_piece_is_evaluated_on_the_way_and_at_its_end(lot, tmp_path):
    running = session(vae_phase(lot), tmp_path, 8)
    seen = []

    def evaluate():
        seen.append(running.phase.networks.vae.post_kl.weight.detach().clone())
        return {"iou": 0.5}

    running.evaluate, running.evaluations = evaluate, 2
    running.run()
    figures = records(tmp_path, "evaluation")
    assert [round(figure["share"], 2) for figure in figures] == [0.5, 1.0] and figures[0]["iou"] == 0.5
    assert not torch.equal(seen[-1], running.phase.networks.vae.post_kl.weight), (
        "averages are evaluated, not the last step"
    )


def test_shards_go_on_with_a_warm_optimiser(lot, tmp_path):
    """fp16 shards hold no optimiser: the first steps on another machine must be small, and the average must begin at
    what was loaded."""
    first = session(flow_phase(lot), tmp_path / "first", 3)
    first.run()
    tensors, facts = checkpoints.read_shards(tmp_path / "first")
    phase = flow_phase(lot)
    load_tensors(phase.networks, tensors)
    again = session(phase, tmp_path / "again", 4)
    again.schedule = Schedule(5e-3, 0.0, 50)
    again.step, again.samples = facts["step"], facts["samples"]
    before = {name: value.clone() for name, value in phase.networks.state_dict().items()}
    for name, value in before.items():
        torch.testing.assert_close(value, first.phase.networks.state_dict()[name], rtol=0.1, atol=0.1)
    again.run()
    name = "model.double_blocks.0.img_attn.qkv.weight"
    moved = (phase.networks.state_dict()[name] - before[name]).abs().max()
    assert 0 < moved < 0.1 * 5e-3 * 4, "four steps of a warm-up of fifty are a tenth of four full ones at most"
    after, _ = checkpoints.read_shards(tmp_path / "again")
    torch.testing.assert_close(after[name].float(), before[name], rtol=0, atol=2e-3)
    state = checkpoints.read_state(tmp_path / "again", torch.device("cpu"))
    assert state["step"] == 7 and state["samples"] == 28


def test_a_new_side_head_learns_alone_first(lot):
    """A random head beside trained networks would push the image encoder about."""
    phase = flow_phase(lot, head_first=1, unconditional=1.0, side=1e6)
    name = "conditioner.main_image_encoder.model.encoder.layer.0.mlp.fc1.weight"
    sizes = []
    for _ in range(2):
        phase.networks.zero_grad()
        phase.loss()[0].backward()
        gradient = dict(phase.networks.named_parameters())[name].grad
        sizes.append(0.0 if gradient is None else float(gradient.abs().max()))
        assert phase.networks.side.weight.grad.abs().max() > 0
    assert sizes[0] < 1e-3 < sizes[1]


@pytest.mark.parametrize("make", [vae_phase, flow_phase])
def test_preparing_changes_nothing_that_follows(make, lot):
    """Compilation needs a few passes before the clock starts."""
    plain, prepared = make(lot), make(lot)
    plain.prepare(0)
    prepared.prepare(2)
    prepared.networks.zero_grad()
    for _ in range(3):
        torch.testing.assert_close(plain.loss()[0], prepared.loss()[0], rtol=0, atol=0)


def test_without_state_shards_are_left_on_the_way(lot, tmp_path):
    running = session(vae_phase(lot), tmp_path, 4)
    running.keep_state, running.evaluations = False, 2
    seen = []

    def evaluate():
        seen.append(checkpoints.read_shards(tmp_path)[1]["step"] if (tmp_path / "shards.json").exists() else None)
        return {"iou": 0.5}

    running.evaluate = evaluate
    running.run()
    assert seen[0] is None and seen[-1] == 4 and not (tmp_path / checkpoints.STATE).exists()
