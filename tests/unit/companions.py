"""Small companions of the demo model, of every kind that there is, with random weights."""

import json
import shutil
from contextlib import contextmanager

import torch
from diffusers import (
    AutoencoderKLWan,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanTransformer3DModel,
)
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

from services.gpu_worker.engine.demo_network import IMAGE_TO_VIDEO

KINDS = ("vace", "vace, deeper", "image to video", "first and last frame", "text to video")
_PICTURE_TOKENS = 5  # two by two patches and one for all


def make_companion(kind, demo_model_dir, directory):
    """Complete, in ``directory``, which is not there yet."""
    if kind == "vace":
        shutil.copytree(demo_model_dir / IMAGE_TO_VIDEO, directory)
    elif kind == "text to video":
        shutil.copytree(demo_model_dir, directory)
    elif kind == "vace, deeper":
        _with_the_real_depth(demo_model_dir, directory)
    else:
        _image_to_video(demo_model_dir, directory, two=kind == "first and last frame")
    return directory


def _with_the_real_depth(demo_model_dir, directory):
    """An autoencoder that enlarges three times, as the real one, and makes no patches."""
    shutil.copytree(demo_model_dir / IMAGE_TO_VIDEO, directory)
    demo = json.loads((directory / "vae/config.json").read_text())
    with _seeded():
        vae = AutoencoderKLWan(
            base_dim=4,
            z_dim=8,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
            latents_mean=demo["latents_mean"],
            latents_std=demo["latents_std"],
        )
    vae.encoder.conv_out.weight.data *= 30  # else all pictures are nearly the same to it
    shutil.rmtree(directory / "vae")
    vae.save_pretrained(directory / "vae")


def _image_to_video(demo_model_dir, directory, *, two):
    with _seeded():
        transformer = WanTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=8 + 4 + 8,  # latents, four frames' masks, the pictures' latents
            out_channels=8,
            text_dim=64,
            freq_dim=32,
            ffn_dim=64,
            num_layers=2,
            image_dim=32,
            added_kv_proj_dim=32,
            pos_embed_seq_len=2 * _PICTURE_TOKENS if two else None,
        )
        if two:
            transformer.condition_embedder.image_embedder.pos_embed.data.normal_()
        image_encoder = CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=3,
                num_attention_heads=2,
                image_size=28,
                patch_size=14,
            )
        )
    image_processor = CLIPImageProcessor(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
    )
    directory.mkdir()
    shutil.copytree(demo_model_dir / "vae", directory / "vae")
    shutil.copytree(demo_model_dir / "scheduler", directory / "scheduler")
    transformer.save_pretrained(directory / "transformer")
    image_encoder.save_pretrained(directory / "image_encoder")
    image_processor.save_pretrained(directory / "image_processor")
    WanImageToVideoPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=AutoencoderKLWan.from_pretrained(directory / "vae"),
        scheduler=UniPCMultistepScheduler.from_pretrained(directory / "scheduler"),
        image_processor=image_processor,
        image_encoder=image_encoder,
        transformer=transformer,
    ).save_config(directory)


@contextmanager
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
