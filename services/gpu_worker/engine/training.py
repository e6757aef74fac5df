"""Whether a model's weights were trained for the sampler that a preset names.

Base and distilled weights have the same names and shapes. The wrong ones load without a complaint and
render nonsense. A small model may come with both.
"""

import json
from collections.abc import Collection
from enum import StrEnum
from pathlib import Path

from services.gpu_worker.engine.demo_model import MARKER
from shared.catalog import SchedulerName
from shared.errors import ModelUnavailable


class Training(StrEnum):
    """What the weights were trained for; base and distilled as model_index.json calls them."""

    BASE = "WanPipeline"
    DISTILLED = "WanDMDPipeline"
    NONE = "demo"  # random weights: one sampler is as good as another


_WORDS = {Training.BASE: "base", Training.DISTILLED: "distilled"}
_NEEDED = {"unipc": Training.BASE, "dmd": Training.DISTILLED}


def read_training(model_dir: Path, *, how_to_get: str) -> Training:
    """What is in the directory. Raises ``ModelUnavailable`` when it is no Wan for text."""
    try:
        index = json.loads((model_dir / "model_index.json").read_text(encoding="utf-8"))
        training = Training(index["_class_name"])
    except FileNotFoundError:
        raise ModelUnavailable(f"The model is not there. {how_to_get}") from None
    except OSError as error:
        raise ModelUnavailable(f"The model's files cannot be read. {how_to_get}") from error
    # A file cut short, or without the key, or another model's.
    except (ValueError, KeyError, TypeError) as error:
        raise ModelUnavailable(
            f"The model's model_index.json is broken or another model's. {how_to_get}"
        ) from error
    return Training.NONE if (model_dir / MARKER).is_file() else training


def check_training(
    trainings: Collection[Training], scheduler: SchedulerName, *, how_to_get: str
) -> None:
    """Raises ``ModelUnavailable`` for base weights where distilled ones are needed, or vice versa."""
    needed = _NEEDED[scheduler]
    if needed not in trainings and Training.NONE not in trainings:
        (found,) = trainings
        raise ModelUnavailable(
            f"The model's weights are the {_WORDS[found]} ones, and the preset needs the "
            f"{_WORDS[needed]} ones. {how_to_get}"
        )
