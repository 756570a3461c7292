"""Disks that fill up and files that vanish in the middle of things: nothing is lost, stuck, or answered with 500."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from hy3dgen.errors import OutputError
from hy3dgen.service import service as service_module
from hy3dgen.service.housekeeping import sweep
from hy3dgen.service.problems import ServiceError
from hy3dgen.service.requests import JobRequest
from hy3dgen.service.settings import Limits
from hy3dgen.service.storage import Storage
from hy3dgen.service.store import JobStore
from tests.service.conftest import Client, request_for, serving, settings_for, until
from tests.service.test_rest import is_problem
from tests.service.test_service import Starter, start, wait

__all__ = ["start"]


def test_the_end_of_a_job_is_told_though_the_disk_is_full_and_written_down_later(
    start: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stayed 'running' for everybody who asked afterwards, until the server was started again."""
    monkeypatch.setattr(service_module, "SWEEP_S", 0.1)
    service = start()
    put, full = service._store.put, [True]

    def put_or_fail(document: dict[str, Any], **more: Any) -> None:
        if document["status"] == "done" and full:
            raise OutputError("the disk is full")
        put(document, **more)

    monkeypatch.setattr(service._store, "put", put_or_fail)
    job = service.submit(request_for())["id"]
    assert wait(service, job)["status"] == "done"
    assert service.history(10, None, ())["jobs"][0]["status"] == "done"
    with pytest.raises(ServiceError, match="ended already"):
        service.cancel(job)
    assert service.facts()["queue"] == {"waiting": 0, "running": 0}
    full.clear()
    until(lambda: service._store.get(job)["status"] == "done")
    full.append(True)
    last = service.submit(request_for())["id"]
    wait(service, last)
    full.clear()
    service.stop()
    service = start()
    assert {service.get(job)["status"], service.get(last)["status"]} == {"done"}


def test_a_job_whose_end_could_not_be_written_down_can_be_deleted(
    start: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = start()
    put = service._store.put

    def put_or_fail(document: dict[str, Any], **more: Any) -> None:
        if document["status"] == "done":
            raise OutputError("the disk is full")
        put(document, **more)

    monkeypatch.setattr(service._store, "put", put_or_fail)
    job = service.submit(request_for())["id"]
    wait(service, job)
    service.delete(job)
    with pytest.raises(ServiceError, match="no such job"):
        service.get(job)
    assert not service.storage.job(job).exists()
    assert wait(service, service.submit(request_for())["id"])["status"] == "done"


def test_whatever_goes_wrong_at_the_end_of_a_job_ends_no_lane(start: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lane told of the mistake, found the job gone, and its thread ended: the queue had no keeper any more."""
    service = start()
    measure, broken = service.storage.size_bytes, [True]

    def measure_or_fail(job: str) -> int:
        if broken:
            broken.clear()
            raise FileNotFoundError("gone")
        return measure(job)

    monkeypatch.setattr(service.storage, "size_bytes", measure_or_fail)
    first = service.submit(request_for())["id"]
    assert wait(service, first)["status"] in ("done", "failed")
    assert wait(service, service.submit(request_for())["id"])["status"] == "done"


def test_deleting_frees_a_full_disk(start: Starter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The list wants to write before it forgets, so the files go first: they are what makes room."""
    service = start(limits=Limits(keep_days=7))
    jobs = [wait(service, service.submit(request_for())["id"])["id"] for _ in range(2)]
    remove = service._store.remove

    def remove_if_there_is_room(job: str) -> None:
        if service.storage.job(job).exists():
            raise OutputError("the disk is full")
        remove(job)

    monkeypatch.setattr(service._store, "remove", remove_if_there_is_room)
    service.delete(jobs[0])
    gone = sweep(service._store, service.storage, Limits(keep_days=0))
    assert gone == [jobs[1]]
    assert service.history(10, None, ())["jobs"] == []


def test_a_sweep_that_was_cut_off_is_finished_by_the_next(tmp_path: Path) -> None:
    store, storage = JobStore(tmp_path), Storage(tmp_path)
    job = "0" * 32
    storage.add_input(job, "front", "", b"x")
    store.put({"id": job, "status": "done", "finished": 1.0}, size_bytes=1)
    shutil.rmtree(storage.job(job))
    assert sweep(store, storage, Limits()) == [job]
    assert store.ids() == set()
    store.close()


def test_a_result_whose_file_is_gone_is_a_problem_of_that_job(tmp_path: Path) -> None:
    """GET /status answered 500."""
    with serving(settings_for(tmp_path)) as client:
        service = client.service  # type: ignore[attr-defined]
        job = client.wait(client.make().json()["id"])
        shutil.rmtree(service.storage.job(job["id"]) / "files")
        is_problem(client("GET", f"/status/{job['id']}"), 409, "not-available")
        for part in ("mesh", "result", "preview", "cutout", "report"):
            is_problem(client("GET", f"/v1/jobs/{job['id']}/{part}"), 409, "not-available")


def test_words_that_no_encoding_has_are_refused(start: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    r"""JSON can carry half a character (\ud800); it came out as our mistake where text to image is there."""
    service = start()
    monkeypatch.setattr(service.availability, "ensure", lambda **_: None)
    with pytest.raises(ServiceError) as refused:
        service.submit(JobRequest(client="somebody", text="a \ud800 car"))
    assert refused.value.problem.kind.code == "bad-request"
    assert refused.value.problem.errors[0]["field"] == "text"


def test_an_upload_that_finds_no_room_says_so_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(settings_for(tmp_path)) as client:
        service: Any = client.service  # type: ignore[attr-defined]

        def no_room(*arguments: Any) -> str:
            raise OutputError("cannot write: No space left on device")

        with monkeypatch.context() as full:
            full.setattr(service.storage, "add_input", no_room, raising=False)
            full.setattr(type(service.storage), "add_input", no_room)
            is_problem(client.make(), 507, "no-space")
        assert list((tmp_path / "jobs").iterdir()) == []
        assert _makes(client)


def _makes(client: Client) -> bool:
    return bool(client.wait(client.make().json()["id"])["status"] == "done")
