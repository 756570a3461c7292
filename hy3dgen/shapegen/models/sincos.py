"""The table of sines and cosines that marks positions and views."""

from __future__ import annotations

import numpy as np


def get_1d_sincos_pos_embed_from_grid(embed_dim: int, pos: np.ndarray) -> np.ndarray:
    """pos: positions, any shape, M of them. Returns (M, embed_dim) float64: sines, then cosines, of falling frequency.

    embed_dim must be even.
    """
    assert embed_dim % 2 == 0, f"embed_dim must be even, got {embed_dim}"
    frequencies = 10000.0 ** (-np.arange(embed_dim // 2, dtype=np.float64) / (embed_dim / 2.0))
    angles = np.asarray(pos, dtype=np.float64).reshape(-1, 1) * frequencies
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
