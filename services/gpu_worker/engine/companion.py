"""The files of a model that begins a segment with a picture, in diffusers' layout.

Its text encoder and its video decoder are not kept: those of the model that it goes with are the same.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
    WanVACEPipeline,
    WanVACETransformer3DModel,
)
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from services.gpu_worker.engine.image_to_video import (
    ByHolding,
    ByPicture,
    ByVideo,
    Conditions,
    ImageToVideo,
    ReadPrompts,
)
from services.gpu_worker.engine.model import WanModel
from shared.errors import ModelUnavailable

_HOW_TO_GET = (
    "Download Wan-AI/Wan2.1-VACE-1.3B-diffusers, Wan-AI/Wan2.1-I2V-14B-480P-Diffusers or "
    "Wan-AI/Wan2.1-FLF2V-14B-720P-diffusers from Hugging Face."
)
_VACE, _IMAGE_TO_VIDEO = "WanVACEPipeline", "WanImageToVideoPipeline"
_TEXT_TO_VIDEO = "WanPipeline"
_PARTS = {
    _TEXT_TO_VIDEO: ("scheduler", "transformer", "vae"),
    _VACE: ("scheduler", "transformer", "vae"),
    _IMAGE_TO_VIDEO: ("scheduler", "transformer", "vae", "image_encoder", "image_processor"),
}
_TOLD = (_VACE, _IMAGE_TO_VIDEO)
_CONFIGS = {"scheduler": "scheduler_config.json", "image_processor": "preprocessor_config.json"}
_FILES = {"local_files_only": True, "use_safetensors": True}  # never the network


def load_image_to_video(
    directory: Path,
    beside: WanModel,
    read: ReadPrompts,
    *,
    dtype: torch.dtype,
    holds_first_frame: bool = False,
) -> ImageToVideo:
    """On the device of the model that it goes with. Some go on from a frame that is held for them.

    Raises ``ModelUnavailable``, which says what to download, for files that are missing, broken, or
    those of a model that does not go with the other.
    """
    # A render process writes logs, not to a terminal: bars would be noise there.
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    files = _Companion(directory, kinds=_PARTS if holds_first_frame else _TOLD)
    files.check_goes_with(beside)
    try:
        return files.load(read, device=beside.device, dtype=dtype)
    except torch.OutOfMemoryError as error:
        raise ModelUnavailable(
            "The image-to-video model does not fit into the GPU's memory beside the other one."
        ) from error
    # Of a library that has read a broken file, or a module given weights that are not its own.
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise files.unreadable() from error


class _Companion:
    """Its directory. Raises ``ModelUnavailable`` when it is no model of these kinds, or incomplete."""

    def __init__(self, directory: Path, *, kinds: Collection[str]) -> None:
        self._directory = directory
        if not (directory / "model_index.json").is_file():
            raise ModelUnavailable(f"The image-to-video model is not there. {_HOW_TO_GET}")
        index = self._read_json("model_index.json")
        self._kind = str(index.get("_class_name"))
        # Wan 2.2's have the same names, with two transformers or times of each latent frame's own.
        if self._kind not in kinds or index.get("boundary_ratio") or index.get("expand_timesteps"):
            raise ModelUnavailable(
                f"The image-to-video model is of a kind that cannot be used. {_HOW_TO_GET}"
            )
        for part in _PARTS[self._kind]:
            if not (directory / part / _CONFIGS.get(part, "config.json")).is_file():
                raise ModelUnavailable(
                    f"The image-to-video model's {part} is missing or incomplete. {_HOW_TO_GET}"
                )

    def check_goes_with(self, model: WanModel) -> None:
        """What one encodes the other must decode, and what one reads the other must understand."""
        transformer, vae = (
            self._read_json("transformer/config.json"),
            self._read_json("vae/config.json"),
        )
        decoder = model.decoder.config
        found = (
            transformer.get("text_dim"),
            vae.get("z_dim"),
            vae.get("latents_mean"),
            vae.get("latents_std"),
        )
        needed = (
            model.transformer.config.text_dim,
            decoder.latent_channels,
            list(decoder.latents_mean),
            list(decoder.latents_std),
        )
        if found != needed:
            raise ModelUnavailable(
                "The image-to-video model does not go with this model: its texts or latents are "
                f"others. {_HOW_TO_GET}"
            )

    def load(self, read: ReadPrompts, *, device: torch.device, dtype: torch.dtype) -> ImageToVideo:
        # The authors encode in float32, as they decode.
        vae = self._part(AutoencoderKLWan, "vae", torch.float32)
        vae.decoder = None  # the other model's is used
        shared = {
            "scheduler": UniPCMultistepScheduler.from_pretrained(
                self._directory, subfolder="scheduler", local_files_only=True
            ),
            "vae": vae,
            # Prompts come to the pipeline as they have been read.
            "text_encoder": None,
            "tokenizer": None,
        }
        loaders = {
            _VACE: self._load_vace,
            _IMAGE_TO_VIDEO: self._load_image_to_video,
            _TEXT_TO_VIDEO: self._load_text_to_video,
        }
        pipeline, conditions = loaders[self._kind](shared, dtype)
        pipeline.to(device)
        pipeline.set_progress_bar_config(disable=True)
        return ImageToVideo(pipeline, conditions, read)

    def _load_vace(self, shared: dict[str, Any], dtype: torch.dtype) -> tuple[Any, Conditions]:
        transformer = self._part(WanVACETransformer3DModel, "transformer", dtype)
        pipeline = WanVACEPipeline(transformer=transformer, **shared)
        # It counts the encoder's stages, and would not know of one that begins with patches.
        pipeline.vae_scale_factor_spatial = shared["vae"].config.scale_factor_spatial
        return pipeline, ByVideo()

    def _load_text_to_video(
        self, shared: dict[str, Any], dtype: torch.dtype
    ) -> tuple[Any, Conditions]:
        transformer = self._part(WanTransformer3DModel, "transformer", dtype)
        pipeline = WanPipeline(transformer=transformer, **shared)
        pipeline.vae_scale_factor_spatial = shared["vae"].config.scale_factor_spatial
        return pipeline, ByHolding()

    def _load_image_to_video(
        self, shared: dict[str, Any], dtype: torch.dtype
    ) -> tuple[Any, Conditions]:
        # Here, not above: they warn of a library that VACE has no use for.
        from diffusers import WanImageToVideoPipeline  # noqa: PLC0415
        from transformers import CLIPImageProcessor, CLIPVisionModel  # noqa: PLC0415

        transformer = self._part(WanTransformer3DModel, "transformer", dtype)
        pipeline = WanImageToVideoPipeline(
            transformer=transformer,
            # As in diffusers' own examples; it is small beside the transformer.
            image_encoder=self._part(CLIPVisionModel, "image_encoder", torch.float32),
            image_processor=CLIPImageProcessor.from_pretrained(
                self._directory, subfolder="image_processor", local_files_only=True
            ),
            **shared,
        )
        # Only what was trained with a last picture, too, tells the tokens of the two apart.
        positions = transformer.config.pos_embed_seq_len
        return pipeline, ByPicture(pictures=1 if positions is None else 2)

    def _part(self, kind: Any, name: str, dtype: torch.dtype) -> Any:  # noqa: ANN401 - one of diffusers' or transformers' models
        model, found = kind.from_pretrained(
            self._directory, subfolder=name, dtype=dtype, output_loading_info=True, **_FILES
        )
        if found["missing_keys"]:
            # The libraries would make up what is missing, and say so in a log.
            raise ValueError(f"{name} has no {found['missing_keys'][0]}")
        return model.requires_grad_(requires_grad=False).eval()

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            content = json.loads((self._directory / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise self.unreadable() from error
        if not isinstance(content, dict):
            raise self.unreadable()
        return content

    def unreadable(self) -> ModelUnavailable:
        return ModelUnavailable(f"The image-to-video model's files cannot be read. {_HOW_TO_GET}")
