"""What survives the server."""

from __future__ import annotations

from pathlib import Path

import pytest

from hy3dgen.errors import UsageError
from hy3dgen.service.housekeeping import sweep
from hy3dgen.service.job import new_id
from hy3dgen.service.settings import Limits
from hy3dgen.service.storage import Storage
from hy3dgen.service.store import JobStore


def document(status: str = "done", finished: float | None = 1000.0) -> dict[str, object]:
    return {"id": new_id(), "status": status, "finished": finished}


def test_documents_come_back_after_the_store_has_been_closed(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    documents = [document("queued", None), document("running", None), document()]
    for entry in documents:
        store.put(entry)
    store.close()
    store = JobStore(tmp_path)
    assert store.unfinished() == documents[:2]
    assert store.get(str(documents[2]["id"])) == documents[2]
    store.close()


def test_pages_follow_each_other_without_a_gap(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    documents = [document() for _ in range(7)]
    for entry in documents:
        store.put(entry)
    found, before = [], None
    while True:
        page, before = store.page(3, before=before)
        found += page
        if before is None:
            break
    assert found == documents[::-1]
    assert store.page(10, statuses=["failed"]) == ([], None)
    store.close()


def test_two_servers_do_not_share_a_folder(tmp_path: Path) -> None:
    """Both would do the same jobs, and write into the same files."""
    store = JobStore(tmp_path)
    with pytest.raises(UsageError, match="another server uses"):
        JobStore(tmp_path)
    store.close()
    JobStore(tmp_path).close()


def test_old_jobs_go_and_then_the_oldest_until_the_rest_fits(tmp_path: Path) -> None:
    store, storage = JobStore(tmp_path), Storage(tmp_path)
    waiting, *rest = (
        document("queued", None),
        *(document(finished=float(at)) for at in (100, 900_000, 900_001, 900_002)),
    )
    for entry in (waiting, *rest):
        store.put(entry, size_bytes=10)
        storage.add_input(str(entry["id"]), "front", "", b"0123456789")
    gone = sweep(store, storage, Limits(keep_days=1, keep_bytes=25), now=900_003)
    assert gone == [rest[0]["id"], rest[1]["id"]]
    assert not storage.job(gone[0]).exists()
    assert storage.job(str(waiting["id"])).exists()
    # One that is too large for the folder all by itself stays until there is a newer one.
    assert sweep(store, storage, Limits(keep_days=1, keep_bytes=1), now=900_003) == [rest[2]["id"]]
    store.close()


def test_no_path_is_made_from_anything_but_an_id(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    for name in ("", "..", "../" + "a" * 29, "A" * 32, "a" * 31, "/etc/passwd"):
        with pytest.raises(ValueError, match="no job id"):
            storage.job(name)
