"""What this installation takes, told in the schemas of its requests.

The rules are those of ``shared/submission.py`` and ``shared/images/submission.py``, which refuse what
breaks them. Here they are told beforehand, so that a form can be drawn and a request checked by them.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from shared.catalog import Model, Preset, find_model
from shared.config import Config
from shared.errors import InvalidRequest
from shared.image_catalog import IMAGE_MODELS
from shared.images.submission import INPUT_FIELDS
from shared.job import ImageMode
from shared.schemas import SEEN
from shared.submission import (
    MAX_KEY_CHARS,
    MOST_GUIDANCE,
    MOST_STEPS,
    SEEDS,
    check_beginning,
    models_offered,
    preset_of,
    presets_offered,
)

Schema: TypeAlias = Mapping[str, Any]

PICTURE_TYPES = "image/jpeg, image/png, image/webp"
# Something to be seen, and no NUL.
_TEXT = rf"^[^\x00]*{SEEN}[^\x00]*$"
# Of a header, whose spaces at both ends belong to nobody.
_PRINTABLE = r"^[^\x00-\x20\x7f-\xa0\xad][^\x00-\x1f\x7f-\xa0\xad]*$"
_NO_TEXT_OR_TEXT = rf"^$|{_TEXT}"


def fields_taken(config: Config, *, in_form: bool) -> Mapping[str, Mapping[str, Schema | None]]:
    """What may be in the fields of a body, beside null where that is taken: by its schema's name.

    None: nothing, for there is nothing to choose.
    """
    prompt = _text(config, _TEXT, least=1)
    return {
        "JobRequest": {"prompt": prompt},
        "GenerateRequest": {"prompt": prompt, **_clip(find_model(config.model_name))},
        "VideoRemix": {"prompt": prompt},
        "VideoRequest": {"prompt": prompt, **_video(config)},
        "GenerationRequest": {"prompt": prompt, **_picture(config, in_form=in_form)},
        "EndpointRequest": {"url": _receiver(config)},
    }


def parameters_taken(config: Config) -> Mapping[str, Schema]:
    """What may be in parameters, by their names."""
    return {
        "Idempotency-Key": {"minLength": 1, "maxLength": MAX_KEY_CHARS, "pattern": _PRINTABLE},
        "expires_in": {"minimum": 1, "maximum": config.artifacts.link_max_seconds},
        "tail": {"minimum": 1, "maximum": config.limits.log_lines_per_job},
    }


def rules_between_fields(config: Config, *, in_form: bool) -> Mapping[str, list[Schema]]:
    """What one field says of another, by the name of the schema; files come in forms only."""
    return {
        "VideoRequest": _video_rules(config, in_form=in_form),
        "GenerationRequest": _picture_rules() if in_form else [],
    }


def begins_with_pictures(config: Config) -> bool:
    """Whether the usual model can."""
    model = find_model(config.model_name)
    try:
        check_beginning(model, preset_of(model, config), config)
    except InvalidRequest:
        return False
    return True


def _receiver(config: Config) -> Schema:
    """What a schema can say of it; that it leads to a public address is seen when it is called."""
    scheme = "https?" if config.webhooks.allow_private_addresses else "https"
    place = r"[a-z0-9_][a-z0-9._-]*(:[1-9][0-9]{0,3})?"
    pattern = rf"^{scheme}://{place}(/[!-~]*)?$"
    return {"type": "string", "maxLength": 2048, "pattern": pattern}


def _text(config: Config, pattern: str, *, least: int) -> Schema:
    longest = config.limits.prompt_max_chars
    return {"type": "string", "minLength": least, "maxLength": longest, "pattern": pattern}


def _clip(model: Model) -> Mapping[str, Schema]:
    shortest, longest = model.min_duration_seconds, model.max_duration_seconds
    return {
        "duration": {"type": "integer", "minimum": shortest, "maximum": longest},
        "resolution": {"type": "string", "enum": list(model.resolutions)},
    }


def _video(config: Config) -> Mapping[str, Schema | None]:
    models = [find_model(name) for name in models_offered(config)]
    frames = [count for model in models for count in model.frame_counts]
    steps = _number("integer", 1, MOST_STEPS, r"^([1-9][0-9]?|1[0-9]{2}|200)$")
    scale = _number("number", 1, MOST_GUIDANCE, r"^([1-9][0-9]?(\.[0-9]+)?|100(\.0+)?)$")
    return {
        "model": {"type": "string", "enum": [model.name for model in models]},
        "seconds": _one_of(second for model in models for second in _seconds_of(model)),
        "size": {
            "type": "string",
            "enum": _once(str(size) for model in models for size in model.resolutions.values()),
        },
        "quality": {
            "type": "string",
            "enum": _once(name for model in models for name in presets_offered(model, config)),
        },
        "seed": _number("integer", 0, SEEDS - 1, r"^[0-9]{1,18}$"),
        "negative_prompt": _text(config, _NO_TEXT_OR_TEXT, least=0),
        # Who has the frames to choose has these, too.
        "num_inference_steps": steps if frames else None,
        "guidance_scale": scale if frames else None,
        "num_frames": _one_of(frames) if frames else None,
        "fps": _one_of(model.fps for model in models),
    }


def _seconds_of(model: Model) -> range:
    return range(model.min_duration_seconds, model.max_duration_seconds + 1)


def _picture(config: Config, *, in_form: bool) -> Mapping[str, Schema | None]:
    modes = [mode.value for mode in ImageMode if in_form or not mode.inputs]
    models = _once(name for plan in config.plans.values() for name in plan.image_models)
    ratios = _once(ratio for name in models for ratio in IMAGE_MODELS[name].aspect_ratios)
    return {
        "mode": {"type": "string", "enum": modes},
        "model": {"type": "string", "enum": models} if models else None,
        "aspectRatio": {"type": "string", "enum": ratios} if models else None,
    }


def _video_rules(config: Config, *, in_form: bool) -> list[Schema]:
    either = {"anyOf": [_left_out("seconds"), _left_out("num_frames")]}
    model = find_model(config.model_name)
    offered = presets_offered(model, config)
    usual = preset_of(model, config)
    ways = [
        _asked_for(name, model.presets[name], is_usual=name == usual, in_form=in_form)
        for name in offered
    ]
    return [either, {"anyOf": ways}]


def _asked_for(name: str, preset: Preset, *, is_usual: bool, in_form: bool) -> Schema:
    """A preset by its name, and what may be said beside it."""
    # Who names none has the usual one.
    way: dict[str, Any] = {} if is_usual else {"required": ["quality"]}
    properties: dict[str, Any] = {"quality": {"enum": [name, *([None] if is_usual else [])]}}
    if preset.scheduler == "dmd":
        properties["num_inference_steps"] = {"enum": [preset.steps, str(preset.steps), None]}
        properties["guidance_scale"] = {"enum": [1, "1", None]}
        if in_form:
            properties["input_reference"] = False
    return {**way, "properties": properties}


def _picture_rules() -> list[Schema]:
    """A mode, and what it is made of."""
    ways = [
        {
            "required": list(INPUT_FIELDS[: mode.inputs]),
            "properties": {
                "mode": {"enum": [mode.value]},
                **dict.fromkeys(INPUT_FIELDS[mode.inputs :], False),
            },
        }
        for mode in ImageMode
    ]
    return [{"anyOf": ways}]


def _left_out(field: str) -> Schema:
    return {"properties": {field: {"type": "null"}}}


def _number(kind: str, least: int, most: int, as_text: str) -> Schema:
    """In a form, and from some clients in JSON too, it is text."""
    number = {"type": kind, "minimum": least, "maximum": most}
    return {"anyOf": [number, {"type": "string", "pattern": as_text}]}


def _one_of(numbers: Iterable[int]) -> Schema:
    """See ``_number``."""
    known = _once(numbers)
    return {
        "anyOf": [
            {"type": "integer", "enum": known},
            {"type": "string", "enum": [str(number) for number in known]},
        ]
    }


def _once(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))
