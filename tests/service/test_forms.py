"""What forms and documents list is what the rest of the package knows."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel

from hy3dgen.jobs.options import CHOICES
from hy3dgen.jobs.task import VIEW_AZIMUTHS_DEG
from hy3dgen.service import job
from hy3dgen.service.requests import OPTIONS
from hy3dgen.service.rest import schemas
from hy3dgen.service.rest.forms import CutoutForm, JobForm
from hy3dgen.service.settings import FORMATS


def choices_of(form: type[BaseModel]) -> dict[str, tuple[Any, ...]]:
    """The values of every field that has a list of them."""
    found = {}
    for name, field in form.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        for literal in (kind for kind in kinds if get_origin(kind) is Literal):
            found[name] = get_args(literal)
    return found


def test_a_form_takes_every_choice_that_jobs_know() -> None:
    assert choices_of(JobForm) == {name: values for name, values in CHOICES.items() if name in OPTIONS}
    assert choices_of(CutoutForm) == {"rembg": CHOICES["rembg"]}


@pytest.mark.parametrize(
    ("listed", "known"),
    [(schemas.Format, FORMATS), (schemas.View, tuple(VIEW_AZIMUTHS_DEG)), (schemas.Status, get_args(job.Status))],
    ids=["formats", "views", "statuses"],
)
def test_the_documents_list_what_there_is(listed: Any, known: tuple[str, ...]) -> None:
    assert get_args(listed) == known
