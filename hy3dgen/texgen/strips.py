"""A VAE that never holds more than two large maps: convolutions in horizontal strips, the result as without.

Unlike tiles, strips are exact. A group norm looks at the whole picture, so its mean and variance are taken first, strip
by strip in float32, and applied in a second pass; a convolution's strip is read with the rows it needs from its
neighbours; a residual is added where the map lies. Only the floor is left: of a resnet block, its input and one output.
Applied from outside to diffusers' encoder and decoder, found by the names of their parts, and taken off again. Knows
neither pipelines nor plans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hy3dgen.errors import UsageError

STRIP_VALUES = 8 << 20
"""Values of a map in one strip: 16 MiB at half precision, whole maps up to 64 rows of 512 x 256 channels."""
Read = Callable[[int, int], Tensor]  # rows [low, high) of a map, (B, C, high - low, W)
# A map on its way to the part that uses it up. Whoever is called takes it out, so that nobody above keeps it alive.
Passed = list[Tensor]


def use_strips(vae: Any, *, strip_values: int = STRIP_VALUES) -> None:
    """Let ``vae`` (an AutoencoderKL) encode and decode in strips from now on, without gradients.

    strip_values: how much of a map is worked on at a time. Doing it again changes only that. Raises UsageError, with
    the VAE as it was, for parts that cannot be computed so.
    """
    replaced: list[tuple[nn.Module, Callable[..., Tensor]]] = []
    strips = _Strips(strip_values)
    for coder, lists in ((vae.encoder, "down_blocks"), (vae.decoder, "up_blocks")):
        for block in getattr(coder, lists):
            _check_block(block)
            replaced.append((block, strips.bound(strips.block, block)))
            replaced += [(resnet, strips.bound(strips.resnet, resnet)) for resnet in block.resnets]
            replaced += [(part, strips.bound(strips.upsampled, part)) for part in _listed(block, "upsamplers")]
            replaced += [(part, strips.bound(strips.downsampled, part)) for part in _listed(block, "downsamplers")]
        if not isinstance(coder.conv_norm_out, nn.GroupNorm):
            raise UsageError(f"a VAE with {type(coder.conv_norm_out).__name__} cannot run in strips")
    replaced.append((vae.encoder, strips.bound(strips.encode, vae.encoder)))
    replaced.append((vae.decoder, strips.bound(strips.decode, vae.decoder)))
    for module, forward in replaced:
        module.__dict__["forward"] = forward


def drop_strips(vae: Any) -> None:
    """Undo ``use_strips``; harmless when nothing is to be undone."""
    for module in vae.modules() if isinstance(vae, nn.Module) else ():  # a stand-in has nothing to undo
        if getattr(module.__dict__.get("forward"), "in_strips", False):
            del module.__dict__["forward"]


class _Strips:
    """The forwards that take the place of diffusers' own."""

    def __init__(self, values: int) -> None:
        self._values = values

    @staticmethod
    def bound(forward: Callable[..., Tensor], module: nn.Module) -> Callable[..., Tensor]:
        """``forward`` for this module, marked as ours."""

        @torch.no_grad()
        def replacement(*args: Any, **kwargs: Any) -> Tensor:
            return forward(module, *args, **kwargs)

        replacement.in_strips = True  # type: ignore[attr-defined]
        return replacement

    def encode(self, encoder: Any, sample: Tensor) -> Tensor:
        x = [self._convolved(encoder.conv_in, _rows_of(sample), sample)]
        for block in encoder.down_blocks:
            x = [block(x)]
        return self._finished(encoder, encoder.mid_block(x.pop()))

    def decode(self, decoder: Any, sample: Tensor, latent_embeds: Tensor | None = None) -> Tensor:
        if latent_embeds is not None:
            raise UsageError("a VAE with latent embeddings cannot run in strips")
        x = [decoder.mid_block(decoder.conv_in(sample), None)]
        for block in decoder.up_blocks:
            x = [block(x)]
        return self._finished(decoder, x.pop())

    def block(self, block: Any, passed: Passed, *_: Any) -> Tensor:
        x = [passed.pop()]
        for part in (*block.resnets, *_listed(block, "upsamplers"), *_listed(block, "downsamplers")):
            x = [part(x)]
        return x.pop()

    def resnet(self, resnet: Any, passed: Passed) -> Tensor:
        x = passed.pop()
        act = resnet.nonlinearity
        h = self._convolved(resnet.conv1, self._activated(x, resnet.norm1, act), x)
        read = self._activated(h, resnet.norm2, act)
        if resnet.conv_shortcut is None:
            for start, stop in self._strips(h):
                x[:, :, start:stop] += _conv_rows(resnet.conv2, read, h.shape[2], start, stop)
                if resnet.output_scale_factor != 1:
                    x[:, :, start:stop] /= resnet.output_scale_factor
            return x
        done: tuple[int, int, Tensor] | None = None  # written over h when the next strip has read its neighbour rows
        for start, stop in self._strips(x):
            low, high = _rows_read(resnet.conv2, start, stop)
            given = read(max(low, 0), min(high, h.shape[2]))
            if done is not None:
                h[:, :, done[0] : done[1]] = done[2]
            part = _conv_given(resnet.conv2, given, low, high, h.shape[2])
            del given
            part += _conv_rows(resnet.conv_shortcut, _rows_of(x), x.shape[2], start, stop)
            done = start, stop, part.div_(resnet.output_scale_factor)
            del part
        assert done is not None
        h[:, :, done[0] : done[1]] = done[2]
        return h

    def upsampled(self, upsampler: Any, passed: Passed) -> Tensor:
        x = passed.pop()

        def read(low: int, high: int) -> Tensor:
            first = low // 2
            doubled = functional.interpolate(x[:, :, first : -(-high // 2)], scale_factor=2.0, mode="nearest")
            return doubled[:, :, low - 2 * first : high - 2 * first]

        return self._convolved(upsampler.conv, read, x, grown=2)

    def downsampled(self, downsampler: Any, passed: Passed) -> Tensor:
        x = passed.pop()
        behind = 1 if downsampler.padding == 0 else 0  # diffusers pads such a picture below and on the right only
        return self._convolved(downsampler.conv, _rows_of(x), x, behind=behind)

    def _finished(self, coder: Any, x: Tensor) -> Tensor:
        return self._convolved(coder.conv_out, self._activated(x, coder.conv_norm_out, coder.conv_act), x)

    def _convolved(self, conv: nn.Conv2d, read: Read, like: Tensor, *, grown: int = 1, behind: int = 0) -> Tensor:
        """A convolution of the map that ``read`` gives, which is ``grown`` times as high and wide as ``like``.

        behind: rows and columns of zeros below and on the right, besides the convolution's own padding.
        """
        height, width = (grown * size for size in like.shape[2:])
        out_size = [_out_size(conv, axis, size + behind) for axis, size in enumerate((height, width))]
        out = like.new_empty(like.shape[0], conv.out_channels, *out_size)
        row = like.shape[0] * width * max(conv.in_channels, conv.out_channels)
        for start, stop in self._ranges(out_size[0], row * conv.stride[0]):
            out[:, :, start:stop] = _conv_rows(conv, read, height, start, stop, behind)
        return out

    def _activated(self, x: Tensor, norm: Any, act: Any) -> Read:
        """The map ``x`` normalised and activated, strip by strip; the statistics are taken here."""
        exact = torch.promote_types(x.dtype, torch.float32)
        mean, variance = self._moments(x, norm.num_groups, exact)
        spread = (variance + norm.eps).rsqrt()
        repeats = x.shape[1] // norm.num_groups
        scale = spread.repeat_interleave(repeats, dim=1) * norm.weight.to(exact)
        shift = norm.bias.to(exact) - mean.repeat_interleave(repeats, dim=1) * scale
        scale, shift = scale[..., None, None], shift[..., None, None]

        def read(low: int, high: int) -> Tensor:
            part = (x[:, :, low:high] * scale).add_(shift)
            part = functional.silu(part, inplace=True) if isinstance(act, nn.SiLU) else act(part)
            return part.to(x.dtype)

        return read

    def _moments(self, x: Tensor, groups: int, exact: torch.dtype) -> tuple[Tensor, Tensor]:
        """Mean and variance (B, groups) over the whole map."""
        means, variances, shares = [], [], []
        for start, stop in self._strips(x):
            variance, mean = _strip_moments(x[:, :, start:stop], groups, exact)
            means.append(mean)
            variances.append(variance)
            shares.append((stop - start) / x.shape[2])
        share = torch.tensor(shares, dtype=exact).to(x.device)[:, None, None]
        each = torch.stack(means)
        mean = (share * each).sum(0)
        return mean, (share * (torch.stack(variances) + (each - mean) ** 2)).sum(0)

    def _strips(self, x: Tensor) -> Iterator[tuple[int, int]]:
        return self._ranges(x.shape[2], x.shape[0] * x.shape[1] * x.shape[3])

    def _ranges(self, height: int, row_values: int) -> Iterator[tuple[int, int]]:
        """(first row, row behind the last) of each strip."""
        rows = max(1, self._values // max(row_values, 1))
        for start in range(0, height, rows):
            yield start, min(start + rows, height)


def _strip_moments(strip: Tensor, groups: int, exact: torch.dtype) -> tuple[Tensor, Tensor]:
    """Variance and mean (B, groups) of one strip; a function, so that its float32 copy is gone before the next one."""
    return torch.var_mean(strip.to(exact).reshape(strip.shape[0], groups, -1), dim=-1, correction=0)


def _rows_of(x: Tensor) -> Read:
    return lambda low, high: x[:, :, low:high]


def _rows_read(conv: nn.Conv2d, start: int, stop: int) -> tuple[int, int]:
    """The rows that output rows [start, stop) look at; some may lie outside of the map."""
    low = start * conv.stride[0] - int(conv.padding[0])
    return low, low + (stop - start - 1) * conv.stride[0] + conv.kernel_size[0]


def _conv_rows(conv: nn.Conv2d, read: Read, height: int, start: int, stop: int, behind: int = 0) -> Tensor:
    """Rows [start, stop) of a convolution of a map that is ``height`` rows high."""
    low, high = _rows_read(conv, start, stop)
    return _conv_given(conv, read(max(low, 0), min(high, height)), low, high, height, behind)


def _conv_given(conv: nn.Conv2d, given: Tensor, low: int, high: int, height: int, behind: int = 0) -> Tensor:
    """The same from rows [low, high) as far as they exist; those outside of the map are zeros."""
    above, below = max(-low, 0), max(high - height, 0)
    if above or below or behind:
        given = functional.pad(given, (0, behind, above, below))
    return functional.conv2d(given, conv.weight, conv.bias, conv.stride, (0, int(conv.padding[1])))


def _out_size(conv: nn.Conv2d, axis: int, size: int) -> int:
    return (size + 2 * int(conv.padding[axis]) - conv.kernel_size[axis]) // conv.stride[axis] + 1


def _listed(block: Any, name: str) -> list[Any]:
    return list(getattr(block, name, None) or ())


def _check_block(block: Any) -> None:
    """Raises UsageError for what the official VAEs do not contain."""
    unsupported = {
        "attention outside of the middle": bool(_listed(block, "attentions")),
        "resnets with time embeddings or other norms": any(
            not isinstance(getattr(r, "norm1", None), nn.GroupNorm) or r.time_emb_proj is not None or r.up or r.down
            for r in block.resnets
        ),
        "upsamplers or downsamplers without a plain convolution": any(
            not isinstance(getattr(part, "conv", None), nn.Conv2d) or part.norm is not None
            for part in (*_listed(block, "upsamplers"), *_listed(block, "downsamplers"))
        ),
    }
    for what, present in unsupported.items():
        if present:
            raise UsageError(f"a VAE with {what} cannot run in strips")


__all__ = ["STRIP_VALUES", "drop_strips", "use_strips"]
