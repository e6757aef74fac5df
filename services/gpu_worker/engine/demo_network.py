"""The demo model's parts: Wan's own classes, small, with random weights chosen to look good."""

import itertools
import math
from importlib import resources
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLWan,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from diffusers.models.autoencoders.autoencoder_kl_wan import WanAttentionBlock, WanResample
from diffusers.utils import logging as diffusers_logging
from torch import Tensor, nn
from transformers import T5Tokenizer, UMT5Config, UMT5EncoderModel
from transformers.utils import logging as transformers_logging

_LATENT_CHANNELS = 8
_TEXT_DIM = 64
_SPECIAL_TOKENS = ("<pad>", "</s>", "<unk>")  # in T5's order
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"-()&%"
_BLUR = (0.25, 0.5, 0.25)
_BLEND = ((0.25, 0.75, 0.0), (0.0, 0.75, 0.25))  # of a pair of pixels: the first, the second


def save_demo_pipeline(directory: Path, *, seed: int) -> None:
    """Write the whole pipeline; the same seed gives the same weights."""
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    _build(seed).save_pretrained(directory)


def _build(seed: int) -> WanPipeline:
    # Freshly made modules draw from the global generator: it is put back afterwards.
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        tokenizer = _tokenizer()
        return WanPipeline(
            tokenizer=tokenizer,
            text_encoder=_text_encoder(vocabulary_size=len(tokenizer)),
            transformer=_transformer(generator),
            vae=_vae(generator),
            scheduler=UniPCMultistepScheduler(
                prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
            ),
        )


def _tokenizer() -> T5Tokenizer:
    """T5's tokenizer over the word list; a word that is not on it is spelled in letters."""
    text = resources.files("services.gpu_worker.engine").joinpath("demo_words.txt")
    words = text.read_text(encoding="utf-8").split()
    # A word is far likelier than its letters, so it is never spelled where it is known.
    pieces = [(piece, 0.0) for piece in _SPECIAL_TOKENS]
    pieces += [("▁", -10.0), *((letter, -10.0) for letter in _LETTERS + _LETTERS[:26].upper())]
    pieces += [("▁" + word, -1.0) for word in words]
    pieces += [("▁" + word.capitalize(), -1.0) for word in words]
    return T5Tokenizer(vocab=pieces, extra_ids=0)


def _text_encoder(*, vocabulary_size: int) -> UMT5EncoderModel:
    config = UMT5Config(
        vocab_size=vocabulary_size,
        d_model=_TEXT_DIM,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
    )
    return UMT5EncoderModel(config).eval()


def _transformer(generator: torch.Generator) -> WanTransformer3DModel:
    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=32,
        in_channels=_LATENT_CHANNELS,
        out_channels=_LATENT_CHANNELS,
        text_dim=_TEXT_DIM,
        freq_dim=64,
        ffn_dim=128,
        num_layers=2,
    )
    _listen_to_the_prompt(transformer, generator)
    return transformer.eval()


def _listen_to_the_prompt(transformer: WanTransformer3DModel, generator: torch.Generator) -> None:
    """Make the few words of a prompt outweigh the padding to 512 tokens.

    Without biases padding stays zero, and with sharp keys attention finds the words among it.
    """
    text_embedder = transformer.condition_embedder.text_embedder
    layers = [text_embedder.linear_1, text_embedder.linear_2]
    for block in transformer.blocks:
        layers += [block.attn2.to_k, block.attn2.to_v, block.attn2.to_out[0]]
        block.attn2.norm_k.weight.fill_(2.0)
    for layer in layers:
        layer.weight.copy_(_mixing(layer.out_features, layer.in_features, generator, gain=3.0))
        _drop_bias(layer)


def _vae(generator: torch.Generator) -> AutoencoderKLWan:
    vae = AutoencoderKLWan(
        base_dim=8,
        z_dim=_LATENT_CHANNELS,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        latents_mean=[0.25, -0.25] * (_LATENT_CHANNELS // 2),
        latents_std=[1.0, 2.0] * (_LATENT_CHANNELS // 2),
        # 2x2 pixels a position: an 81-frame decode at full resolution takes a CPU half a minute.
        patch_size=2,
        in_channels=12,
        out_channels=12,
        scale_factor_temporal=4,
        scale_factor_spatial=8,
    )
    _soften(vae.decoder, generator)
    _paint_smoothly(vae.decoder.conv_out, generator)
    return vae.eval()


def _soften(decoder: nn.Module, generator: torch.Generator) -> None:
    """Make every convolution blur space and time and mix channels; no attention, no biases."""
    for module in decoder.modules():
        if isinstance(module, WanResample) and module.mode == "upsample3d":
            # Each frame is repeated; the blurs that follow blend it into the next one.
            module.time_conv.weight.zero_()
            module.time_conv.weight[:, :, -1, 0, 0] = torch.eye(module.dim).repeat(2, 1)
            _drop_bias(module.time_conv)
        elif isinstance(module, WanAttentionBlock):
            module.proj.weight.zero_()
            _drop_bias(module.proj)
        elif isinstance(module, nn.Conv2d | nn.Conv3d) and module.kernel_size[-1] == len(_BLUR):
            kernel = torch.outer(torch.tensor(_BLUR), torch.tensor(_BLUR))
            if isinstance(module, nn.Conv3d):
                kernel = kernel.expand(module.kernel_size) / module.kernel_size[0]
            mixing = _mixing(module.out_channels, module.in_channels, generator, gain=2.5)
            module.weight.copy_(mixing.reshape(*mixing.shape, *[1] * kernel.ndim) * kernel)
            _drop_bias(module)


def _paint_smoothly(conv_out: nn.Conv3d, generator: torch.Generator) -> None:
    """The four pixels of a position blend into its neighbours, instead of all being alike."""
    colors = _mixing(3, conv_out.in_channels, generator, gain=1.0)
    conv_out.weight.zero_()
    # Channels are ordered colour, column, row; of the three frames seen the last is the present.
    by_pixel = conv_out.weight[:, :, -1].view(3, 2, 2, conv_out.in_channels, 3, 3)
    for column, row in itertools.product(range(2), repeat=2):
        kernel = torch.outer(torch.tensor(_BLEND[row]), torch.tensor(_BLEND[column]))
        by_pixel[:, column, row] = colors[:, :, None, None] * kernel
    _drop_bias(conv_out)


def _mixing(rows: int, columns: int, generator: torch.Generator, *, gain: float) -> Tensor:
    """A random matrix whose rows sum to zero: what all channels share does not build up."""
    mixing = torch.randn(rows, columns, generator=generator)
    return (mixing - mixing.mean(dim=1, keepdim=True)) * (gain / math.sqrt(columns))


def _drop_bias(module: nn.Module) -> None:
    if isinstance(module.bias, Tensor):
        module.bias.zero_()
