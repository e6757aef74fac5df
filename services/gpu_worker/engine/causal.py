"""The layers of Wan's video decoder, run piece by piece over time.

Same weights and same mathematics as diffusers', less memory traffic. Pictures lie in memory as
(frames, height, width, channels): a convolution takes and gives them without reordering, a norm
reads one pixel's channels side by side, and what a layer must remember is a slice.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody writes it
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanAttentionBlock,
    WanCausalConv3d,
    WanResample,
    WanResidualBlock,
    WanRMS_norm,
)
from torch import Tensor, nn

_NORM_MIN = 1e-12  # as in torch.nn.functional.normalize


class CausalConv:
    """A convolution that looks back over the frames of earlier pieces, and never ahead."""

    def __init__(self, conv: WanCausalConv3d) -> None:
        frames_seen, height, width = conv.kernel_size
        self.frames_remembered = frames_seen - 1
        self._padding = (height // 2, width // 2)
        self._bias = conv.bias
        self._weight = conv.weight.contiguous(memory_format=torch.channels_last_3d)
        # On a CPU, torch runs a 3-D convolution of floats without oneDNN, many times slower than
        # as many 2-D ones as there are frames to see.
        self._slices = [
            weight.contiguous(memory_format=torch.channels_last)
            for weight in (conv.weight.unbind(2) if conv.weight.device.type == "cpu" else ())
        ]

    def room_for(self, pictures: Tensor, past: "Past") -> Tensor:
        """Room for the remembered frames, which are in it, and for as many new ones."""
        remembered = self.frames_remembered
        room = pictures.new_empty((remembered + len(pictures), *pictures.shape[1:]))
        if self in past:
            room[:remembered] = past[self]
        else:
            room[:remembered].zero_()
        return room

    def __call__(self, seen: Tensor, past: "Past") -> Tensor:
        """As many pictures as are new in ``seen``, which ``room_for`` made."""
        remembered = self.frames_remembered
        if remembered:
            # A copy: a slice would keep the whole of what was seen in memory.
            past[self] = seen[-remembered:].clone()
        return self._by_slices(seen) if self._slices else self._at_once(seen)

    def run(self, pictures: Tensor, past: "Past") -> Tensor:
        """As many pictures as there are; for those that are not made in the room themselves."""
        if not self.frames_remembered:
            return self(pictures, past)
        seen = self.room_for(pictures, past)
        seen[self.frames_remembered :] = pictures
        return self(seen, past)

    def _at_once(self, seen: Tensor) -> Tensor:
        video = seen.permute(3, 0, 1, 2).unsqueeze(0)
        result = F.conv3d(video, self._weight, self._bias, padding=(0, *self._padding))
        return result[0].permute(1, 2, 3, 0)

    def _by_slices(self, seen: Tensor) -> Tensor:
        pictures = seen.permute(0, 3, 1, 2)
        new = len(seen) - self.frames_remembered
        *earlier, present = self._slices
        result = F.conv2d(pictures[-new:], present, self._bias, padding=self._padding)
        for age, weight in enumerate(earlier):
            result += F.conv2d(pictures[age : age + new], weight, padding=self._padding)
        return result.permute(0, 2, 3, 1)


# What the layers remember of a video. It lives as long as the decoding of that video: one that is
# stopped leaves nothing behind.
Past = dict[CausalConv, Tensor]


class Norm:
    """Scales each pixel's channels to the same length."""

    def __init__(self, norm: WanRMS_norm) -> None:
        self._scale = norm.gamma.flatten() * norm.scale

    def __call__(self, pictures: Tensor, *, out: Tensor | None = None) -> Tensor:
        lengths = torch.linalg.vector_norm(pictures, dim=-1, keepdim=True).clamp_min_(_NORM_MIN)
        return torch.div(pictures, lengths, out=out).mul_(self._scale)


class ActivatedConv:
    """Norm, SiLU and convolution: written where the convolution reads, and nowhere else."""

    def __init__(self, norm: WanRMS_norm, conv: WanCausalConv3d) -> None:
        self._norm = Norm(norm)
        self._conv = CausalConv(conv)

    def __call__(self, pictures: Tensor, past: Past) -> Tensor:
        seen = self._conv.room_for(pictures, past)
        new = seen[self._conv.frames_remembered :]
        F.silu(self._norm(pictures, out=new), inplace=True)
        return self._conv(seen, past)


class ResidualBlock:
    def __init__(self, block: WanResidualBlock) -> None:
        self._first = ActivatedConv(block.norm1, block.conv1)
        self._second = ActivatedConv(block.norm2, block.conv2)
        changes_width = isinstance(block.conv_shortcut, WanCausalConv3d)
        self._shortcut = CausalConv(block.conv_shortcut) if changes_width else None

    def __call__(self, pictures: Tensor, past: Past) -> Tensor:
        change = self._second(self._first(pictures, past), past)
        change += self._shortcut.run(pictures, past) if self._shortcut else pictures
        return change


class Attention:
    """Within each picture, one head."""

    def __init__(self, block: WanAttentionBlock) -> None:
        self._norm = Norm(block.norm)
        self._to_qkv = _as_matrix(block.to_qkv)
        self._projection = _as_matrix(block.proj)

    def __call__(self, pictures: Tensor, _: Past) -> Tensor:
        pixels = self._norm(pictures).flatten(1, 2).unsqueeze(1)
        query, key, value = F.linear(pixels, *self._to_qkv).chunk(3, dim=-1)
        found = F.scaled_dot_product_attention(query, key, value)
        change = F.linear(found, *self._projection).view_as(pictures)
        change += pictures
        return change


class Upsample:
    """Twice the height and width, by nearest neighbour and a 3x3 convolution.

    Of the nine pixels that the convolution would see, neighbours are copies of each other: a 2x2
    convolution of the small picture with their weights added up gives the same, one for each of
    the four pixels that a pixel becomes.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        # Pixel 2i sees rows i-1, i, i; pixel 2i+1 sees i, i, i+1. Columns likewise.
        rows = conv.weight.new_tensor([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
        weight = torch.einsum("ayp,bxq,ocpq->abocyx", rows, rows, conv.weight)
        self._weight = weight.flatten(0, 2).contiguous(memory_format=torch.channels_last)
        self._bias = conv.bias if conv.bias is not None else weight.new_zeros(())
        self._width = conv.out_channels

    def __call__(self, pictures: Tensor) -> Tensor:
        frames, height, width, _ = pictures.shape
        windows = F.conv2d(pictures.permute(0, 3, 1, 2), self._weight, padding=1)
        windows = windows.permute(0, 2, 3, 1).reshape(
            frames, height + 1, width + 1, 2, 2, self._width
        )
        result = pictures.new_empty((frames, height, 2, width, 2, self._width))
        for row in range(2):
            for column in range(2):
                window = windows[:, row : row + height, column : column + width, row, column]
                torch.add(window, self._bias, out=result[:, :, row, :, column])
        return result.view(frames, 2 * height, 2 * width, self._width)


class Resample:
    """Twice the size, and from the second piece on twice the frames if the layer says so."""

    def __init__(self, resample: WanResample) -> None:
        self._upsample = Upsample(resample.resample[1])
        doubles_frames = resample.mode == "upsample3d"
        self._time_conv = CausalConv(resample.time_conv) if doubles_frames else None

    def __call__(self, pictures: Tensor, past: Past, *, first: bool) -> Tensor:
        # Trained so: the first frame of a video is not among what the later ones look back on.
        if self._time_conv and not first:
            pairs = self._time_conv.run(pictures, past)
            frames, height, width, channels = pictures.shape
            pairs = pairs.reshape(frames, height, width, 2, channels)
            pictures = pairs.permute(0, 3, 1, 2, 4).flatten(0, 1)
        return self._upsample(pictures)


def _as_matrix(conv: nn.Conv2d) -> tuple[Tensor, Tensor | None]:
    """A 1x1 convolution is a matrix applied to each pixel."""
    return conv.weight.flatten(1), conv.bias
