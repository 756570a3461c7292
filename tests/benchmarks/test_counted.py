"""What the counter counts, and that the committed counts and the plan's data fit the code."""

from __future__ import annotations

import json

import torch
from torch import nn

from benchmarks import counted
from hy3dgen.runtime.costs import activation_data

CUBLAS_MB = 66
ROWS = {(row["call"], row["pictures"], row["way"]): row for row in json.loads(counted.RESULT.read_text())["rows"]}


def test_the_committed_counts_are_up_to_date() -> None:
    assert counted.main(["--check"]) == 0


def test_storages_count_once_and_while_they_live() -> None:
    with counted.CountedTensors() as mode, torch.no_grad():
        x = torch.empty(1024, dtype=torch.uint8)
        y = x[:10].add_(1).view(2, 5)
        z = x + 1
        del x, y
        assert (mode.held, mode.peak) == (1024, 2048)
        del z
    assert mode.held == 0


def test_a_convolution_needs_copies_of_what_it_reads_and_writes() -> None:
    conv, x = nn.Conv2d(2, 4, 1, bias=False, device="meta"), torch.empty(1, 2, 8, 8, device="meta")
    with counted.CountedTensors() as mode, torch.no_grad():
        conv(x)
    assert mode.peak == 4 * 4 * 64
    assert mode.peak_with_conv == 4 * (2 * 4 * 64 + 2 * 64 + 8)


def test_counts_come_near_what_was_measured() -> None:
    """On an H200 (design.md, section 1): 619 MB, 845, 428 and 258."""
    both, half = "both halves", "one half"
    for key, measured in {
        ("VAE decode", 1, "plain"): 619,
        ("paint step", 6, both): 845,
        ("paint step", 6, half): 428,
    }.items():
        assert abs(ROWS[key]["with_conv_mb"] / measured - 1) < 0.06
    assert abs(ROWS["paint step", 6, f"{half}, feed-forward of one view at a time"]["tensors_mb"] / 258 - 1) < 0.06


def test_a_picture_in_strips_needs_two_large_maps_and_the_plan_allows_for_it() -> None:
    """The floor is 192 MB: a map of 256 channels at 512 px and one of 128."""
    decode, encode = ROWS["VAE decode", 1, "in strips"], ROWS["VAE encode", 1, "in strips"]
    assert decode["with_conv_mb"] <= 250 and encode["with_conv_mb"] <= 250
    data = activation_data()
    for stage in ("delight", "views"):
        for call, row in (("encode", encode), ("decode", decode)):
            [planned] = [r for r in data[stage][call] if r["levers"].get("vae_strips")]
            assert planned["extra_mb"] >= row["with_conv_mb"] + CUBLAS_MB


def test_field_values_keep_nothing_that_the_mlp_does_not_need() -> None:
    """Per point 20 KiB: the hidden layer of 4 × 1024 before and after its GELU, its input and what it is added to.

    Beside it 51 waves of 2 bytes for eight tiles, and the call's answers.
    """
    for tile in counted.TILES:
        beside = min(8 * tile, counted.FIELD_POINTS) * 102 + counted.FIELD_POINTS * 2
        wanted = (tile * 20 * 1024 + beside) / counted.MIB
        assert abs(ROWS["field values", 1, f"{tile} points"]["tensors_mb"] - wanted) < 0.3
