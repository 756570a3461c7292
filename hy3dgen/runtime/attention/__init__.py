"""``attend(q, k, v)``: the only door to attention in this package. One file a back end.

Networks call ``attend`` and know no back end. Which one answers is chosen in one place: ``use_backend`` for a
block of code, else the environment variable ``ATTN_BACKEND``, else 'auto'.
"""

from hy3dgen.runtime.attention.door import BACKENDS, attend, availability, resolve_backend, use_backend
from hy3dgen.runtime.attention.sdpa import ready_kernels

__all__ = ["BACKENDS", "attend", "availability", "ready_kernels", "resolve_backend", "use_backend"]
