"""Text to latents to frames by the engine's own parts; holds to what ``Reference`` gives."""

from torch import Tensor

from services.gpu_worker.backends.backend import Frames, Segment, SegmentWatcher
from services.gpu_worker.engine.denoise import Denoiser
from services.gpu_worker.engine.model import WanModel
from services.gpu_worker.engine.text import TextEncoder


class FastPath:
    """Renders with the parts of one model."""

    def __init__(self, model: WanModel) -> None:
        self._text = TextEncoder(model.tokenizer, model.text_encoder, model.embeddings)
        self._denoiser = Denoiser(model)
        self._decoder = model.decoder

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
    if segment.steps_with_guidance:
        return segment.prompt, segment.negative_prompt
    return (segment.prompt,)
