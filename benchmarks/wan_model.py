"""What a clip of Wan 2.1 T2V 1.3B must take: counted from its geometry, never measured.

Arithmetic and memory traffic are counted, the device's rates are its maker's, and which part of them
is reached is assumed: a range, not a figure. Whatever comes out of here is a prediction.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from wan_geometry import WAN_1_3B, Geometry

from shared.catalog import Preset

_TERA = 1e12
_READ_TOKENS = 512  # what the transformer attends to of a prompt, in half precision

# Counted by torch's FlopCounterMode, and the bytes that each operation reads and writes added up, for
# the decoding of 81 frames of 832x480 by this engine's own modules, uncompiled. diffusers' decoder:
# 275 TFLOP and 3504 GB.
_FULL_DECODE_TFLOP, _FULL_DECODE_GB = 262.8, 2112.0  # in float32, as the authors decode
_TINY_DECODE_TFLOP, _TINY_DECODE_GB = 11.1, 85.0  # in float16

# The text encoder's weights without its table of words, which is not read but looked up: every prompt
# reads them once, for a few tokens.
_TEXT_ENCODER_GB = 9.26

# Measured on a CPU, at 832x480 and veryfast; it is a CPU's work on a GPU machine, too.
ENCODE_SECONDS = 0.73


@dataclass(frozen=True)
class Device:
    """Dense rates as the maker publishes them, and what part of them is assumed to be reached."""

    name: str
    half_tflops: float  # a second, in bfloat16 and float16, added up in float32
    tf32_tflops: float  # what torch runs float32 convolutions in
    memory_gb: float  # a second
    # Low to high. What published renders of this model come to is in PUBLISHED.
    efficiency: tuple[float, float] = (0.4, 0.6)
    memory_share: tuple[float, float] = (0.8, 1.0)


L4 = Device("NVIDIA L4", half_tflops=121.0, tf32_tflops=60.5, memory_gb=300.0)


@dataclass(frozen=True)
class Published:
    """Somebody else's figure for 81 frames of 832x480 by the 1.3B model."""

    by: str
    device: str
    forwards: int
    seconds: float
    what: str
    half_tflops: float  # of the device: its maker's dense figure, or measured where it says so


PUBLISHED = (
    Published("Wan's authors", "RTX 4090", 100, 261.0, "whole clip", 165.2),
    Published("LightX2V", "H100", 100, 52.0, "whole clip", 989.0),
    Published("FastVideo", "H200", 100, 95.0, "denoising", 989.0),
    Published("FastVideo, distilled", "H200", 3, 2.9, "denoising", 989.0),
    Published("FastVideo, distilled, compiled", "H200", 3, 1.5, "denoising", 989.0),
)


@dataclass(frozen=True)
class Range:
    """Seconds, from what is hoped for to what is feared."""

    low: float
    high: float

    def __add__(self, other: "Range") -> "Range":
        return Range(self.low + other.low, self.high + other.high)

    def times(self, factor: float) -> "Range":
        return Range(self.low * factor, self.high * factor)

    def __str__(self) -> str:
        return f"{_short(self.low)} to {_short(self.high)}"

    def rounded(self, digits: int = 2) -> list[float]:
        return [round(self.low, digits), round(self.high, digits)]


def tokens(geometry: Geometry) -> int:
    """Of a video: 4 frames and 8x8 pixels a latent, 2x2 latents a token."""
    latent_frames = (geometry.frames - 1) // 4 + 1
    return latent_frames * (geometry.size.height // 16) * (geometry.size.width // 16)


def forward_tflop(geometry: Geometry = WAN_1_3B) -> float:
    """One pass of the transformer for one prompt; two operations a multiplication with its sum."""
    count, width = tokens(geometry), geometry.width
    attention = 4 * count * count * width + 4 * count * _READ_TOKENS * width
    # Query, key, value and output of the one attention, query and output of the other; feed-forward.
    products = 2 * count * (6 * width * width + 2 * width * geometry.transformer["ffn_dim"])
    layers: int = geometry.transformer["num_layers"]
    return layers * (attention + products) / _TERA


def denoise_seconds(forwards: int, device: Device = L4) -> Range:
    """Memory traffic is in the efficiency: so it is in the published times that it is taken from."""
    return _range(forwards * forward_tflop(), device.half_tflops, device)


def decode_seconds(decoder: str, device: Device = L4) -> Range:
    if decoder == "tiny":
        arithmetic = _range(_TINY_DECODE_TFLOP, device.half_tflops, device)
        return arithmetic + _traffic(_TINY_DECODE_GB, device)
    arithmetic = _range(_FULL_DECODE_TFLOP, device.tf32_tflops, device)
    return arithmetic + _traffic(_FULL_DECODE_GB, device)


def text_seconds(device: Device = L4) -> Range:
    """One prompt: the weights are read once. The negative prompt's embedding is remembered."""
    return _traffic(_TEXT_ENCODER_GB, device)


def predict(preset: Preset, device: Device = L4) -> Mapping[str, Range]:
    """Seconds a stage of one clip, on a worker that is ready."""
    return MappingProxyType(
        {
            "text": text_seconds(device),
            "denoise": denoise_seconds(preset.forwards, device),
            "decode": decode_seconds(preset.decoder, device),
            "encode": Range(ENCODE_SECONDS, ENCODE_SECONDS),
        }
    )


def total(stages: Mapping[str, Range]) -> Range:
    return sum(stages.values(), Range(0.0, 0.0))


def bars(presets: Mapping[str, Preset]) -> dict[str, dict[str, dict[str, float]]]:
    """For a picture: each preset as it is hoped for, and as it is feared."""
    found = {}
    for name, preset in presets.items():
        stages = predict(preset)
        found[name] = {
            "hoped": {stage: seconds.low for stage, seconds in stages.items()},
            "feared": {stage: seconds.high for stage, seconds in stages.items()},
        }
    return found


def _short(seconds: float) -> str:
    """Two digits or three: more would claim more than is known."""
    digits = 0 if seconds >= 10 else 1 if seconds >= 1 else 2  # noqa: PLR2004 - powers of ten
    return f"{seconds:.{digits}f}"


def _range(tflop: float, tflops: float, device: Device) -> Range:
    worst, best = device.efficiency
    return Range(tflop / (tflops * best), tflop / (tflops * worst))


def _traffic(gigabytes: float, device: Device) -> Range:
    worst, best = device.memory_share
    return Range(gigabytes / (device.memory_gb * best), gigabytes / (device.memory_gb * worst))
