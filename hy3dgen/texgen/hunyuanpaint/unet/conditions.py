"""What the views look at besides each other: the learned text and the features of the reference pictures.

Neither changes between denoising steps, so their keys and values are computed when a layer first asks and kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from diffusers.models.attention_processor import Attention
from torch import Tensor

from hy3dgen.texgen.attention import keys_values


@dataclass
class Conditions:
    """Text and reference of the *last* ``rows`` rows of a guidance batch.

    The rows before them are unconditional: their text states are zero and their reference counts nothing, so their
    text attention is its output bias and their reference attention is not computed at all. The result is the same
    as with zero tensors, because ``to_k`` and ``to_v`` have no bias.

    text: (rows, T, D), or None when rows is 0
    features: layer name -> (rows, R·L, C), the normalised input of the reference stream's layer; an entry is let
        go as soon as its keys and values exist, so pass a dictionary that may be emptied
    ref_scale: weight of the reference, one number or (rows,)
    """

    rows: int
    text: Tensor | None = None
    features: dict[str, Tensor] = field(default_factory=dict)
    ref_scale: Tensor | float = 1.0
    _text: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)
    _reference: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    def text_of(self, layer: str, attn: Attention) -> tuple[Tensor, Tensor]:
        """Keys and values (rows, H, T, D) of the text in this layer."""
        if layer not in self._text:
            if self.text is None:
                raise RuntimeError(f"layer {layer} asks for text, but these conditions hold none")
            self._text[layer] = keys_values(attn, self.text)
        return self._text[layer]

    def reference_of(self, layer: str, attn: Attention) -> tuple[Tensor, Tensor]:
        """Keys and values (rows, H, R·L, D) of the reference pictures in this layer."""
        if layer not in self._reference:
            self._reference[layer] = keys_values(attn, self.features.pop(layer))
        return self._reference[layer]

    @property
    def nbytes(self) -> int:
        """Bytes held: features not yet used plus cached keys and values."""
        pairs = [*self._text.values(), *self._reference.values()]
        held = [t for pair in pairs for t in pair] + list(self.features.values())
        return sum(t.nbytes for t in held)
