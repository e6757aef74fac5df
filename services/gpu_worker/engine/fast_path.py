"""Text to latents to frames by the engine's own parts; holds to what ``Reference`` gives."""

from diffusers import WanPipeline
from torch import Tensor

from services.gpu_worker.backends.backend import Frames, Segment, SegmentWatcher
from services.gpu_worker.engine.decode import Decoder
from services.gpu_worker.engine.denoise import Denoiser
from services.gpu_worker.engine.text import TextEncoder


class FastPath:
    """Keeps the weights it needs in the form it needs; the pipeline itself may then go."""

    def __init__(self, pipeline: WanPipeline) -> None:
        self._text = TextEncoder(pipeline)
        self._denoiser = Denoiser(pipeline)
        self._decoder = Decoder(pipeline.vae)

    def denoise(self, segment: Segment, watcher: SegmentWatcher) -> Tensor:
        embeddings = []
        for prompt in _prompts(segment):
            embeddings.append(self._text.encode(prompt))
            watcher.text_encoded()
        return self._denoiser.denoise(segment, embeddings, watcher.step_done)

    def decode(self, latents: Tensor, watcher: SegmentWatcher) -> Frames:
        return self._decoder.decode(latents, watcher.decoded)


def _prompts(segment: Segment) -> tuple[str, ...]:
    """Without guidance, nothing asks what the negative prompt says."""
    if segment.guidance_scale > 1:
        return segment.prompt, segment.negative_prompt
    return (segment.prompt,)
