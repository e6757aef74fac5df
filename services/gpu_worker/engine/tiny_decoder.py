"""Latents to frames by a small network: the decoder of TAEHV (github.com/madebyollin/taehv).

Some 1/25 of the arithmetic of Wan's own decoder, a little less sharp. It reads latents as the
transformer gives them, without the mean and spread that Wan's own decoder wants put back. The names
of the modules are those of the weight file ``taew2_1``.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - as everybody writes it
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from services.gpu_worker.backends.backend import Frames
from shared.errors import ModelUnavailable

_COLORS = 3
_STRIDES = (1, 2, 2)  # how many frames each stage makes of one
_FIRST_FRAMES_DROPPED = 3  # a first latent frame is one frame; what is made before it is not shown
_CLAMP = 3.0

# Where the layers that tell the widths are in the file: the first convolution and the stages' last.
_WIDTH_KEYS = [f"decoder.{index}.weight" for index in (1, 8, 14, 20)]
_GROW_KEYS = [f"decoder.{index}.conv.weight" for index in (7, 13, 19)]

_HOW_TO_GET = (
    "For Wan 2.1 it is taew2_1.safetensors from https://github.com/madebyollin/taehv; "
    "models.<name>.tiny_decoder in the configuration says where it is."
)

_PIECE_LATENT_PIXELS = 8192  # what one pass decodes: a frame of 832x480, several of smaller videos


class TinyDecoder(nn.Module):
    """The video is never whole in floats: each piece is bytes before the next one is begun."""

    def __init__(self, latent_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.latent_channels = latent_channels
        layers: list[nn.Module] = [_Clamp(), _conv(latent_channels, widths[0]), nn.ReLU()]
        for width, next_width, stride in zip(widths, widths[1:], _STRIDES, strict=False):
            layers += [_MemBlock(width) for _ in range(3)]
            # The file counts the enlargement as a layer of its own, before the growth in time.
            layers += [nn.Identity(), _Grow(width, stride), _conv(width, next_width, bias=False)]
        layers += [nn.ReLU(), _conv(widths[-1], _COLORS)]
        self.decoder = nn.ModuleList(layers)

    def decode(self, latents: Tensor, report: Callable[[float], None]) -> Frames:
        """(frames, height, width, 3) from (1, channels, latent frames, latent height, width).

        ``report`` is told the part that is done, up to 1; what it raises stops the decoding.
        """
        pictures = latents[0].transpose(0, 1).to(next(self.parameters()))
        frames, _, height, width = pictures.shape
        past: _Past = {}
        pieces, done = [], 0
        for piece in torch.split(pictures, max(1, _PIECE_LATENT_PIXELS // (height * width))):
            shown = self(piece.contiguous(memory_format=torch.channels_last), past)
            if not done:
                shown = shown[_FIRST_FRAMES_DROPPED:]
            pieces.append(_to_bytes(shown).cpu().numpy())
            done += len(piece)
            report(done / frames)
        return np.concatenate(pieces)

    def forward(self, pictures: Tensor, past: "_Past") -> Tensor:
        """(4 x frames, 3, 8 x height, 8 x width), colours around 0 to 1, from (frames, channels, …)."""
        for layer in self.decoder:
            pictures = layer(pictures, past) if isinstance(layer, _MemBlock) else layer(pictures)
        return pictures


def load_tiny_decoder(file: Path, *, device: torch.device, latent_channels: int) -> TinyDecoder:
    """From a ``.safetensors`` or a ``.pth`` file, of which only the decoder's half is kept.

    Raises ``ModelUnavailable`` when it cannot be read, or has other layers or latents. Hunyuan's file
    has the same shapes as Wan 2.1's: that one cannot be told apart.
    """
    weights = {name: tensor for name, tensor in _read(file).items() if name.startswith("decoder.")}
    try:
        decoder = _assemble(weights)
    except (KeyError, IndexError, RuntimeError) as error:
        raise ModelUnavailable(
            f"The tiny decoder {file.name} is another model's. {_HOW_TO_GET}"
        ) from error
    if decoder.latent_channels != latent_channels:
        raise ModelUnavailable(
            f"The tiny decoder {file.name} reads latents of {decoder.latent_channels} channels, and "
            f"the model makes {latent_channels}. {_HOW_TO_GET}"
        )
    # Half precision as its authors use it; a CPU has no fast way with it.
    decoder.to(device, torch.float16 if device.type == "cuda" else torch.float32)
    decoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch documents it
    return decoder.eval()


def _assemble(weights: dict[str, Tensor]) -> TinyDecoder:
    """As large as the weights say. Raises ``KeyError`` and others where they do not fit together."""
    widths = [len(weights[key]) for key in _WIDTH_KEYS]
    for key, width, stride in zip(_GROW_KEYS, widths, _STRIDES, strict=False):
        # A file may grow by more frames than are wanted: the last ones are the right ones.
        weights[key] = weights[key][-width * stride :]
    with torch.device("meta"):
        decoder = TinyDecoder(weights[_WIDTH_KEYS[0]].shape[1], widths)
    # Copied: the file's own memory may be a mapping of the file.
    decoder.load_state_dict({name: weight.clone() for name, weight in weights.items()}, assign=True)
    return decoder


def _read(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        weights: object = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError, UnpicklingError) as error:
        raise ModelUnavailable(
            f"The tiny decoder {file.name} cannot be read. {_HOW_TO_GET}"
        ) from error
    return weights if isinstance(weights, dict) else {}


class _Clamp(nn.Module):
    def forward(self, pictures: Tensor) -> Tensor:
        return (pictures / _CLAMP).tanh_().mul_(_CLAMP)


class _MemBlock(nn.Module):
    """Sees each picture beside the one before it; before the first there is nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            *(_conv(2 * width, width), nn.ReLU(inplace=True)),
            *(_conv(width, width), nn.ReLU(inplace=True)),
            _conv(width, width),
        )

    def forward(self, pictures: Tensor, past: "_Past") -> Tensor:
        before = past.get(self)
        if before is None:
            before = torch.zeros_like(pictures[:1])
        past[self] = pictures[-1:].clone()
        change: Tensor = self.conv(torch.cat([pictures, torch.cat([before, pictures[:-1]])], 1))
        return change.add_(pictures).relu_()


# What the layers remember of a video. It lives as long as the decoding of that video.
_Past = dict[_MemBlock, Tensor]


class _Grow(nn.Module):
    """Each picture becomes ``stride`` ones of twice the size.

    One pixel makes one: done before the enlargement it is a quarter of the work, to the same end.
    """

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width * stride, 1, bias=False)
        self._width = width

    def forward(self, pictures: Tensor) -> Tensor:
        _, _, height, width = pictures.shape
        grown = self.conv(pictures).reshape(-1, self._width, height, width)
        return F.interpolate(grown.contiguous(memory_format=torch.channels_last), scale_factor=2)


def _conv(channels: int, width: int, *, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(channels, width, 3, padding=1, bias=bias)


def _to_bytes(pictures: Tensor) -> Tensor:
    """(frames, height, width, 3), made on the device: a quarter of what floats weigh."""
    levels = pictures.float().clamp_(0, 1).mul_(255).round_().to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous()
