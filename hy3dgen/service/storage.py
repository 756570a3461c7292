"""Where the files of jobs lie: one folder a job, named by its id; nothing in a path comes from a client.

root/jobs/<id>/inputs/<role>/…    what was uploaded, each in a folder of its own
root/jobs/<id>/files/…            what clients may fetch
root/jobs/<id>/keep/…             results of stages, to go on after an interruption
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from hy3dgen.runtime.files import ensure_writable, make_folder, write_atomic
from hy3dgen.service.job import is_id

RESULTS = {"glb": "result.glb", "obj": "result.zip", "ply": "result.ply", "stl": "result.stl"}


class Storage:
    """The folder of a service. Raises OutputError when it cannot be used."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._jobs = self.root / "jobs"
        make_folder(self._jobs)
        if os.name == "posix":
            self.root.chmod(0o700)  # other people's pictures
        ensure_writable(self._jobs)

    def job(self, job: str) -> Path:
        """The folder of a job."""
        if not is_id(job):
            raise ValueError(f"'{job}' is no job id")
        return self._jobs / job

    def add_input(self, job: str, role: str, suffix: str, content: bytes) -> str:
        """Store an upload; returns its name inside the job's input folder. role and suffix come from our own lists."""
        name = f"{role}/{role}{suffix}"
        write_atomic(self.job(job) / "inputs" / name, content)
        return name

    def inputs(self, job: str) -> Path:
        return self.job(job) / "inputs"

    def result(self, job: str, kind: str) -> Path:
        """The finished file in one of the formats."""
        return self.job(job) / "files" / RESULTS[kind]

    def shape(self, job: str) -> Path:
        return self.job(job) / "files" / "mesh.glb"

    def preview(self, job: str) -> Path:
        return self.job(job) / "files" / "preview.png"

    def cutout(self, job: str, view: str) -> Path:
        return self.job(job) / "files" / f"cutout_{view}.png"

    def report(self, job: str) -> Path:
        return self.job(job) / "files" / "report.json"

    def forget_work(self, job: str) -> None:
        """Remove what only an unfinished job needs."""
        shutil.rmtree(self.job(job) / "keep", ignore_errors=True)

    def remove(self, job: str) -> None:
        """Remove a job's files."""
        shutil.rmtree(self.job(job), ignore_errors=True)

    def size_bytes(self, job: str) -> int:
        """What a job's files take."""
        return sum(path.stat().st_size for path in self.job(job).rglob("*") if path.is_file())

    def free_bytes(self) -> int:
        """What the disk has left."""
        return shutil.disk_usage(self._jobs).free

    def leftovers(self, known: set[str]) -> list[str]:
        """Folders of jobs that nobody knows, as an upload leaves that the server did not survive."""
        return [path.name for path in self._jobs.iterdir() if is_id(path.name) and path.name not in known]
