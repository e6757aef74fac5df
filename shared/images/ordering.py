"""What a provider is sent for a job: the words, the pictures, and where to say how it goes."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from shared.config import Config
from shared.images.prompts import compose
from shared.images.provider import InputPicture, Order
from shared.images.transitions import remote_of
from shared.job import ImageRequest, Job
from shared.ports import ArtifactStore
from shared.starting_pictures import keep
from shared.submission import StartingPicture


@dataclass(frozen=True, kw_only=True)
class Ordering:
    config: Config
    artifacts: ArtifactStore
    now: Callable[[], datetime]

    def order_for(self, job: Job, pictures: tuple[StartingPicture, ...]) -> Order:
        """With its pictures stored and linked for a while. Raises ``ArtifactStoreUnavailable``."""
        request = job.request
        if not isinstance(request, ImageRequest):
            raise AssertionError("no provider makes a video")  # noqa: TRY004 - a bug of ours
        return Order(
            model=request.model,
            prompt=compose(request.prompt, request.mode),
            aspect_ratio=request.aspect_ratio,
            inputs=tuple(
                self._input(file.key, picture)
                for file, picture in zip(request.inputs, pictures, strict=True)
            ),
            # It names the job: a provider may be heard before its answer to the order has arrived.
            webhook_url=self._absolute(f"/api/v1/webhooks/{remote_of(job).provider}?job={job.id}"),
        )

    def _input(self, key: str, picture: StartingPicture) -> InputPicture:
        keep(picture, key, self.artifacts)
        lifetime = self.config.images.input_link_seconds
        link = self.artifacts.link(key, expires_in_seconds=lifetime, now=self.now())
        return InputPicture(
            content=picture.content,
            content_type=picture.content_type,
            url=self._absolute(link.url),
        )

    def _absolute(self, url: str) -> str | None:
        """None where nobody outside could follow it: pictures are sent then, and answers asked for."""
        if not url.startswith("/"):
            return url
        base = self.config.server.public_url
        return None if base is None else base.rstrip("/") + url
