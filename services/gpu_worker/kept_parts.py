"""What is done of an unfinished job, kept in the artifact store for whoever has to go on with it."""

import re
from collections import deque
from functools import partial
from pathlib import Path

import anyio
import structlog
from anyio import to_thread

from services.gpu_worker.orders import first_frame_in
from services.gpu_worker.port_calls import call_port
from services.gpu_worker.protocol import PART_NAME
from shared.catalog import TOPIC_REMOTE, find_model
from shared.errors import ArtifactStoreUnavailable, TransientError
from shared.job import Job, artifact_folder, parts_folder
from shared.wiring import Wiring

_CONTENT_TYPES = {
    ".json": "application/json",
    ".mp4": "video/mp4",
    ".png": "image/png",
    ".txt": "text/plain",
}
# How long the next job waits for a slow store to remove them.
_REMOVAL_SECONDS = 2.0

log = structlog.get_logger("promptreel.parts")


class KeptParts:
    """One attempt's: fetched before it renders, stored as they are made, removed when nobody needs them.

    Where the artifact store does not take one, the next attempt makes it again; that is all.
    """

    def __init__(
        self, job: Job, wiring: Wiring, folder: Path, *, threads: anyio.CapacityLimiter
    ) -> None:
        prefix = wiring.config.artifacts.prefix
        self._job = job
        self._artifacts = wiring.artifacts
        self._folder = folder
        self._threads = threads
        self._mine = parts_folder(job, prefix=prefix)
        # Those of a model that has tried before, too.
        self._all = f"{artifact_folder(job, prefix=prefix)}/parts"
        self._made: deque[str] = deque()
        self._news = anyio.Event()
        self._unwanted = False
        self.stored = 0

    @property
    def may_be_there(self) -> bool:
        """A clip that is rendered here in one go has none."""
        request = self._job.render
        return request.segments > 1 or find_model(request.model).topic == TOPIC_REMOTE

    async def fetch(self) -> int:
        """Bring what an earlier attempt has stored into the folder; return how much that is.

        And the picture that the video begins with, if it does. Raises ``TransientError``.
        """
        if self._job.input_keys:
            await to_thread.run_sync(self._fetch_picture, limiter=self._threads)
        if not self.may_be_there:
            return 0
        return await to_thread.run_sync(self._fetch_all, limiter=self._threads)

    def made(self, name: str) -> None:
        """It is whole in the folder: to be stored when its turn comes."""
        self._made.append(name)
        self._news.set()

    async def store(self) -> None:
        """One after the other, until cancelled, which does not wait for the store."""
        while True:
            while not self._made:
                self._news = anyio.Event()
                await self._news.wait()
            put = partial(self._put, self._made.popleft())
            await to_thread.run_sync(put, abandon_on_cancel=True, limiter=self._threads)

    async def remove(self) -> None:
        """The job has ended. What a slow store does not remove in time, the retention of the job does."""
        if not self.may_be_there and not self._job.input_keys:
            return
        self._unwanted = True
        with anyio.move_on_after(_REMOVAL_SECONDS):
            try:
                await call_port(partial(self._artifacts.delete_all, self._all))
            except TransientError as error:
                log.warning("parts not removed", job_id=self._job.id, code=error.code)

    def _fetch_all(self) -> int:
        found = 0
        for key in self._artifacts.keys(self._mine):
            name = key.removeprefix(f"{self._mine}/")
            if re.fullmatch(PART_NAME, name):
                target = self._folder / name
                target.parent.mkdir(exist_ok=True)
                found += self._artifacts.fetch(key, target)
        return found

    def _fetch_picture(self) -> None:
        target = first_frame_in(self._folder, self._job.render)
        for key in self._job.input_keys:
            if target is not None and not self._artifacts.fetch(key, target):
                raise ArtifactStoreUnavailable("The picture that it begins with is not there.")

    def _put(self, name: str) -> None:
        path, key = self._folder / name, f"{self._mine}/{name}"
        try:
            self._artifacts.put(key, path, content_type=_CONTENT_TYPES[path.suffix])
            self.stored += 1
            if self._unwanted:  # since it began to be stored
                self._artifacts.delete(key)
        except TransientError as error:
            log.warning("part not stored", job_id=self._job.id, part=name, code=error.code)
