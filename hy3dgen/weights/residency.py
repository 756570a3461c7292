"""A module whose weights have a home and visit a device: in for a stage, out again.

The home is the mapped weight file (or host memory), so that leaving a device copies nothing back and a network that
is not in use costs no memory. Knows no stage and no network.
"""

from __future__ import annotations

import torch
from torch import nn

from hy3dgen.runtime.uploads import Uploader
from hy3dgen.weights.load import convert, set_tensor


class Residency:
    """Where the tensors of one module are."""

    def __init__(self, module: nn.Module, *, has_home: bool = False) -> None:
        """has_home: the module's present tensors are to be kept as its home (they lie in a mapped file).

        Without a home the module is moved as a whole, and to the CPU when it leaves.
        """
        self.module = module
        self._home = _tensors(module) if has_home else None
        self._place: tuple[torch.device, torch.dtype | None] | None = None

    @property
    def is_resident(self) -> bool:
        """True between ``enter`` and ``leave``."""
        return self._place is not None

    @property
    def has_home(self) -> bool:
        return self._home is not None

    def enter(self, device: torch.device, dtype: torch.dtype | None) -> nn.Module:
        """Bring the weights to this device, floating point ones as ``dtype``; nothing to do when they are there."""
        if self._place == (device, dtype):
            return self.module
        # Parameters made in inference mode could not be used outside it afterwards.
        with torch.inference_mode(False), torch.no_grad():
            if self._home is None:
                self.module.to(device=device, dtype=dtype)
            else:
                upload = Uploader(device)
                for name, tensor in self._home.items():
                    there = convert(tensor, dtype)
                    set_tensor(self.module, name, there if there.device == device else upload(there))
        self._place = (device, dtype)
        return self.module

    def leave(self) -> None:
        """Give the memory back: the weights are at home (or on the CPU) again."""
        if self._place is None:
            return
        with torch.inference_mode(False), torch.no_grad():
            if self._home is None:
                self.module.to("cpu")
            else:
                for name, tensor in self._home.items():
                    set_tensor(self.module, name, tensor)
        self._place = None


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    return {
        **{name: parameter.detach() for name, parameter in module.named_parameters(remove_duplicate=False)},
        **dict(module.named_buffers(remove_duplicate=False)),
    }
