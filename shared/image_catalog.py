"""The models that make pictures elsewhere: plain data."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from shared.config_sections import ImageProviderName


@dataclass(frozen=True, kw_only=True)
class ImageModel:
    """One model of one provider."""

    name: str
    provider: ImageProviderName
    aspect_ratios: tuple[str, ...]  # of pictures made from nothing, the default first


_RATIOS = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")

IMAGE_MODELS: Mapping[str, ImageModel] = MappingProxyType(
    {
        model.name: model
        for model in (
            ImageModel(name="google/nano-banana", provider="replicate", aspect_ratios=_RATIOS),
            ImageModel(name="gemini-2.5-flash-image", provider="gemini", aspect_ratios=_RATIOS),
        )
    }
)
