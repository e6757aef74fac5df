"""Stage 2, keyframes: the pictures that segments begin with, and end with where the model can."""

from services.gpu_worker.backends.backend import Clip, Picture
from services.gpu_worker.engine.pictures import fit, picture_of, save_picture
from services.gpu_worker.pipeline import parts
from services.gpu_worker.pipeline.plan import Plan
from services.gpu_worker.pipeline.production import Production
from services.gpu_worker.pipeline.segment_watch import StillWatch
from services.gpu_worker.pipeline.watcher import stop_if_canceled
from shared.errors import ModelUnavailable


def make_keyframes(plan: Plan, production: Production) -> None:
    """One a segment, and one more where the model must be told how the last one ends.

    Each is kept as it is done. Raises ``RenderCanceled`` and what who draws raises.
    """
    watcher, found = production.watcher, production.found
    if plan.mode != "keyframe":
        watcher.log("keyframes: none needed")
        return
    descriptions = [shot.keyframe or shot.prompt for shot in plan.shots]
    if production.model.abilities.needs_last_frame:
        descriptions.append(plan.shots[-1].prompt)
    count = len(descriptions)
    for number, description in enumerate(descriptions, start=1):
        stop_if_canceled(watcher)
        name = parts.keyframe(number)
        if found.has(name):
            watcher.log(f"keyframe {number}/{count}: already there")
        else:
            if production.studio.draws:
                picture = _drawn(description, number, production)
            else:
                # Of one seed: the same hand draws them all.
                picture = _rendered(description, plan.shots[0].seed, production)
            save_picture(picture, found.path(name))
            found.made(name)
            watcher.log(f"keyframe {number}/{count}: drawn")
        watcher.progress("keyframes", number / count)


def _drawn(description: str, number: int, production: Production) -> Picture:
    """By Gemini, after the first picture and the one before: people and places stay who they are."""
    found = production.found
    earlier = dict.fromkeys(each for each in (1, number - 1) if 1 <= each < number)
    references = tuple(found.path(parts.keyframe(each)).read_bytes() for each in earlier)
    still = production.studio.draw(description, references=references, watcher=production.watcher)
    return fit(picture_of(still.content), production.native_size)


def _rendered(description: str, seed: int, production: Production) -> Picture:
    """By the video model: a clip of a single frame."""
    model = production.model
    watch = StillWatch(production.watcher)
    if model.abilities.stills:
        still = model.generate(production.segment(description, seed=seed, frames=1), watch)
        if not isinstance(still, Clip):
            picture: Picture = still.decode(watch)[0]
            return picture
    raise ModelUnavailable(
        "This model draws no keyframes: name a Gemini model as image_generation_model."
    )
