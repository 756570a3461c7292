"""Jobs from request to end, with workers that are real processes and stand-in work."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hy3dgen.errors import OutputError
from hy3dgen.service import ledger
from hy3dgen.service import service as service_module
from hy3dgen.service.problems import ServiceError
from hy3dgen.service.service import Service
from hy3dgen.service.settings import Limits
from tests.service.conftest import request_for, settings_for, until

Starter = Callable[..., Service]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    """Starts services in one folder, and stops them at the end."""
    started: list[Service] = []

    def make(**more: Any) -> Service:
        service = Service(settings_for(tmp_path / "service", **more))
        service.start()
        started.append(service)
        return service

    yield make
    for service in started:
        if not service.is_stopping():
            service.stop()


def wait(service: Service, job: str, *statuses: str) -> dict[str, Any]:
    return until(
        lambda: (found := service.get(job))["status"] in (statuses or ("done", "failed", "cancelled")) and found
    )


def runs(service: Service, job: str) -> list[str]:
    """The worker process of every time a job was begun."""
    path = service.storage.job(job) / "runs.txt"
    return path.read_text(encoding="utf-8").split() if path.is_file() else []


def test_a_job_goes_through_the_queue_and_leaves_its_files(start: Starter) -> None:
    service = start()
    taken = service.submit(request_for("mug"))
    assert taken["queue"] is None or taken["queue"]["position"] == 1
    job = wait(service, taken["id"])
    assert job["status"] == "done"
    assert set(job["result"]["files"]) == {"glb", "obj", "ply", "stl"}
    assert job["progress"]["fraction"] == 1.0
    assert service.storage.result(job["id"], "glb").read_bytes()[:4] == b"glTF"
    assert job["inputs"] == [
        {"role": "front", "bytes": taken["inputs"][0]["bytes"], "width": 32, "height": 32, "faces": None}
    ]


@pytest.mark.parametrize(
    ("name", "code", "status"),
    [("nothing", "no-surface", 422), ("memory", "out-of-memory", 507), ("bug", "internal", 500)],
)
def test_a_failed_job_says_why_in_a_sentence_and_no_folder_of_the_server(
    start: Starter, name: str, code: str, status: int
) -> None:
    service = start()
    job = wait(service, service.submit(request_for(name))["id"])
    assert (job["status"], job["error"]["code"], job["error"]["status"]) == ("failed", code, status)
    assert "secret" not in job["error"]["detail"]
    after = wait(service, service.submit(request_for())["id"])
    assert after["status"] == "done", "the worker goes on"


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_worker_fails_its_job_with_a_sentence_and_the_next_job_runs(start: Starter) -> None:
    service = start()
    first, second = service.submit(request_for("slow")), service.submit(request_for())
    wait(service, first["id"], "running")
    until(lambda: (service.get(first["id"])["progress"] or {}).get("stage") == "denoise")
    [pid] = service.worker_pids()
    os.kill(pid, signal.SIGKILL)
    job = wait(service, first["id"])
    assert (job["status"], job["error"]["code"]) == ("failed", "worker-died")
    assert "signal 9" in job["error"]["detail"]
    assert "'denoise'" in job["error"]["detail"]
    assert wait(service, second["id"])["status"] == "done"
    assert runs(service, first["id"]) == [str(pid)], "a job that ended a worker is not tried again unasked"
    assert runs(service, second["id"]) != [str(pid)]


def test_a_worker_that_ends_by_itself_is_replaced(start: Starter) -> None:
    service = start()
    job = wait(service, service.submit(request_for("crash"))["id"])
    assert job["error"]["code"] == "worker-died"
    assert "exit code 3" in job["error"]["detail"]
    assert wait(service, service.submit(request_for())["id"])["status"] == "done"


def test_cancel_stops_a_waiting_job_at_once_and_a_running_one_within_a_step(start: Starter) -> None:
    service = start()
    first, second = service.submit(request_for("slow")), service.submit(request_for("slow"))
    wait(service, first["id"], "running")
    assert service.get(second["id"])["queue"]["position"] == 1
    assert service.cancel(second["id"])["status"] == "cancelled"
    assert service.cancel(first["id"])["cancel_requested"]
    assert wait(service, first["id"])["status"] == "cancelled"
    with pytest.raises(ServiceError, match="ended already"):
        service.cancel(first["id"])


def test_a_worker_that_does_not_listen_is_ended(start: Starter) -> None:
    service = start(cancel_s=0.3)
    job = service.submit(request_for("stubborn"))
    wait(service, job["id"], "running")
    service.cancel(job["id"])
    assert wait(service, job["id"])["status"] == "cancelled"
    assert wait(service, service.submit(request_for())["id"])["status"] == "done"


def test_jobs_survive_a_restart_of_the_server(start: Starter) -> None:
    """The one in work begins again, before those that wait, and nothing is lost."""
    service = start()
    running, waiting = service.submit(request_for("brief")), service.submit(request_for("quick"))
    wait(service, running["id"], "running")
    service.stop()
    service = start()
    assert wait(service, running["id"])["status"] == "done"
    assert wait(service, waiting["id"])["status"] == "done"
    assert len(set(runs(service, running["id"]))) == 2
    assert service.get(running["id"])["started_at"] <= service.get(waiting["id"])["started_at"]


def test_a_job_that_takes_the_server_down_is_not_tried_for_ever(start: Starter) -> None:
    service = start()
    job = service.submit(request_for("slow"))
    wait(service, job["id"], "running")
    # As a power cut leaves it: running, and begun for the third time.
    found = service.find(job["id"])
    document = {**found.as_document(), "attempts": 3}
    service.stop()
    again = Service(replace(service.settings, make_runner=service.settings.make_runner))
    again._store.put(document)
    again.stop()
    service = start()
    ended = service.get(job["id"])
    assert (ended["status"], ended["error"]["code"]) == ("failed", "worker-died")
    assert "3 times" in ended["error"]["detail"]


def test_a_full_disk_at_the_start_of_a_job_ends_no_lane(
    start: Starter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    service = start()
    put, full = service._store.put, [True]

    def put_or_fail(document: dict[str, Any], **more: Any) -> None:
        if document["status"] == "running" and full:
            full.clear()
            raise OutputError("the disk is full")
        put(document, **more)

    monkeypatch.setattr(service._store, "put", put_or_fail)
    assert wait(service, service.submit(request_for())["id"])["status"] == "done"
    assert not full
    assert "cannot be written down" in caplog.text
    assert wait(service, service.submit(request_for())["id"])["status"] == "done"


def test_a_failed_sweep_is_written_to_the_log(
    start: Starter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: Any) -> None:
        raise OutputError("the disk is broken")

    monkeypatch.setattr(service_module, "SWEEP_S", 0.05)
    start()
    monkeypatch.setattr(ledger, "sweep", fail)
    until(lambda: "the disk is broken" in caplog.text)


def test_a_cancelled_job_of_an_earlier_server_has_no_error(start: Starter) -> None:
    service = start()
    job = service.submit(request_for("slow"))
    wait(service, job["id"], "running")
    document = {**service.find(job["id"]).as_document(), "cancel_requested": True}
    service.stop()
    again = Service(service.settings)
    again._store.put(document)
    again.stop()
    ended = start().get(job["id"])
    assert (ended["status"], ended["error"]) == ("cancelled", None)


def test_an_idle_worker_is_ended_and_comes_back_with_the_next_job(start: Starter) -> None:
    service = start(idle_s=0.2)
    assert wait(service, service.submit(request_for())["id"])["status"] == "done"
    until(lambda: not service.worker_pids())
    assert service.facts()["devices"][0]["worker"] == "stopped"
    assert wait(service, service.submit(request_for())["id"])["status"] == "done"


def test_a_worker_that_cannot_start_fails_jobs_instead_of_keeping_them(start: Starter) -> None:
    service = start(devices=("broken",))
    job = wait(service, service.submit(request_for())["id"])
    assert "this device is broken" in job["error"]["detail"]
    assert service.facts()["status"] == "failed"


def test_each_device_has_a_worker_and_concurrency_limits_them(start: Starter) -> None:
    service = start(devices=("one", "two"))
    jobs = [service.submit(request_for("slow"))["id"] for _ in range(3)]
    until(lambda: service.facts()["queue"] == {"waiting": 1, "running": 2})
    for job in jobs:
        service.cancel(job)
        wait(service, job)
    service.stop()
    service = start(devices=("one", "two"), concurrency=1)
    jobs = [service.submit(request_for("slow"))["id"] for _ in range(2)]
    wait(service, jobs[0], "running")
    assert service.facts()["queue"] == {"waiting": 1, "running": 1}


def test_the_queue_is_fair_and_limited(start: Starter) -> None:
    service = start(limits=Limits(queue=4, queue_per_client=3))
    blocker = service.submit(request_for("slow", client="first"))
    wait(service, blocker["id"], "running")
    for _ in range(3):
        service.submit(request_for(client="many"))
    with pytest.raises(ServiceError) as refused:
        service.submit(request_for(client="many"))
    assert refused.value.problem.kind.code == "too-many-jobs"
    single = service.submit(request_for(client="one"))
    assert single["queue"]["position"] == 2, "after one job of the other client, not after three"
    with pytest.raises(ServiceError) as refused:
        service.submit(request_for(client="two"))
    assert refused.value.problem.kind.code == "queue-full"
    assert refused.value.problem.retry_after_s is not None
    folders = [path.name for path in (service.storage.root / "jobs").iterdir()]
    assert len(folders) == 5, "a refused job leaves nothing"


def test_delete_stops_a_running_job_and_removes_everything(start: Starter) -> None:
    service = start()
    job = service.submit(request_for("slow"))
    wait(service, job["id"], "running")
    service.delete(job["id"])
    with pytest.raises(ServiceError):
        service.get(job["id"])
    until(lambda: not service.storage.job(job["id"]).exists())
    assert service.history(10, None, ())["jobs"] == []


def test_estimates_come_with_experience(start: Starter) -> None:
    service = start()
    wait(service, service.submit(request_for("brief"))["id"])
    slow = service.submit(request_for("slow"))
    wait(service, slow["id"], "running")
    behind = service.submit(request_for())
    assert behind["queue"]["estimate_s"] is not None
    assert 0 <= behind["queue"]["estimate_s"] < 60
    assert service.get(slow["id"])["progress"]["remaining_s"] is not None


def test_the_server_itself_never_imports_torch() -> None:
    import subprocess

    code = "import sys, hy3dgen.service.rest.app, hy3dgen.service.checks; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


SERVER = """
import sys, time
from pathlib import Path
from tests.service.conftest import serving, settings_for
if __name__ == "__main__":
    with serving(settings_for(Path(sys.argv[1]))) as client:
        print(client.base, *client.service.worker_pids(), flush=True)
        time.sleep(600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_server_loses_no_job_and_leaves_no_worker_behind(tmp_path: Path) -> None:
    """As a power cut or the system's memory killer ends it: nothing can be written down any more."""
    import subprocess

    from tests.service.conftest import Client, serving

    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(tmp_path)], cwd=root, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    client = Client(process.stdout.readline().split()[0])
    jobs = [client.make(name).json()["id"] for name in ("slow", "quick", "quick")]
    client.wait(jobs[0], "running")
    until((tmp_path / "jobs" / jobs[0] / "runs.txt").is_file)
    worker = int((tmp_path / "jobs" / jobs[0] / "runs.txt").read_text(encoding="utf-8"))
    process.kill()
    process.communicate()
    until(lambda: not is_alive(worker))
    with serving(settings_for(tmp_path)) as client:
        client.wait(jobs[0], "running")
        assert client.job(jobs[1])["queue"]["position"] == 1
        client("POST", f"/v1/jobs/{jobs[0]}/cancel")
        assert [client.wait(job)["status"] for job in jobs] == ["cancelled", "done", "done"]


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and waits to be reaped does not."""
    status = Path(f"/proc/{pid}/stat")
    if status.is_file():
        return status.read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] != "Z"
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return not status.parent.parent.is_dir()
