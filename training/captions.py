"""Captions: many ways to say the same scene, and prompts to judge the model by."""

import random
from types import MappingProxyType

from training.world import BACKGROUNDS, COLOURS, MOTIONS, SHAPES, Scene

# Of each motion what fits after "a circle …", and what fits after "a circle that …".
_DOING = MappingProxyType(
    {
        "left": ("moving left", "moving to the left", "going left", "sliding to the left"),
        "right": ("moving right", "moving to the right", "going right", "sliding to the right"),
        "up": ("moving up", "going up", "rising", "moving upwards"),
        "down": ("moving down", "going down", "falling", "moving downwards"),
        "bounce": ("bouncing", "bouncing up and down", "jumping"),
        "rotate": ("rotating", "spinning", "turning"),
        "grow": ("growing", "getting bigger", "growing larger"),
        "shrink": ("shrinking", "getting smaller"),
        "still": ("standing still", "not moving", "staying still", "at rest"),
    }
)
_DOES = MappingProxyType(
    {
        "left": ("moves left", "moves to the left", "goes left", "slides to the left"),
        "right": ("moves right", "moves to the right", "goes right", "slides to the right"),
        "up": ("moves up", "goes up", "rises", "moves upwards"),
        "down": ("moves down", "goes down", "falls", "moves downwards"),
        "bounce": ("bounces", "bounces up and down", "jumps"),
        "rotate": ("rotates", "spins", "turns"),
        "grow": ("grows", "gets bigger", "grows larger"),
        "shrink": ("shrinks", "gets smaller"),
        "still": ("stands still", "does not move", "stays still", "is still"),
    }
)
_ALSO_CALLED = MappingProxyType(
    {
        "circle": ("circle", "circle", "circle", "ball", "disc"),
        "square": ("square", "square", "square", "box"),
        "grey": ("grey", "gray"),
        "purple": ("purple", "purple", "violet"),
    }
)
_BEFORE = ("", "", "", "", "a video of ", "a clip of ")
_FORMS = (
    "{a_colour} {shape} {doing} on {a_background} background",
    "{a_colour} {shape} {doing} on {a_background} background",
    "{a_colour} {shape} {does} on {a_background} background",
    "{colour} {shape}, {does}, {background} background",
    "{colour} {shape} {doing}, {background} background",
    "{a_colour} {shape} that {does} in front of {a_background} background",
    "{a_colour} {shape} {doing} in front of {background}",
    "{a_colour} {shape} {doing} on {background}",
    "on {a_background} background, {a_colour} {shape} {does}",
    "on {a_background} background {a_colour} {shape} is {doing}",
    "{background} background, {a_colour} {shape} {doing}",
    "the {shape} is {colour} and {does}, the background is {background}",
    "the {colour} {shape} {does} across the {background} background",
    "{a_background} background with {a_colour} {shape} {doing}",
)
# Some captions leave something out: what is not said may be anything.
_SHORTER_FORMS = (
    "{a_colour} {shape} {doing}",
    "{a_colour} {shape} on {a_background} background",
    "{a_colour} {shape}",
    "a {shape} {doing} on {a_background} background",
    "something {colour} {doing} on {a_background} background",
    "{colour}",
    "{a_background} background",
)
_LEAVES_OUT = 0.1
_UNKNOWN = 0.2  # captions with words that the tokenizer will not know
_PUNCTUATED = 0.3

# What an unknown word is written as here: no letters, so no tokenizer knows it.
UNKNOWN_WORD = "\N{MIDDLE DOT}"


def caption(scene: Scene, dice: random.Random) -> str:
    """One of the ways to say it, at times with words that mean nothing to the model."""
    forms = _SHORTER_FORMS if dice.random() < _LEAVES_OUT else _FORMS
    text = dice.choice(_BEFORE) + say(scene, dice.choice(forms), dice)
    if dice.random() < _PUNCTUATED:
        text += "."
    if dice.random() < _UNKNOWN:
        words = text.split(" ")
        for _ in range(dice.choice((1, 1, 2, 3))):
            words.insert(dice.randrange(len(words) + 1), UNKNOWN_WORD)
        text = " ".join(words)
    return text


def say(scene: Scene, form: str, dice: random.Random) -> str:
    colour, shape, background = (
        dice.choice(_ALSO_CALLED.get(word, (word,)))
        for word in (scene.colour, scene.shape, scene.background)
    )
    return form.format(
        colour=colour,
        a_colour=_with_article(colour),
        shape=shape,
        background=background,
        a_background=_with_article(background),
        doing=dice.choice(_DOING[scene.motion]),
        does=dice.choice(_DOES[scene.motion]),
    )


def prompt(scene: Scene) -> str:
    """The plainest way: "a red circle moving left on a navy background"."""
    return (
        f"{_with_article(scene.colour)} {scene.shape} {_DOING[scene.motion][0]} "
        f"on {_with_article(scene.background)} background"
    )


def every_word() -> list[str]:
    """All words and marks that captions are made of, sorted."""
    said = {*COLOURS, *BACKGROUNDS, *SHAPES, "an", ".", ","}
    for forms in (*_DOING.values(), *_DOES.values(), *_ALSO_CALLED.values(), _BEFORE):
        said |= set(" ".join(forms).split())
    for form in (*_FORMS, *_SHORTER_FORMS):
        blank = form.replace(",", " ")
        said |= {word for word in blank.split() if "{" not in word}
    return sorted(said)


def _with_article(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


assert set(_DOING) == set(_DOES) == set(MOTIONS)
