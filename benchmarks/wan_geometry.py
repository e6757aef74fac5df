"""The sizes of Wan 2.1 T2V 1.3B, as its config.json files have them; and small ones to try a path."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.catalog import Size, find_model

_WAN = find_model("wan2.1")


@dataclass(frozen=True)
class Geometry:
    """Three parts' configurations, and the clip that is rendered with them."""

    name: str
    transformer: Mapping[str, Any]
    vae: Mapping[str, Any]
    text_encoder: Mapping[str, Any]
    frames: int
    size: Size

    @property
    def width(self) -> int:
        heads: int = self.transformer["num_attention_heads"]
        head: int = self.transformer["attention_head_dim"]
        return heads * head

    def configs(self) -> dict[str, dict[str, Any]]:
        return {
            "transformer": dict(self.transformer),
            "vae": dict(self.vae),
            "text_encoder": dict(self.text_encoder),
        }


def _transformer(**sizes: int) -> dict[str, Any]:
    return {"patch_size": (1, 2, 2), "out_channels": sizes["in_channels"], "eps": 1e-6, **sizes}


def _vae(*, base_dim: int, latent_channels: int, blocks: int) -> dict[str, Any]:
    return {
        "base_dim": base_dim,
        "z_dim": latent_channels,
        "dim_mult": [1, 2, 4, 4],
        "num_res_blocks": blocks,
        "temperal_downsample": [False, True, True],
        # Any will do: the weights are random, too.
        "latents_mean": [0.0] * latent_channels,
        "latents_std": [1.0] * latent_channels,
    }


WAN_1_3B = Geometry(
    "Wan 2.1 T2V 1.3B",
    transformer=_transformer(
        num_layers=30,
        num_attention_heads=12,
        attention_head_dim=128,
        ffn_dim=8960,
        in_channels=16,
        text_dim=4096,
        freq_dim=256,
    ),
    vae=_vae(base_dim=96, latent_channels=16, blocks=2),
    text_encoder={
        "vocab_size": 256_384,
        "d_model": 4096,
        "d_kv": 64,
        "d_ff": 10_240,
        "num_layers": 24,
        "num_heads": 64,
        "feed_forward_proj": "gated-gelu",
    },
    frames=_WAN.frames(_WAN.max_duration_seconds),
    size=_WAN.native_size,
)

TINY = Geometry(
    "a tiny one, to try the path",
    transformer=_transformer(
        num_layers=2,
        num_attention_heads=2,
        attention_head_dim=32,
        ffn_dim=128,
        in_channels=4,
        text_dim=32,
        freq_dim=32,
    ),
    vae=_vae(base_dim=8, latent_channels=4, blocks=1),
    text_encoder={
        "vocab_size": 512,
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 64,
        "num_layers": 2,
        "num_heads": 4,
        "feed_forward_proj": "gated-gelu",
    },
    frames=9,
    size=Size(96, 64),
)
