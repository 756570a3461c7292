"""Which parts of a network can be brought in and out while it runs: found by the names of its tensors alone.

A network keeps its repeated blocks in lists, and a list's name in a dotted key is followed by a number. So the same
rule reads a loaded module, a file's header and a published list of keys. Knows no class and needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

UNIT_LIMIT_BYTES = 96 << 20
"""Parts above this are looked into for smaller ones; it is just above the largest parts of the known networks that
cannot be taken apart (94 MiB, a residual block of the paint UNet), and their transformer blocks stay whole."""
LISTS_HOLD = 0.7  # a part is taken apart only when lists of sub-blocks hold this share of its bytes


@dataclass(frozen=True)
class NetworkSize:
    """What a network weighs, in bytes: all of it, its largest streamable unit, and what is in no unit."""

    weight_bytes: int
    largest_unit_bytes: int
    rest_bytes: int

    def scaled(self, factor: float) -> NetworkSize:
        """The same network in another number format."""
        return NetworkSize(*(round(v * factor) for v in (self.weight_bytes, self.largest_unit_bytes, self.rest_bytes)))


@dataclass
class _Node:
    """A module as its tensors' names show it. total: bytes below; own: tensors directly in it."""

    total: int = 0
    own: bool = False
    children: dict[str, _Node] = field(default_factory=dict)

    @property
    def is_list(self) -> bool:
        return not self.own and bool(self.children) and all(name.isdigit() for name in self.children)


def units_of(
    tensor_bytes: Mapping[str, int],
    limit_bytes: int = UNIT_LIMIT_BYTES,
    *,
    whole: Callable[[str], bool] = lambda name: False,
) -> dict[str, int]:
    """The units of a network: dotted module name -> bytes, in the order of the keys.

    tensor_bytes: dotted tensor name -> size. Members of lists are units; one above ``limit_bytes`` is taken apart when
    lists inside hold most of it. What stands beside the outermost lists is in no unit: other methods than ``forward``
    enter there. whole: names of modules that must not be taken apart.
    """
    root = _Node()
    for name, size in tensor_bytes.items():
        node = root
        node.total += size
        for part in name.split(".")[:-1]:
            node = node.children.setdefault(part, _Node())
            node.total += size
        node.own = True
    return dict(_visit("", root, limit_bytes, whole, in_list=False))


def size_of(tensor_bytes: Mapping[str, int], limit_bytes: int = UNIT_LIMIT_BYTES) -> NetworkSize:
    """The size of a network whose tensors have these names and bytes."""
    units = units_of(tensor_bytes, limit_bytes)
    total = sum(tensor_bytes.values())
    return NetworkSize(total, max(units.values(), default=0), total - sum(units.values()))


def _visit(
    name: str, node: _Node, limit: int, whole: Callable[[str], bool], *, in_list: bool
) -> Iterator[tuple[str, int]]:
    if not node.is_list:
        divisible = not whole(name) and _bytes_in_lists(node) >= LISTS_HOLD * node.total
        if in_list and (node.total <= limit or not divisible):
            yield name, node.total
            return
        if not divisible and name:
            return
    for part, child in node.children.items():
        yield from _visit(f"{name}.{part}".lstrip("."), child, limit, whole, in_list=in_list or node.is_list)


def _bytes_in_lists(node: _Node) -> int:
    """Bytes in the outermost lists of a module."""
    return sum(child.total if child.is_list else _bytes_in_lists(child) for child in node.children.values())
