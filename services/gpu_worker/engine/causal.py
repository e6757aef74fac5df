"""The layers of Wan's video decoder, run piece by piece over time.

Same mathematics as diffusers', less memory traffic. Pictures lie in memory as (frames, height,
width, channels): a convolution takes and gives them without reordering, a norm reads one pixel's
channels side by side, and what a layer must remember is a slice.

A layer that keeps its weights in another form than diffusers says how in ``prepare``.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody writes it
from torch import Tensor, nn

_NORM_MIN = 1e-12  # as in torch.nn.functional.normalize
_KERNEL = 3


class CausalConv(nn.Module):
    """A convolution that looks back over the frames of earlier pieces, and never ahead."""

    def __init__(self, channels_in: int, channels_out: int, kernel: tuple[int, int, int]) -> None:
        super().__init__()
        frames_seen, height, width = kernel
        self.frames_remembered = frames_seen - 1
        self._padding = (height // 2, width // 2)
        # On a CPU, torch runs a 3-D convolution of floats without oneDNN, many times slower than
        # as many 2-D ones as there are frames to see: each of them finds its weights in one piece.
        self.weight = nn.Parameter(
            torch.empty(frames_seen, channels_out, height, width, channels_in)
        )
        self.bias = nn.Parameter(torch.empty(channels_out))

    @staticmethod
    def prepare(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"weight": weights["weight"].permute(2, 0, 3, 4, 1), "bias": weights["bias"]}

    def room_for(self, pictures: Tensor, past: "Past") -> Tensor:
        """Room for the remembered frames, which are in it, and for as many new ones."""
        remembered = self.frames_remembered
        room = pictures.new_empty((remembered + len(pictures), *pictures.shape[1:]))
        if self in past:
            room[:remembered] = past[self]
        else:
            room[:remembered].zero_()
        return room

    def forward(self, seen: Tensor, past: "Past") -> Tensor:
        """As many pictures as are new in ``seen``, which ``room_for`` made."""
        remembered = self.frames_remembered
        if remembered:
            # A copy: a slice would keep the whole of what was seen in memory.
            past[self] = seen[-remembered:].clone()
        return self._by_slices(seen) if seen.device.type == "cpu" else self._at_once(seen)

    def run(self, pictures: Tensor, past: "Past") -> Tensor:
        """As many pictures as there are; for those that are not made in the room themselves."""
        if not self.frames_remembered:
            return self.forward(pictures, past)
        seen = self.room_for(pictures, past)
        seen[self.frames_remembered :] = pictures
        return self.forward(seen, past)

    def _at_once(self, seen: Tensor) -> Tensor:
        video = seen.permute(3, 0, 1, 2).unsqueeze(0)
        weight = self.weight.permute(1, 4, 0, 2, 3)
        result = F.conv3d(video, weight, self.bias, padding=(0, *self._padding))
        return result[0].permute(1, 2, 3, 0)

    def _by_slices(self, seen: Tensor) -> Tensor:
        pictures = seen.permute(0, 3, 1, 2)
        new = len(seen) - self.frames_remembered
        *earlier, present = self.weight.permute(0, 1, 4, 2, 3).unbind(0)
        result = F.conv2d(pictures[-new:], present, self.bias, padding=self._padding)
        for age, weight in enumerate(earlier):
            result += F.conv2d(pictures[age : age + new], weight, padding=self._padding)
        return result.permute(0, 2, 3, 1)


# What the layers remember of a video. It lives as long as the decoding of that video: one that is
# stopped leaves nothing behind.
Past = dict[CausalConv, Tensor]


class Norm(nn.Module):
    """Scales each pixel's channels to the same length."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.empty(channels))

    @staticmethod
    def prepare(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        gamma = weights["gamma"].flatten()
        return {"scale": gamma * len(gamma) ** 0.5}

    def forward(self, pictures: Tensor, *, out: Tensor | None = None) -> Tensor:
        lengths = torch.linalg.vector_norm(pictures, dim=-1, keepdim=True).clamp_min_(_NORM_MIN)
        return torch.div(pictures, lengths, out=out).mul_(self.scale)


def activate(norm: Norm, conv: CausalConv, pictures: Tensor, past: Past) -> Tensor:
    """Norm, SiLU and convolution: written where the convolution reads, and nowhere else."""
    seen = conv.room_for(pictures, past)
    new = seen[conv.frames_remembered :]
    F.silu(norm(pictures, out=new), inplace=True)
    return conv.forward(seen, past)


class ResidualBlock(nn.Module):
    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        cube = (_KERNEL, _KERNEL, _KERNEL)
        self.norm1, self.norm2 = Norm(channels_in), Norm(channels_out)
        self.conv1 = CausalConv(channels_in, channels_out, cube)
        self.conv2 = CausalConv(channels_out, channels_out, cube)
        changes_width = channels_in != channels_out
        self.conv_shortcut = (
            CausalConv(channels_in, channels_out, (1, 1, 1)) if changes_width else None
        )

    def forward(self, pictures: Tensor, past: Past) -> Tensor:
        change = activate(self.norm1, self.conv1, pictures, past)
        change = activate(self.norm2, self.conv2, change, past)
        change += self.conv_shortcut.run(pictures, past) if self.conv_shortcut else pictures
        return change


class Attention(nn.Module):
    """Within each picture, one head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = Norm(channels)
        self.to_qkv = PixelLinear(channels, 3 * channels)
        self.proj = PixelLinear(channels, channels)

    def forward(self, pictures: Tensor, _: Past) -> Tensor:
        pixels = self.norm(pictures).flatten(1, 2).unsqueeze(1)
        query, key, value = self.to_qkv(pixels).chunk(3, dim=-1)
        found = F.scaled_dot_product_attention(query, key, value)
        change: Tensor = self.proj(found).view_as(pictures)
        change += pictures
        return change


class PixelLinear(nn.Linear):
    """A 1x1 convolution is a matrix applied to each pixel."""

    @staticmethod
    def prepare(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"weight": weights["weight"].flatten(1), "bias": weights["bias"]}


class Upsample(nn.Module):
    """Twice the height and width, by nearest neighbour and a 3x3 convolution.

    Of the nine pixels that the convolution would see, neighbours are copies of each other: a 2x2
    convolution of the small picture with their weights added up gives the same, one for each of
    the four pixels that a pixel becomes.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self._width = channels_out
        self.weight = nn.Parameter(torch.empty(4 * channels_out, 2, 2, channels_in))
        self.bias = nn.Parameter(torch.empty(channels_out))

    @staticmethod
    def prepare(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        weight = weights["weight"]
        # Pixel 2i sees rows i-1, i, i; pixel 2i+1 sees i, i, i+1. Columns likewise.
        rows = weight.new_tensor([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
        added_up = torch.einsum("ayp,bxq,ocpq->aboyxc", rows, rows, weight)
        return {"weight": added_up.flatten(0, 2), "bias": weights["bias"]}

    def forward(self, pictures: Tensor) -> Tensor:
        frames, height, width, _ = pictures.shape
        weight = self.weight.permute(0, 3, 1, 2)
        windows = F.conv2d(pictures.permute(0, 3, 1, 2), weight, padding=1)
        windows = windows.permute(0, 2, 3, 1).reshape(
            frames, height + 1, width + 1, 2, 2, self._width
        )
        result = pictures.new_empty((frames, height, 2, width, 2, self._width))
        for row in range(2):
            for column in range(2):
                window = windows[:, row : row + height, column : column + width, row, column]
                torch.add(window, self.bias, out=result[:, :, row, :, column])
        return result.view(frames, 2 * height, 2 * width, self._width)


class Resample(nn.Module):
    """Twice the size, and from the second piece on twice the frames if the layer says so."""

    def __init__(self, channels_in: int, channels_out: int, *, doubles_frames: bool) -> None:
        super().__init__()
        self.upsample = Upsample(channels_in, channels_out)
        self.time_conv = (
            CausalConv(channels_in, 2 * channels_in, (_KERNEL, 1, 1)) if doubles_frames else None
        )

    def forward(self, pictures: Tensor, past: Past, *, first: bool) -> Tensor:
        # Trained so: the first frame of a video is not among what the later ones look back on.
        if self.time_conv is not None and not first:
            pairs = self.time_conv.run(pictures, past)
            frames, height, width, channels = pictures.shape
            pairs = pairs.reshape(frames, height, width, 2, channels)
            pictures = pairs.permute(0, 3, 1, 2, 4).flatten(0, 1)
        result: Tensor = self.upsample(pictures)
        return result
