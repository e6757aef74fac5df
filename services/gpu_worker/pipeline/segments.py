"""Stage 3, generation: every segment of the plan becomes a file."""

from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from services.gpu_worker.backends.backend import Clip, Latents, Picture
from services.gpu_worker.engine.footage import look_into
from services.gpu_worker.engine.joining import Piece, last_shown
from services.gpu_worker.engine.pictures import fit, read_picture, save_picture
from services.gpu_worker.engine.video import encode_video
from services.gpu_worker.pipeline import parts
from services.gpu_worker.pipeline.plan import Plan
from services.gpu_worker.pipeline.production import Production
from services.gpu_worker.pipeline.segment_watch import Abandoned, GenerationBar, SegmentWatch
from shared.complete_file import complete_or_absent


class Generation:
    """Makes what is not there yet, in two halves.

    After the first one only the last segment is left in latents: its decoding leaves the device to the next
    video. Segments that do not depend on each other are made side by side where the model can.
    """

    def __init__(self, plan: Plan, production: Production) -> None:
        self._plan = plan
        self._production = production
        self._command = production.command
        self._model = production.model
        self._found = production.found
        self._count = len(plan.shots)
        self._bar = GenerationBar(production.watcher, segments=self._count)
        self._undecoded: tuple[Latents, SegmentWatch] | None = None

    def begin(self) -> None:
        """The first half. Raises ``RenderCanceled`` and what the model raises."""
        side_by_side = min(self._model.abilities.segments_at_once, self._count)
        if self._plan.mode == "chaining" or side_by_side == 1:
            for number in range(1, self._count + 1):
                self._make(number)
        else:
            self._make_all(side_by_side)

    def finish(self) -> tuple[Piece, ...]:
        """The second half: every segment's file. To be called once."""
        if self._undecoded is not None:
            (latents, watch), self._undecoded = self._undecoded, None
            watch.resumed()
            self._encode(self._count, latents, watch)
        return tuple(self._piece(number) for number in range(1, self._count + 1))

    def _make_all(self, side_by_side: int) -> None:
        with ThreadPoolExecutor(side_by_side, thread_name_prefix="segment") as threads:
            numbers = range(1, self._count + 1)
            made = [threads.submit(self._make_or_abandon, number) for number in numbers]
            _, unfinished = wait(made, return_when=FIRST_EXCEPTION)
            for each in unfinished:
                each.cancel()
        failures = [each.exception() for each in made if not each.cancelled()]
        reasons = [failure for failure in failures if failure is not None]
        for reason in sorted(reasons, key=lambda reason: isinstance(reason, Abandoned)):
            raise reason

    def _make_or_abandon(self, number: int) -> None:
        try:
            self._make(number)
        except BaseException:
            # Here, before this thread takes up another one.
            self._bar.abandon()
            raise

    def _make(self, number: int) -> None:
        watch = SegmentWatch(number, self._count, self._bar, self._production)
        if self._is_made(number):
            watch.note("already there, not made again")
            watch.done()
            return
        if number > 1:
            self._bar.look()
        shot = self._plan.shots[number - 1]
        segment = self._production.segment(
            shot.prompt,
            seed=shot.seed,
            frames=self._command.frames,
            first_frame=self._first_frame(number),
            last_frame=self._last_frame(number),
        )
        made = self._model.generate(segment, watch)
        if isinstance(made, Clip):
            self._keep(number, made)
            watch.done()
        elif number == self._count:
            self._undecoded = made, watch
        else:
            self._encode(number, made, watch)

    def _keep(self, number: int, clip: Clip) -> None:
        name = parts.clip(number)
        with complete_or_absent(self._found.path(name)) as file:
            file.write_bytes(clip.content)
            # One that is cut off would be found again by every attempt, and fail each.
            look_into(file)
        # Of a single clip too: it is paid for.
        self._found.made(name, always=True)

    def _encode(self, number: int, latents: Latents, watch: SegmentWatch) -> None:
        command = self._command
        frames = latents.decode(watch)
        if self._plan.mode == "chaining" and number < self._count:
            name = parts.last_frame(number)
            save_picture(frames[-1], self._found.path(name))
            self._found.made(name)
        # Already without what repeats the end of the one before: then joining is mere copying.
        shown = frames[self._repeated(number) :]
        encode_video(
            shown,
            self._found.path(parts.segment(number)),
            fps=command.fps,
            size=self._production.output_size,
            on_frame=lambda done: watch.encoded(done, len(shown)),
        )
        self._found.made(parts.segment(number))
        watch.done()

    def _is_made(self, number: int) -> bool:
        if self._found.has(parts.clip(number)):
            return True
        # Without the picture it ended with, the next one could not go on.
        goes_on = self._plan.mode == "chaining" and number < self._count
        return self._found.has(parts.segment(number)) and (
            not goes_on or self._found.has(parts.last_frame(number))
        )

    def _piece(self, number: int) -> Piece:
        if not self._found.has(parts.clip(number)):
            return Piece(self._found.path(parts.segment(number)))
        clip = self._found.path(parts.clip(number))
        # One that ends on a keyframe is shown to its end, however long its maker has made it.
        ends_there = self._meets_keyframes and self._found.has(parts.keyframe(number + 1))
        frames = None if ends_there else self._command.frames
        return Piece(clip, skip=self._repeated(number), frames=frames)

    def _first_frame(self, number: int) -> Picture | None:
        if self._plan.mode == "keyframe":
            return read_picture(self._found.path(parts.keyframe(number)))
        if number == 1:
            return self._given_frame()
        if not self._found.has(parts.clip(number - 1)):
            return read_picture(self._found.path(parts.last_frame(number - 1)))
        return last_shown(self._piece(number - 1), fps=self._command.fps)

    def _given_frame(self) -> Picture | None:
        given = self._command.first_frame
        return None if given is None else fit(read_picture(given), self._production.native_size)

    def _last_frame(self, number: int) -> Picture | None:
        if not self._meets_keyframes or not self._found.has(parts.keyframe(number + 1)):
            return None
        return read_picture(self._found.path(parts.keyframe(number + 1)))

    def _repeated(self, number: int) -> int:
        """Frames at a segment's beginning that show again how the one before ended."""
        return int(number > 1 and (self._plan.mode == "chaining" or self._meets_keyframes))

    @property
    def _meets_keyframes(self) -> bool:
        """Each segment ends with the keyframe that the next one begins with."""
        return self._plan.mode == "keyframe" and self._model.abilities.last_frame
