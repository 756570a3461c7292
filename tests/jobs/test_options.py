"""Options: one home of defaults, checks that name the option, and what belongs to the result."""

from __future__ import annotations

import pytest

from hy3dgen.errors import UsageError
from hy3dgen.jobs.options import CHOICES, RANGES, JobOptions, options_from


@pytest.mark.parametrize("name", sorted(RANGES))
def test_numbers_out_of_range_name_the_option_and_the_limits(name: str) -> None:
    least, most, _ = RANGES[name]
    for wrong in (least - 1, most * 2 + 1, float("nan"), "7", True):
        with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} is .* from {least} to {most}"):
            JobOptions(**{name: wrong})
    assert getattr(JobOptions(**{name: least}), name) == least
    assert getattr(JobOptions(**{name: most}), name) == most


@pytest.mark.parametrize("name", sorted(CHOICES))
def test_unknown_choices_list_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError, match=CHOICES[name][-1]):
        JobOptions(**{name: "sideways"})
    for choice in CHOICES[name]:
        assert getattr(JobOptions(**{name: choice}), name) == choice


def test_an_unknown_option_names_the_nearest() -> None:
    with pytest.raises(TypeError, match="unknown option 'guidence'; did you mean 'guidance'"):
        options_from({"guidence": 3.0})


def test_none_is_dropped_so_that_defaults_have_one_home() -> None:
    assert options_from({"seed": None, "steps": 7}) == JobOptions(steps=7)


def test_a_models_defaults_fill_only_what_the_user_left_open() -> None:
    filled = JobOptions(steps=7).filled({"steps": 50, "guidance": 5.0, "decoder": "dense"})
    assert (filled.steps, filled.guidance, filled.decoder, filled.faces) == (7, 5.0, "dense", None)


def test_what_does_not_change_the_result_is_not_part_of_it() -> None:
    assert JobOptions(offline=True, preview=False).result_part() == JobOptions().result_part()
    assert JobOptions(seed=1).result_part() != JobOptions().result_part()
