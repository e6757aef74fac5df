"""What a provider is told for what a caller wrote: the only place that adds words to a prompt."""

from collections.abc import Mapping
from types import MappingProxyType

from shared.job import ImageMode

# The caller's words come last, so that nothing after them can be taken for a part of them.
_INSTRUCTIONS: Mapping[ImageMode, str] = MappingProxyType(
    {
        ImageMode.GENERATE: "",
        ImageMode.EDIT: (
            "Change the given picture as described, and keep everything else as it is: its "
            "composition, its light, and the looks of people and things.\n\n"
        ),
        ImageMode.COMBINE: (
            "Make one picture of the two that are given, as described. The first is the scene, the "
            "second is what comes into it; fit it to the light and the perspective of the first.\n\n"
        ),
    }
)


def compose(prompt: str, mode: ImageMode) -> str:
    return _INSTRUCTIONS[mode] + prompt
