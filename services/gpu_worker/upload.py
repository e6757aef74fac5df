"""One attempt's files on their way into the artifact store."""

import threading
from functools import partial
from pathlib import Path

import anyio
import structlog
from anyio import to_thread

from services.gpu_worker.protocol import RenderedFile
from shared.errors import JobNotFound, TransientError
from shared.job import Artifact, Job, JobStatus, artifact_key
from shared.ports import StoredFile
from shared.wiring import Wiring

# How long the next job waits for a slow store to remove what this one has left in it.
_REMOVAL_SECONDS = 2.0

log = structlog.get_logger("promptreel.upload")


class Upload:
    """Stores files until it is given up; then what nobody wants is removed again.

    A thread that stores a file cannot be stopped, so nobody waits for it: whatever it has stored
    after the upload was given up it removes itself.
    """

    def __init__(self, job: Job, wiring: Wiring, *, threads: anyio.CapacityLimiter) -> None:
        self.artifacts: list[Artifact] = []
        self._job = job
        self._wiring = wiring
        self._threads = threads
        self._lock = threading.Lock()
        # Guarded by it.
        self._keys: list[str] = []
        self._given_up = False

    async def store(self, file: RenderedFile) -> None:
        """Add the file to the artifacts. Cancelling this call does not wait for the store."""
        put = partial(self._put, file.path, content_type=file.content_type)
        stored = await to_thread.run_sync(put, abandon_on_cancel=True, limiter=self._threads)
        self.artifacts.append(
            Artifact(
                kind=file.kind,
                key=stored.key,
                uri=stored.uri,
                content_type=file.content_type,
                size_bytes=stored.size_bytes,
                sha256=stored.sha256,
                width=file.width,
                height=file.height,
            )
        )

    async def give_up(self) -> None:
        """The attempt is over and the store has been told: remove what is not the job's result."""
        with self._lock:
            self._given_up = True
            keys = [*self._keys]
        if not keys:
            return
        with anyio.move_on_after(_REMOVAL_SECONDS):
            await to_thread.run_sync(
                self._remove_the_unwanted, keys, abandon_on_cancel=True, limiter=self._threads
            )

    def _put(self, path: Path, *, content_type: str) -> StoredFile:
        key = artifact_key(self._job, prefix=self._wiring.config.artifacts.prefix, name=path.name)
        try:
            return self._wiring.artifacts.put(key, path, content_type=content_type)
        finally:  # A store that fails may have stored it all the same.
            with self._lock:
                self._keys.append(key)
                given_up = self._given_up
            if given_up:
                self._remove_the_unwanted([key])

    def _remove_the_unwanted(self, keys: list[str]) -> None:
        try:
            if self._has_an_heir():
                return
            for key in keys:
                self._wiring.artifacts.delete(key)
        except TransientError as error:
            log.warning("files not removed", job_id=self._job.id, code=error.code)

    def _has_an_heir(self) -> bool:
        """Every attempt stores under the same names: these files may be another one's, too."""
        try:
            job = self._wiring.store.get(self._job.id)
        except JobNotFound:
            return False
        return not job.status.is_terminal or job.status is JobStatus.FINISHED
