"""The demo model's parts: Wan's own classes, small, with weights chosen to look good."""

import math
from importlib import resources
from pathlib import Path

import torch
from diffusers import (
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
    WanVACEPipeline,
    WanVACETransformer3DModel,
)
from diffusers.utils import logging as diffusers_logging
from torch import Tensor, nn
from transformers import T5Tokenizer, UMT5Config, UMT5EncoderModel
from transformers.utils import logging as transformers_logging

from services.gpu_worker.engine.demo_vae import make_vae

IMAGE_TO_VIDEO = "image-to-video"  # the companion's folder, in the model's

_LATENT_CHANNELS = 8
_LATENT_PIXELS = 64
_TEXT_DIM = 64
_TRANSFORMER = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 32,
    "in_channels": _LATENT_CHANNELS,
    "out_channels": _LATENT_CHANNELS,
    "text_dim": _TEXT_DIM,
    "freq_dim": 64,
    "ffn_dim": 128,
    "num_layers": 2,
}
_HINT = 0.3
_SPECIAL_TOKENS = ("<pad>", "</s>", "<unk>")  # in T5's order
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"-()&%"


def save_demo_pipeline(directory: Path, *, seed: int) -> None:
    """Write the whole pipeline and its companion; the same seed gives the same weights."""
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    pipeline, companion = _build(seed)
    pipeline.save_pretrained(directory)
    _save_companion(companion, directory / IMAGE_TO_VIDEO)


def _save_companion(companion: WanVACEPipeline, directory: Path) -> None:
    """Part by part: ``save_pretrained`` would complain of the text encoder, which is not there."""
    companion.save_config(directory)
    for part in ("scheduler", "transformer", "vae"):
        getattr(companion, part).save_pretrained(directory / part)


def _build(seed: int) -> tuple[WanPipeline, WanVACEPipeline]:
    # Freshly made modules draw from the global generator: it is put back afterwards.
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        tokenizer = _tokenizer()
        pipeline = WanPipeline(
            tokenizer=tokenizer,
            text_encoder=_text_encoder(vocabulary_size=len(tokenizer)),
            transformer=_transformer(generator),
            vae=make_vae(_LATENT_CHANNELS, generator),
            scheduler=UniPCMultistepScheduler(
                prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
            ),
        )
        return pipeline, _companion(pipeline)


def _companion(pipeline: WanPipeline) -> WanVACEPipeline:
    """The same model with a branch that sees pictures. It has no text encoder: nobody asks it to read."""
    transformer = WanVACETransformer3DModel(
        **_TRANSFORMER,
        vace_layers=[0],
        # Latents of what is kept and of what is drawn, and a mask for each of their pixels.
        vace_in_channels=2 * _LATENT_CHANNELS + _LATENT_PIXELS,
    )
    transformer.load_state_dict(pipeline.transformer.state_dict(), strict=False)
    for block in transformer.vace_blocks:
        # A hint, so that a clip with pictures looks like one without.
        block.proj_out.weight.mul_(_HINT)
        block.proj_out.bias.zero_()
    return WanVACEPipeline(
        tokenizer=None,
        text_encoder=None,
        transformer=transformer.eval(),
        vae=pipeline.vae,
        scheduler=pipeline.scheduler,
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
    transformer = WanTransformer3DModel(**_TRANSFORMER)
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


def _mixing(rows: int, columns: int, generator: torch.Generator, *, gain: float) -> Tensor:
    """A random matrix whose rows sum to zero: what all channels share does not build up."""
    mixing = torch.randn(rows, columns, generator=generator)
    return (mixing - mixing.mean(dim=1, keepdim=True)) * (gain / math.sqrt(columns))


def _drop_bias(module: nn.Module) -> None:
    if isinstance(module.bias, Tensor):
        module.bias.zero_()
