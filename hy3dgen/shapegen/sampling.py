"""Noise to latents: the loop over flow time, written like its formula, and the guidance around the network.

Networks, schedulers and conditions come in as arguments; placement, stages and retries are the pipeline's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from hy3dgen.errors import UsageError
from hy3dgen.runtime.stages import current, steps
from hy3dgen.shapegen.models.denoisers.halves import Halves

ONE_TOKEN = "one token for no picture"  # a technique in reports
Velocity = Callable[[Tensor, Tensor], Tensor]
Callback = Callable[[int, Tensor, Any], None]


class FlowScheduler(Protocol):
    """What the loop needs of a scheduler."""

    timesteps: Tensor
    config: Any

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor, **kwargs: Any) -> Any: ...


def retrieve_timesteps(
    scheduler: Any,
    num_inference_steps: int | None = None,
    device: str | torch.device | None = None,
    timesteps: Sequence[float] | None = None,
    sigmas: Sequence[float] | np.ndarray | None = None,
    **kwargs: Any,
) -> tuple[Tensor, int]:
    """Set the scheduler's times and return (timesteps, their number).

    Raises UsageError when both lists are given, or one that ``scheduler.set_timesteps`` does not take.
    """
    if timesteps is not None and sigmas is not None:
        raise UsageError("give either timesteps or sigmas, not both")
    chosen = {"timesteps": timesteps, "sigmas": sigmas}
    custom = {name: values for name, values in chosen.items() if values is not None}
    accepted = inspect.signature(scheduler.set_timesteps).parameters
    for name in custom:
        if name not in accepted:
            raise UsageError(f"{type(scheduler).__name__} takes no custom {name}")
    if custom:
        scheduler.set_timesteps(**custom, device=device, **kwargs)
    else:
        scheduler.set_timesteps(num_inference_steps, device=device, **kwargs)
    return scheduler.timesteps, len(scheduler.timesteps)


def draw_noise(
    shape: tuple[int, ...],
    generator: torch.Generator | Sequence[torch.Generator] | None,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    """Standard normal noise. It is drawn where the generator lives, in ``dtype``, and then moved to ``device``, so
    that a CPU generator gives the same numbers for every device.

    generator: one, one per item of the batch, or None for torch's global one on ``device``.
    Raises UsageError for a list of another length than ``shape[0]``.
    """
    if generator is None or isinstance(generator, torch.Generator):
        place = device if generator is None else generator.device
        return torch.randn(shape, generator=generator, device=place, dtype=dtype).to(device)
    if len(generator) != shape[0]:
        raise UsageError(f"{len(generator)} generators were given for a batch of {shape[0]}; give one, or one per item")
    return torch.cat([draw_noise((1, *shape[1:]), single, device, dtype) for single in generator])


def model_time(timestep: Tensor, batch: int, dtype: torch.dtype, num_train_timesteps: int) -> Tensor:
    """(batch,) time in [0, 1] as the networks were trained with: cast to ``dtype`` first, then divided in it."""
    return timestep.expand(batch).to(dtype) / num_train_timesteps


def guided(
    network: Callable[[Tensor, Tensor, Any], Tensor], condition: Any, scale: float, *, split: bool = False
) -> Velocity:
    """Classifier-free guidance around a network: v = v_without + scale · (v_with - v_without).

    network: called with (latents, time, condition). condition: nested tensors whose batch is [with ; without], or
    pairs of both (``Halves``).
    split: evaluate the two halves one after the other, for half of the activations' memory.
    """
    if split:
        with_picture, without = (_part(condition, index, 2) for index in range(2))

        def one_by_one(latents: Tensor, time: Tensor) -> Tensor:
            conditioned = network(latents, time, with_picture)
            free = network(latents, time, without)
            return free + scale * (conditioned - free)

        return one_by_one

    def together(latents: Tensor, time: Tensor) -> Tensor:
        conditioned, free = network(torch.cat([latents] * 2), torch.cat([time] * 2), condition).chunk(2)
        return free + scale * (conditioned - free)

    return together


def prepared(network: Any, condition: Any, *, guided: bool) -> Any:
    """What of a condition stays the same over all steps, worked out once where the denoiser knows how.

    guided: its batch is [with ; without] the picture; the stage's record then says whether the tokens without it are
    all alike, so that the denoiser carries one of them.
    """
    if guided:
        shorten = getattr(network, "prepare_guided", None)
        short, why = None, "this denoiser takes them as they are"
        if shorten is not None:
            short = shorten(condition)
            why = "this model's are not alike" if short is None else "they are all alike (exact)"
        current().decide(ONE_TOKEN, short is not None, why)
        if short is not None:
            return short
    prepare = getattr(network, "prepare_condition", None)
    return condition if prepare is None else prepare(condition)


def unguided(network: Callable[[Tensor, Tensor, Any], Tensor], condition: Any) -> Velocity:
    """The network as it is."""
    return lambda latents, time: network(latents, time, condition)


def denoise(
    velocity: Velocity,
    scheduler: FlowScheduler,
    latents: Tensor,
    *,
    callback: Callback | None = None,
    callback_steps: int = 1,
) -> Tensor:
    """Carry noise (B, N, C) along the scheduler's times to latents of the same shape and dtype.

    velocity: called with (latents, time (B,) in [0, 1]).
    callback: called with (index, timestep, the scheduler's output) every ``callback_steps`` steps.
    A last step of length zero is not evaluated: it could not change the latents.
    """
    times = scheduler.timesteps
    skip_last = is_last_step_idle(scheduler)
    output: Any = None
    for index, timestep in enumerate(steps(times, total=len(times))):
        if not (skip_last and index == len(times) - 1):
            time = model_time(timestep, latents.shape[0], latents.dtype, scheduler.config.num_train_timesteps)
            output = scheduler.step(velocity(latents, time), timestep, latents)
            latents = output.prev_sample
        if callback is not None and index % callback_steps == 0:
            callback(index, timestep, output)
    return latents


def is_last_step_idle(scheduler: Any) -> bool:
    """True when the last of several steps goes from σ = 1 to σ = 1, as the flow scheduler's does."""
    sigmas = getattr(scheduler, "sigmas", None)
    count = len(scheduler.timesteps)
    if not isinstance(sigmas, Tensor) or count < 2 or len(sigmas) != count + 1:
        return False
    return bool(sigmas[-1] == sigmas[-2])


def _part(condition: Any, index: int, parts: int) -> Any:
    """One of the equal parts of the batch of every tensor in a nested mapping, or one of a pair."""
    if isinstance(condition, Halves):
        return (condition.picture, condition.nothing)[index]
    if isinstance(condition, Tensor):
        return condition.chunk(parts)[index]
    if isinstance(condition, Mapping):
        return {name: _part(value, index, parts) for name, value in condition.items()}
    return condition


def join(parts: Sequence[Any], dtype: torch.dtype) -> Any:
    """Nested mappings of equal structure -> one, every tensor joined along the batch and cast."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(list(parts)).to(dtype)
    if isinstance(first, Mapping):
        return {name: join([part[name] for part in parts], dtype) for name in first}
    return first


def cast(condition: Any, dtype: torch.dtype) -> Any:
    """Every tensor of a nested mapping in this dtype."""
    return join([condition], dtype)
