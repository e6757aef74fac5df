"""Planning without a model: a prompt divided by rule, the same one into the same segments."""

import re

from shared.adapters.vertex.gemini import PlannedSegment

_CLOSING = "\"'”’)」』）"
_MARKS = ".!?。！？।؟…"

# A full stop after one of these ends no sentence; nor does one after a single letter, "e.g." or
# "J. R. R.", or after the number that a line begins with.
_ABBREVIATIONS = ("dr", "mr", "mrs", "ms", "prof", "st", "jr", "sr", "mt", "vs", "approx", "ca")
_NO_END = "".join(rf"(?<!\b{word}\.)" for word in (*_ABBREVIATIONS, "[^\\W\\d_]")) + (
    r"(?<!^\d\.)(?<!^\d\d\.)"
)
# "Every now and then" says how often, not what comes next.
_NO_STEP = "".join(rf"(?<!\b{word})" for word in ("now", "now and", "since", "until", "by", "even"))

# After a sentence, with or without a closing quote; after a line; before a word that says what comes
# next. Scripts that put no space between sentences have full stops that mean nothing else.
_BETWEEN = re.compile(
    rf"(?<=[.!?।؟…]){_NO_END}\s+"
    rf"|(?<=[.!?।؟…][{_CLOSING}])\s+"
    rf"|(?<=[。！？])(?![。！？{_CLOSING}])\s*"
    rf"|(?<=[。！？][{_CLOSING}])\s*"
    r"|\s*[;；\n]+\s*"
    rf"|{_NO_STEP},?\s+(?:and\s+)?then\s+",
    re.IGNORECASE | re.MULTILINE,
)


def divide(prompt: str, segments: int) -> tuple[PlannedSegment, ...]:
    """Each segment shows its share of the prompt's sentences, after the first one, which sets the scene.

    A model sees only its own segment's prompt, so what all have in common is in each. A prompt of fewer
    sentences than segments goes on, whole, in every segment.
    """
    sentences = [sentence.strip() for sentence in _BETWEEN.split(prompt) if sentence.strip()]
    if len(sentences) < segments:
        return (PlannedSegment(prompt.strip(), prompt.strip()),) * segments
    scene = sentences[0]
    planned = []
    for number in range(segments):
        start = number * len(sentences) // segments
        share = sentences[start : (number + 1) * len(sentences) // segments]
        told = share if number == 0 else [scene, *share]
        # The picture it begins with shows the scene, and what happens first.
        planned.append(PlannedSegment(_joined(told), _joined(dict.fromkeys([scene, share[0]]))))
    return tuple(planned)


def _joined(sentences: "list[str] | dict[str, None]") -> str:
    return " ".join(
        sentence if sentence[-1] in f"{_MARKS}{_CLOSING},:" else f"{sentence}."
        for sentence in sentences
    )
