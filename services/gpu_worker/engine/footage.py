"""A video file looked into: when its frames are shown, what it is made of, and its pictures.

No torch here.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.codec.context import CodecContext
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from av.video.stream import VideoStream

from services.gpu_worker.backends.backend import Picture
from shared.catalog import Size
from shared.errors import RenderCrashed

_COLORS_UNSPECIFIED = 2
_HD_LINES = 720  # from here on, players take colours that nobody specified for BT.709
_IDR, _NAL_TYPE = 5, 0x1F
_TO_RGB = (
    Interpolation.LANCZOS
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.ACCURATE_RND
    | Interpolation.BITEXACT
)


@dataclass(frozen=True)
class Track:
    """A stream's packets in the order of the file."""

    parameters: tuple[object, ...] = field(repr=False)  # equal: one decoder reads both
    time_base: Fraction
    pts: tuple[int, ...] = field(repr=False)
    durations: tuple[int, ...] = field(repr=False)
    first_dts: int
    plain: bool  # no packet is there only for the sake of others


@dataclass(frozen=True)
class Footage:
    """A video file that can be read."""

    file: Path = field(repr=False)
    size: Size
    video: Track
    audio: Track | None
    begins: Fraction  # the first frame's moment, in seconds of the file
    times: tuple[Fraction, ...] = field(repr=False)  # of each frame, in seconds from the first
    seconds: Fraction  # until the last frame's end
    stands_alone: bool  # its first packet makes a decoder forget what was before

    @property
    def frames(self) -> int:
        return len(self.times)


def look_into(file: Path) -> Footage:
    """Read all packets, decode none. Raises ``RenderCrashed`` for a file that is cut off or none."""
    with readable(), av.open(str(file)) as container:
        video, audio = _streams(container)
        packets = _read_packets(container, video, audio)
        pictures, sounds = packets[video.index], packets[audio.index] if audio else []
        shown = sorted((it.pts, it.duration) for it in pictures if not it.discarded)
        time_base = Fraction(video.time_base or 0)
        times = tuple((pts - shown[0][0]) * time_base for pts, _ in shown)
        return Footage(
            file=file,
            size=Size(video.codec_context.width, video.codec_context.height),
            video=_track(pictures, time_base, _video_parameters(video)),
            audio=_track(sounds, Fraction(audio.time_base or 0), _audio_parameters(audio))
            if audio and sounds
            else None,
            begins=shown[0][0] * time_base,
            times=times,
            seconds=times[-1] + _last_duration(times, shown[-1][1] * time_base),
            stands_alone=pictures[0].is_idr,
        )


def pictures_at(file: Path, wanted: Sequence[int]) -> Iterator[Picture]:
    """The frames of these indices, which never fall but may repeat; one is in memory at a time.

    Raises ``RenderCrashed`` where the file cannot be decoded, or ends before.
    """
    place = 0
    with readable(), av.open(str(file)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for index, frame in enumerate(container.decode(stream)):
            if place == len(wanted):
                return
            if index == wanted[place]:
                picture = _to_rgb(frame)
            while place < len(wanted) and index == wanted[place]:
                place += 1
                yield picture
    if place < len(wanted):
        raise RenderCrashed(_UNREADABLE)


def frame_at(file: Path, index: int) -> Picture:
    """One frame of a video file; -1 is the last. Raises ``RenderCrashed`` where there is none."""
    wanted = index if index >= 0 else look_into(file).frames + index
    (picture,) = pictures_at(file, [wanted])
    return picture


_UNREADABLE = "A rendered file cannot be read."


@contextmanager
def readable() -> Iterator[None]:
    """What goes wrong within is the file's fault, and another attempt may make a better one."""
    try:
        yield
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise RenderCrashed(_UNREADABLE) from error


@dataclass(frozen=True)
class _Read:
    pts: int
    dts: int
    duration: int
    discarded: bool
    is_idr: bool


def _streams(container: InputContainer) -> tuple[VideoStream, AudioStream | None]:
    """The first of each kind."""
    video = container.streams.video[0]
    if not _is_known(video):
        raise RenderCrashed(_UNREADABLE)
    return video, next(filter(_is_known, container.streams.audio), None)


def _is_known(stream: Stream) -> bool:
    """Whether there is a decoder for it: an index that is cut off may not tell of which kind it is."""
    return cast("CodecContext | None", stream.codec_context) is not None


def _read_packets(
    container: InputContainer, video: VideoStream, audio: AudioStream | None
) -> dict[int, list[_Read]]:
    streams = [video] if audio is None else [video, audio]
    packets: dict[int, list[_Read]] = {stream.index: [] for stream in streams}
    for packet in container.demux(*streams):
        if packet.dts is None:
            continue  # the end of a stream
        read = packets[packet.stream_index]
        if packet.is_corrupt or packet.pts is None:
            raise RenderCrashed(_UNREADABLE)
        is_idr = not read and packet.stream_index == video.index and _begins_anew(packet, video)
        discarded = packet.is_discard
        read.append(_Read(packet.pts, packet.dts, packet.duration or 0, discarded, is_idr))
    if any(len(packets[stream.index]) < len(stream.index_entries) for stream in streams):
        # Its index promises more: the file is cut off between two packets.
        raise RenderCrashed(_UNREADABLE)
    return packets


def _begins_anew(packet: "Packet[Stream]", stream: VideoStream) -> bool:
    """Whether the packet holds an IDR picture, in H.264 as MP4 holds it."""
    extradata = stream.codec_context.extradata
    if stream.codec_context.name != "h264" or not extradata or extradata[0] != 1:
        return False
    data, offset, length_bytes = bytes(packet), 0, (extradata[4] & 3) + 1
    while offset + length_bytes < len(data):
        if data[offset + length_bytes] & _NAL_TYPE == _IDR:
            return True
        offset += length_bytes + int.from_bytes(data[offset : offset + length_bytes])
    return False


def _track(packets: list[_Read], time_base: Fraction, parameters: tuple[object, ...]) -> Track:
    return Track(
        parameters=parameters,
        time_base=time_base,
        pts=tuple(it.pts for it in packets),
        durations=tuple(it.duration for it in packets),
        first_dts=packets[0].dts,
        plain=not any(it.discarded for it in packets),
    )


def _video_parameters(stream: VideoStream) -> tuple[object, ...]:
    codec = stream.codec_context
    colors = codec.color_primaries, codec.color_trc, codec.colorspace, codec.color_range
    shape = codec.width, codec.height, codec.pix_fmt, codec.sample_aspect_ratio
    return codec.name, codec.codec_tag, codec.profile, codec.extradata, *shape, *colors


def _audio_parameters(stream: AudioStream) -> tuple[object, ...]:
    codec = stream.codec_context
    return codec.name, codec.profile, codec.extradata, codec.sample_rate, codec.layout.name


def _last_duration(times: tuple[Fraction, ...], told: Fraction) -> Fraction:
    """As the file tells; as long as the others where it does not."""
    if told or len(times) == 1:
        return told
    return times[-1] / (len(times) - 1)


def _to_rgb(frame: av.VideoFrame) -> Picture:
    colors = None
    if frame.colorspace == _COLORS_UNSPECIFIED:
        colors = Colorspace.ITU709 if frame.height >= _HD_LINES else Colorspace.ITU601
    rgb = frame.reformat(
        format="rgb24",
        src_colorspace=colors,
        interpolation=_TO_RGB,
        dst_color_range=ColorRange.JPEG,
        threads=1,  # a frame this small takes longer to share out than to convert
    )
    return np.asarray(rgb.to_ndarray(), np.uint8)
