"""Video files joined without touching a pixel: their packets are copied. No torch here."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from services.gpu_worker.engine.footage import Footage, Track, readable
from services.gpu_worker.engine.video import CONTAINER_OPTIONS
from shared.catalog import Size
from shared.complete_file import complete_or_absent

# Of a frame's time: so far from its place may a frame be, for files that count in milliseconds.
ON_TIME = Fraction(1, 20)


@dataclass(frozen=True)
class Splice:
    """Which of a file's sound packets are copied, and what is added to their time, in ticks."""

    packets: range
    shift: int
    ends: int  # where the joined video ends: the last packet may be shorter


@dataclass(frozen=True)
class Remux:
    """How files become one, found by ``plan_remux``."""

    footages: tuple[Footage, ...]
    fps: int
    splices: tuple[Splice, ...]  # one a file; none: the joined video is silent


def plan_remux(footages: Sequence[Footage], *, fps: int, size: Size) -> Remux | None:
    """None where copying would show other frames, or at other times, or would lose sound."""
    first = footages[0]
    fits = all(
        footage.video.parameters == first.video.parameters
        and footage.size == size
        and footage.stands_alone
        and footage.video.plain
        and _is_even(footage, fps)
        for footage in footages
    )
    if not fits:
        return None
    tracks = [footage.audio for footage in footages if footage.audio]
    if len(tracks) < len(footages):
        return Remux(tuple(footages), fps, splices=())
    splices = _splice(footages, tracks, fps)
    return Remux(tuple(footages), fps, splices) if splices else None


def remux(plan: Remux, target: Path, on_frame: Callable[[int], None]) -> None:
    """Write the MP4, index first; ``on_frame`` gets the number of frames copied so far.

    Raises ``RenderCrashed`` for a file that cannot be read, and leaves nothing behind.
    """
    with (
        complete_or_absent(target) as partial,
        av.open(str(partial), "w", format="mp4", options=CONTAINER_OPTIONS) as container,
    ):
        outputs = _add_streams(container, plan)
        done = 0
        for packet in _moved_packets(plan):
            is_picture = packet.stream.type == "video"
            packet.stream = outputs["video" if is_picture else "audio"]
            container.mux(packet)
            if is_picture:
                done += 1
                on_frame(done)


def _is_even(footage: Footage, fps: int) -> bool:
    return all(abs(time * fps - index) < ON_TIME for index, time in enumerate(footage.times))


def _splice(footages: Sequence[Footage], tracks: list[Track], fps: int) -> tuple[Splice, ...]:
    """One unbroken row of sound packets, in which each file begins within half a packet of its time.

    Empty where there is none: sound in packets of another kind, or too short for its pictures.
    """
    tick, length = tracks[0].time_base, tracks[0].durations[0]
    if any(it.parameters != tracks[0].parameters or not _is_row(it, length) for it in tracks):
        return ()
    starts = [0]
    for footage in footages:
        starts.append(starts[-1] + footage.frames)
    starts = [round(frames / fps / tick) for frames in map(Fraction, starts)]
    splices: list[Splice] = []
    free = None  # where the next packet goes: after the last one
    for footage, track, (start, end) in zip(footages, tracks, pairwise(starts), strict=True):
        shift = start - round(footage.begins / tick)
        places = [pts + shift for pts in track.pts]
        free = places[0] if free is None else free
        first = next((i for i, place in enumerate(places) if place * 2 > free * 2 - length), None)
        if first is None or places[first] * 2 > free * 2 + length:
            return ()
        shift += free - places[first]
        count = min(len(places) - first, max(0, (2 * (end - free) + length) // (2 * length)))
        splices.append(Splice(range(first, first + count), shift, starts[-1]))
        free += count * length
    return tuple(splices)


def _is_row(track: Track, length: int) -> bool:
    gaps = (after - before for before, after in pairwise(track.pts))
    return track.parameters[0] == "aac" and length > 0 and all(gap == length for gap in gaps)


def _add_streams(container: OutputContainer, plan: Remux) -> dict[str, Stream]:
    with ExitStack() as stack:
        with readable():
            template = stack.enter_context(av.open(str(plan.footages[0].file)))
        video = container.add_stream_from_template(template.streams.video[0], opaque=True)
        video.time_base = Fraction(1, plan.fps)
        outputs: dict[str, Stream] = {"video": video}
        if plan.splices:
            audio = container.add_stream_from_template(template.streams.audio[0])
            outputs["audio"] = audio
        return outputs


def _moved_packets(plan: Remux) -> "Iterator[Packet[Stream]]":
    """What is copied, at its time in the joined video, each file's packets in their order."""
    delay = max(_delay(footage, plan.fps) for footage in plan.footages)
    start = 0
    for place, footage in enumerate(plan.footages):
        splice = plan.splices[place] if plan.splices else None
        ranks = {pts: rank for rank, pts in enumerate(sorted(footage.video.pts))}
        pictures, sounds = 0, 0
        with readable(), av.open(str(footage.file)) as container:
            streams = container.streams.video[:1] + container.streams.audio[: 1 if splice else 0]
            for packet in container.demux(*streams):
                if packet.dts is None or packet.pts is None:
                    continue  # the end of a stream
                if packet.stream.type == "video":
                    # Decoded one after the other, whatever the file said: so none is ever late.
                    packet.pts, packet.dts = start + ranks[packet.pts], start + pictures - delay
                    packet.duration, packet.time_base = 1, Fraction(1, plan.fps)
                    pictures += 1
                    yield packet
                elif splice:
                    if sounds in splice.packets:
                        packet.pts = packet.dts = packet.pts + splice.shift
                        packet.duration = min(packet.duration or 0, splice.ends - packet.pts)
                        yield packet
                    sounds += 1
        start += footage.frames


def _delay(footage: Footage, fps: int) -> int:
    """How many frames a decoder is ahead of what it shows: as the file has it, at least as it must."""
    track = footage.video
    ranks = {pts: rank for rank, pts in enumerate(sorted(track.pts))}
    needed = max(decoded - ranks[pts] for decoded, pts in enumerate(track.pts))
    told = round((footage.begins - track.first_dts * track.time_base) * fps)
    return max(needed, told)
