"""Text to latents to frames by the engine's own parts; holds to what ``Reference`` gives."""

from collections.abc import Collection

from torch import Tensor

from services.gpu_worker.backends.backend import Frames, Segment, SegmentWatcher
from services.gpu_worker.engine.decode import Decoder
from services.gpu_worker.engine.denoise import Denoiser
from services.gpu_worker.engine.model import WanModel
from services.gpu_worker.engine.text import TextEncoder
from services.gpu_worker.engine.tiny_decoder import TinyDecoder
from shared.catalog import DecoderName


class FastPath:
    """Renders with the parts of one model."""

    def __init__(self, model: WanModel, tiny_decoder: TinyDecoder | None = None) -> None:
        self._text = TextEncoder(model.tokenizer, model.text_encoder, model.embeddings)
        self._denoiser = Denoiser(model)
        self._decoders: dict[DecoderName, Decoder | TinyDecoder] = {"full": model.decoder}
        if tiny_decoder is not None:
            self._decoders["tiny"] = tiny_decoder

    @property
    def decoders(self) -> Collection[DecoderName]:
        """Those that are there to decode with."""
        return self._decoders

    def read(self, segment: Segment, watcher: SegmentWatcher) -> list[Tensor]:
        """(1, tokens, text width) of the prompt and, with guidance, of the negative prompt."""
        embeddings = []
        for prompt in _prompts(segment):
            embeddings.append(self._text.encode(prompt))
            watcher.text_encoded()
        unknown, words = self._text.unknown_words(segment.prompt)
        if unknown:
            watcher.note(_meaningless(unknown, words))
        return embeddings

    def denoise(self, segment: Segment, watcher: SegmentWatcher) -> Tensor:
        return self._denoiser.denoise(segment, self.read(segment, watcher), watcher.step_done)

    def decode(self, latents: Tensor, decoder: DecoderName, watcher: SegmentWatcher) -> Frames:
        return self._decoders[decoder].decode(latents, watcher.decoded)


def _meaningless(unknown: list[int], words: int) -> str:
    """By their places: a log never holds what a prompt says, not even its owner's."""
    places = ", ".join(str(place) for place in unknown)
    return f"this small model does not know {len(unknown)} of the prompt's {words} words: {places}"


def _prompts(segment: Segment) -> tuple[str, ...]:
    """Without guidance, nothing asks what the negative prompt says."""
    if segment.steps_with_guidance:
        return segment.prompt, segment.negative_prompt
    return (segment.prompt,)
