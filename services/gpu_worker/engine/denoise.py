"""Noise to latents: the steps of the scheduler, with the transformer's prediction at each."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from services.gpu_worker.backends.backend import Segment
from services.gpu_worker.engine.model import WanModel
from services.gpu_worker.engine.schedulers import scheduler_for
from services.gpu_worker.engine.transformer import Texts, Transformer
from shared.catalog import SchedulerName

# Both prompts in one pass spare small videos half of the calls. A large one keeps the device busy
# by itself, and two of it at once would only take twice the memory.
_SMALL_TOKENS = {"cpu": 2048, "cuda": 4096}

# Hopper and later: cuDNN's attention uses instructions that torch's flash attention does not.
_CUDNN_SINCE = (9, 0)


class Denoiser:
    def __init__(self, model: WanModel) -> None:
        self._scheduler_config = model.scheduler
        self._transformers: dict[SchedulerName, Transformer] = {
            "unipc": model.transformer,
            "dmd": model.distilled or model.transformer,
        }
        self._frame_stride = model.decoder.config.frame_stride
        self._pixel_stride = model.decoder.config.pixel_stride
        self._device = model.device

    def denoise(
        self, segment: Segment, embeddings: list[Tensor], step_done: Callable[[int, int], None]
    ) -> Tensor:
        """(1, channels, latent frames, latent height, latent width), float32.

        The embeddings are the prompt's and, with guidance, the negative prompt's. What
        ``step_done`` raises stops the denoising.
        """
        scheduler = scheduler_for(segment, self._scheduler_config)
        transformer = self._transformers[segment.scheduler]
        latents = self._noise(segment, transformer)
        positions = transformer.positions(latents)
        guided = self._passes(embeddings, transformer, tokens=len(positions))
        # Guidance shapes the first half of the steps; later ones hardly differ without it (Castillo
        # et al. 2023, arXiv 2312.12487).
        changes = 0 < segment.steps_with_guidance < segment.steps
        alone = guided
        if changes:
            alone = self._passes(embeddings[:1], transformer, tokens=len(positions))
        with attention_for(self._device):
            # All at once: a transfer a step would each time wait for the device.
            for done, step in enumerate(scheduler.timesteps.to(self._device), start=1):
                passes = guided if done <= segment.steps_with_guidance else alone
                flows = [transformer(latents, step, texts, positions) for texts in passes]
                flow = _guided(torch.cat(flows), segment.guidance_scale)
                latents = scheduler.step(flow, latents)
                if self._device.type == "cuda":
                    # Else all steps would be told, and could be stopped, before the first is done.
                    torch.cuda.current_stream(self._device).synchronize()
                step_done(done, segment.steps)
        return latents

    def _noise(self, segment: Segment, transformer: Transformer) -> Tensor:
        # Drawn on the CPU, so a seed means the same on every device.
        generator = torch.Generator("cpu").manual_seed(segment.seed)
        shape = (
            *(1, transformer.config.channels, (segment.frames - 1) // self._frame_stride + 1),
            *(segment.size.height // self._pixel_stride, segment.size.width // self._pixel_stride),
        )
        return torch.randn(shape, generator=generator).to(self._device)

    def _passes(
        self, embeddings: list[Tensor], transformer: Transformer, *, tokens: int
    ) -> list[Texts]:
        if tokens <= _SMALL_TOKENS[self._device.type]:
            return [transformer.read(embeddings)]
        return [transformer.read([embedding]) for embedding in embeddings]


def _guided(flows: Tensor, guidance_scale: float) -> Tensor:
    """Away from what the negative prompt predicts, if there is one."""
    if len(flows) == 1:
        return flows
    wanted, unwanted = flows[:1], flows[1:]
    return unwanted + guidance_scale * (wanted - unwanted)


@contextmanager
def attention_for(device: torch.device) -> Iterator[None]:
    """The choice is torch's own, but on Hopper and later; what cuDNN cannot do goes the old way."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < _CUDNN_SINCE:
        yield
        return
    order = [
        SDPBackend.CUDNN_ATTENTION,
        SDPBackend.FLASH_ATTENTION,
        SDPBackend.EFFICIENT_ATTENTION,
        SDPBackend.MATH,
    ]
    with sdpa_kernel(order, set_priority=True):
        yield
