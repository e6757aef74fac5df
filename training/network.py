"""The small model's parts: diffusers' and transformers' own classes, at a hundredth of their size."""

from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from torch import Tensor
from transformers import UMT5Config, UMT5EncoderModel

from shared.catalog import find_model

LATENT_CHANNELS = 8
LATENT_PIXELS = 16  # a side
TEXT_WIDTH = 96
FLOW_SHIFT = 3.0
TIMES = 1000  # what the transformer is told of a noise level of 1
_PRESETS = find_model("wan2.1-shapes").presets
FEW_TIMESTEPS = _PRESETS["fast"].timesteps
GUIDANCE_SCALE = _PRESETS["reference"].guidance_scale

VAE = {
    "base_dim": 16,
    "decoder_base_dim": 24,
    "z_dim": LATENT_CHANNELS,
    "dim_mult": [1, 2, 2],
    "num_res_blocks": 1,
    "attn_scales": [],
    "temperal_downsample": [True, True],
    # A CPU is slow at fine pictures of few channels: patches of four pixels a side spare it those.
    "patch_size": 4,
    "in_channels": 48,
    "out_channels": 48,
    "scale_factor_temporal": 4,
    "scale_factor_spatial": LATENT_PIXELS,
}
PATCH = (1, 2, 2)  # latents that are one token: frames, down, across
TRANSFORMER = {
    "patch_size": PATCH,
    "num_attention_heads": 4,
    "attention_head_dim": 48,
    "in_channels": LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    "text_dim": TEXT_WIDTH,
    "freq_dim": 64,
    "ffn_dim": 576,
    "num_layers": 5,
}


def tokens_of(frames: int, height: int, width: int) -> int:
    """How many tokens a clip of so many latent frames, of these pixels, is to the transformer."""
    return frames * (height // LATENT_PIXELS // PATCH[1]) * (width // LATENT_PIXELS // PATCH[2])


def new_vae() -> AutoencoderKLWan:
    return AutoencoderKLWan(
        **VAE, latents_mean=[0.0] * LATENT_CHANNELS, latents_std=[1.0] * LATENT_CHANNELS
    )


def new_transformer() -> WanTransformer3DModel:
    return WanTransformer3DModel(**TRANSFORMER)


def new_text_encoder(words: int) -> UMT5EncoderModel:
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=words,
            d_model=TEXT_WIDTH,
            d_kv=24,
            d_ff=192,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
        )
    )


def shifted(level: Tensor) -> Tensor:
    """Of evenly spaced noise levels, 0 to 1, those that a render meets: nearer to noise."""
    return FLOW_SHIFT * level / (1 + (FLOW_SHIFT - 1) * level)


def sigma_of(timestep: int) -> float:
    """The noise level, 1 for nothing but noise, that a transformer is told as this timestep."""
    return timestep / TIMES


def new_scheduler() -> UniPCMultistepScheduler:
    return UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=FLOW_SHIFT
    )
