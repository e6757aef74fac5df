"""Wan 2.1 with random weights, made on the device: diffusers' own modules, and ours from their weights.

What a render takes does not depend on what the weights are, and no file of gigabytes is needed. The
weights are random as torch draws them for fresh layers: what comes out is noise, and finite.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor, nn
from transformers import UMT5Config as TheirUMT5Config
from transformers import UMT5EncoderModel
from wan_geometry import Geometry

from services.gpu_worker.engine import decode, transformer
from services.gpu_worker.engine.decode import Decoder, DecoderConfig
from services.gpu_worker.engine.model import WanModel, filled, unfilled
from services.gpu_worker.engine.training import Training
from services.gpu_worker.engine.transformer import Transformer, TransformerConfig
from services.gpu_worker.engine.umt5 import UMT5Config, UMT5Encoder

# What diffusers keeps in float32 when it loads this model; ours keeps transformer.FLOAT32_PARTS.
_THEIR_FLOAT32_PARTS = ("time_embedder", "scale_shift_table", "norm1", "norm2", "norm3")
_SCHEDULER = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}


@dataclass(frozen=True)
class RandomWan:
    """The same model twice, the text encoder's weights in memory once."""

    pipeline: WanPipeline
    text_encoder: UMT5EncoderModel | None
    model: WanModel


def make(
    geometry: Geometry, *, device: torch.device, dtype: torch.dtype, with_text: bool
) -> RandomWan:
    """Without the text encoder, ours has one of no size: nothing may be read with it."""
    torch.manual_seed(0)
    with torch.device(device):
        their_transformer = WanTransformer3DModel(**geometry.transformer)
        _cast(their_transformer, dtype, keep=_THEIR_FLOAT32_PARTS)
        vae = AutoencoderKLWan(**geometry.vae).eval()
    text_encoder = _their_text_encoder(geometry, device, dtype) if with_text else None
    scheduler = UniPCMultistepScheduler(**_SCHEDULER)
    pipeline = WanPipeline(
        tokenizer=None,
        text_encoder=None,
        transformer=their_transformer.eval(),
        vae=vae,
        scheduler=scheduler,
    )
    pipeline.set_progress_bar_config(disable=True)
    decoder = unfilled(lambda: Decoder(DecoderConfig.from_config(vae.config)))
    model = WanModel(
        tokenizer=Tokenizer(WordLevel({"<unk>": 0}, unk_token="<unk>")),  # noqa: S106 - no password
        text_encoder=_our_text_encoder(geometry, text_encoder),
        transformer=_our_transformer(geometry, their_transformer.state_dict(), dtype),
        decoder=filled(decoder, decode.prepare(decoder, vae.state_dict())),
        scheduler=dict(scheduler.config),
        training=Training.NONE,
        device=device,
    )
    return RandomWan(pipeline, text_encoder, model)


def _cast(module: nn.Module, dtype: torch.dtype, *, keep: tuple[str, ...]) -> None:
    for name, parameter in module.named_parameters():
        if not any(part in name for part in keep):
            parameter.data = parameter.data.to(dtype)


def _their_text_encoder(
    geometry: Geometry, device: torch.device, dtype: torch.dtype
) -> UMT5EncoderModel:
    before = torch.get_default_dtype()
    # Never in float32: that would be 22 GB for a moment.
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return UMT5EncoderModel(TheirUMT5Config(**geometry.text_encoder)).eval()
    finally:
        torch.set_default_dtype(before)


def _our_text_encoder(geometry: Geometry, theirs: UMT5EncoderModel | None) -> UMT5Encoder:
    encoder = unfilled(lambda: UMT5Encoder(UMT5Config.from_config(geometry.text_encoder)))
    return encoder if theirs is None else filled(encoder, theirs.state_dict())


def _our_transformer(
    geometry: Geometry, weights: Mapping[str, Tensor], dtype: torch.dtype
) -> Transformer:
    config = TransformerConfig.from_config(geometry.transformer)
    cast = {
        name: weight.to(
            torch.float32 if any(part in name for part in transformer.FLOAT32_PARTS) else dtype
        )
        for name, weight in transformer.fuse(weights).items()
    }
    return filled(unfilled(lambda: Transformer(config)), cast)
