"""Trained weights to a model's directory, as small as half precision makes it."""

from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanPipeline, WanTransformer3DModel
from torch import Tensor
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from training.network import VAE, new_scheduler


def whole_vae(weights: dict[str, Tensor], mean: Tensor, std: Tensor) -> AutoencoderKLWan:
    """The trained autoencoder, in diffusers' own layers, with the statistics of its latents."""
    vae = AutoencoderKLWan(**VAE, latents_mean=mean.tolist(), latents_std=std.tolist())
    vae.load_state_dict(weights)
    return vae.eval()


def save_model(
    directory: Path,
    *,
    tokenizer: PreTrainedTokenizerFast,
    text_encoder: UMT5EncoderModel,
    transformer: WanTransformer3DModel,
    vae: AutoencoderKLWan,
    distilled: WanTransformer3DModel | None = None,
) -> None:
    """In diffusers' layout; weights for a few steps lie beside the transformer's, as a variant."""
    pipeline = WanPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder.eval(),
        transformer=transformer.eval(),
        vae=vae,
        scheduler=new_scheduler(),
    )
    for part in (text_encoder, transformer, vae):
        part.to(torch.float16)
    pipeline.save_pretrained(directory)
    if distilled is not None:
        distilled.eval().to(torch.float16).save_pretrained(
            directory / "transformer", variant="distilled"
        )
