"""A video in the making with models that render at once, as its tests use it."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from services.emulators.vertex import API_KEY
from services.gpu_worker.backends.backend import Abilities, Clip
from services.gpu_worker.pipeline.run import begin
from services.gpu_worker.pipeline.studio import Studio
from services.gpu_worker.protocol import Load, Render
from shared.catalog import Size
from shared.config_sections import Vertex
from tests.unit import films

PROMPT = "an elephant with a secret"
# Three sentences, each with a number that a counting model draws.
STORY = "A park 10. A dog 40. A cat 70."
NOBODY = Load(model="wan2.1-demo", model_dir="nowhere", device="cpu", dtype="auto")


class FakeModel:
    """Renders grey frames that get brighter, and tells the watcher what a real model would."""

    device = "cpu"

    def __init__(self, abilities=None):
        self.abilities = abilities or Abilities(first_frame=True, last_frame=True, stills=True)
        self.segments = []
        self.decoded = []
        self.steps_begun = 0

    def generate(self, segment, watcher):
        self.segments.append(segment)
        watcher.text_encoded()
        for step in range(1, segment.steps + 1):
            self.steps_begun += 1
            watcher.step_done(step, segment.steps)
        return FakeLatents(segment, self)


class FakeLatents:
    def __init__(self, segment, model):
        self._segment = segment
        self._model = model

    def decode(self, watcher):
        self._model.decoded.append(self._segment)
        for fraction in (0.5, 1.0):
            watcher.decoded(fraction)
        segment = self._segment
        shades = np.linspace(0, 255, segment.frames).astype(np.uint8)
        shape = (segment.frames, segment.size.height, segment.size.width, 3)
        return np.broadcast_to(shades[:, None, None, None], shape).copy()


class CountingModel(FakeModel):
    """Its frames tell their numbers, on from its first frame's: what is lost or doubled is seen.

    Without a first frame it counts from 0; a single frame tells the last number of its prompt.
    """

    def generate(self, segment, watcher):
        super().generate(segment, watcher)
        return CountingLatents(segment, self)


class CountingLatents(FakeLatents):
    def decode(self, watcher):
        super().decode(watcher)
        segment = self._segment
        numbers = counted(segment, segment.frames)
        if segment.frames == 1:
            numbers = [int(re.findall(r"\d+", segment.prompt)[-1])]
        if segment.last_frame is not None:
            numbers[-1] = number_of(segment.last_frame)
        return np.stack([films.picture(number, segment.size) for number in numbers])


class FilmingModel:
    """Counts like the other one, in clips of its own length and size, 24 frames a second."""

    device = "elsewhere"

    def __init__(self, *, frames, size=None, **abilities):
        self.abilities = Abilities(first_frame=True, needs_device=False, **abilities)
        self.segments = []
        self._frames = frames
        self._size = size or Size(96, 48)

    def generate(self, segment, watcher):
        self.segments.append(segment)
        watcher.still_waiting()
        with TemporaryDirectory() as folder:
            file = Path(folder) / "clip.mp4"
            numbers = counted(segment, self._frames)
            films.film_elsewhere(file, numbers, fps=24, size=self._size)
            return Clip(file.read_bytes())


def counted(segment, frames):
    start = 0 if segment.first_frame is None else number_of(segment.first_frame)
    return [(start + index) % 2**films.BITS for index in range(frames)]


def number_of(picture):
    """What a counting model has drawn, or a player shows."""
    bars = np.split(picture.mean(axis=2), films.BITS, axis=1)
    bright = [bar.mean() > (films.DARK + films.LIGHT) / 2 for bar in bars]
    return sum(1 << bit for bit, is_bright in enumerate(bright) if is_bright)


class Notebook:
    """A watcher that writes everything down, and wants no more at a given moment."""

    def __init__(self, *, cancel_at=None):
        self.reports = []
        self.lines = []
        self.parts = []
        self._cancel_at = cancel_at

    def progress(self, phase, fraction, *, step=None, steps=None):
        self.reports.append((phase, fraction, step, steps))

    def log(self, text):
        self.lines.append(text)

    def part_made(self, name):
        self.parts.append(name)

    def cancel_requested(self):
        return self._cancel_at is not None and self.reports[-1:] == [self._cancel_at]


class Impatient(Notebook):
    """Wants no more soon after it has been asked for patience."""

    def __init__(self):
        super().__init__()
        self.looks_since = 0

    def cancel_requested(self):
        self.looks_since += any("Asking again" in line for line in self.lines)
        return self.looks_since > 2


def first_half(command, model, watcher, *, order=NOBODY, **options):
    return begin(command, model, Studio(order), watcher, **options)


def run(command, model, watcher, **options):
    """Both halves of a render, one after the other."""
    return first_half(command, model, watcher, **options).finish()


def video_of(rendered):
    return next(file.path for file in rendered.files if file.kind == "video")


def vertex_asked_at(server, folder, **change):
    """How our own Vertex AI is asked, without waiting between polls."""
    key_file = folder / "api.key"
    key_file.write_text(API_KEY)
    section = {"api_key_file": key_file, "base_url": server.url, "poll_seconds": 0.05}
    return Vertex.model_validate(section | change)


def staffed(section, **who):
    """An order to load a model that has Gemini beside it."""
    return NOBODY.model_copy(update={"vertex": section} | who)


def ordered(folder, **said):
    """A small video."""
    order = {
        "job_id": "job-1",
        "prompt": PROMPT,
        "negative_prompt": "no tigers",
        "seed": 3,
        "frames": 9,
        "fps": 16,
        "native_width": 32,
        "native_height": 16,
        "output_width": 64,
        "output_height": 32,
        "steps": 3,
        "guidance_scale": 5.0,
        "flow_shift": 3.0,
        "work_dir": folder,
    }
    return Render(**order | said)


def ordered_long(folder, **said):
    """A small video of three segments, chained if nothing else is said."""
    order = {"mode": "chaining", "segments": 3, "prompt": STORY, "frames": 5, "steps": 2}
    return ordered(folder, **order | said)
