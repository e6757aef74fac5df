"""Video files whose frames tell their number, and whose sound tells its pitch."""

from fractions import Fraction

import av
import numpy as np

from services.gpu_worker.engine.video import Moment, encode_moments
from shared.catalog import Size

SIZE = Size(64, 32)
FPS = 16
BITS = 8
DARK, LIGHT = 20, 230
RATE = 48_000


def picture(number, size=SIZE):
    """The number as black and white bars, lowest bit left."""
    pixels = np.empty((size.height, size.width, 3), np.uint8)
    for bit, bar in enumerate(np.split(pixels, BITS, axis=1)):
        bar[...] = LIGHT if number >> bit & 1 else DARK
    return pixels


def moving_bar():
    """Seventeen frames of a smooth gradient with a bright bar that moves to the right."""
    height, width = 60, 104
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    clip = np.empty((17, height, width, 3), np.uint8)
    for index, frame in enumerate(clip):
        frame[...] = np.stack([200 * x, 200 * y, np.full_like(x, 90)], axis=-1)
        frame[:, 5 * index : 5 * index + 12] = (250, 220, 40)
    return clip


def film(path, numbers, *, hertz=None, fps=FPS, size=SIZE):
    """One of ours: B-frames, and sound if it has a pitch, with an edit list for both."""
    samples = RATE // fps
    moments = (
        Moment(picture(number, size), _tone(hertz, index * samples, samples) if hertz else None)
        for index, number in enumerate(numbers)
    )
    encode_moments(moments, path, fps=fps, size=size, with_sound=hertz is not None)
    return path


def film_elsewhere(path, numbers, *, fps=FPS, size=SIZE, codec="libx264", options=None, **more):
    """A provider's: by other settings, the colours not named, and other ones for the container."""
    with av.open(str(path), "w", format="mp4", options=more.get("container", {})) as container:
        stream = container.add_stream(codec, rate=fps, options={"crf": "18"} | (options or {}))
        stream.width, stream.height, stream.pix_fmt = size.width, size.height, "yuv420p"
        audio = None
        if more.get("hertz"):
            audio = container.add_stream("aac", rate=more["sample_rate"], layout="mono")
        for index, number in enumerate(numbers):
            frame = av.VideoFrame.from_ndarray(picture(number, size), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio:
            rate = more["sample_rate"]
            wave = _tone(more["hertz"], 0, rate * len(numbers) // fps, rate)[:1]
            sound = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = rate, 0, Fraction(1, rate)
            container.mux(audio.encode(sound))
            container.mux(audio.encode(None))
    return path


def frames(path):
    """What a player shows, as it comes from the decoder."""
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def number(frame):
    bars = np.split(frame.to_ndarray(format="gray").astype(float), BITS, axis=1)
    middles = [bar[:, bar.shape[1] // 4 : -bar.shape[1] // 4].mean() for bar in bars]
    return sum(1 << bit for bit, middle in enumerate(middles) if middle > (DARK + LIGHT) / 2)


def numbers(path):
    return [number(frame) for frame in frames(path)]


def seconds(path, kind):
    """How long the file says that its "video" or "audio" is."""
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return float(stream.duration * stream.time_base)


def wave(path):
    """The first channel, from the moment on when the first frame is shown."""
    with av.open(str(path)) as container:
        decoded = list(container.decode(audio=0))
        assert decoded[0].pts == 0
        return np.concatenate([frame.to_ndarray()[0] for frame in decoded])


def pitch(samples, rate=RATE):
    """The loudest tone, in hertz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return np.fft.rfftfreq(len(samples), 1 / rate)[spectrum.argmax()]


def loudness(samples):
    return float(np.sqrt((samples.astype(float) ** 2).mean()))


def _tone(hertz, start, samples, rate=RATE):
    moments = np.arange(start, start + samples) / rate
    one = (0.3 * np.sin(2 * np.pi * hertz * moments)).astype(np.float32)
    return np.stack([one, one])
