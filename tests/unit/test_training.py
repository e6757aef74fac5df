"""Weights are refused where a preset needs others: they would render nonsense without a complaint."""

import json

import pytest

from services.gpu_worker.engine.training import Training, check_training, read_training
from shared.errors import ModelUnavailable

ADVICE = "Download it."


@pytest.fixture
def model_dir(tmp_path):
    def write(content):
        (tmp_path / "model_index.json").write_text(content, encoding="utf-8")
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("class_name", "training"),
    [("WanPipeline", Training.BASE), ("WanDMDPipeline", Training.DISTILLED)],
)
def test_the_index_says_what_the_weights_are(model_dir, class_name, training):
    directory = model_dir(json.dumps({"_class_name": class_name}))

    assert read_training(directory, how_to_get=ADVICE) is training


def test_the_demo_model_is_trained_for_nothing(demo_model_dir):
    assert read_training(demo_model_dir, how_to_get=ADVICE) is Training.NONE


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"_class_name": "WanImageToVideoPipeline"}', '{"_class_name": "Wan'],
)
def test_another_model_s_or_a_broken_index_is_refused(model_dir, content):
    with pytest.raises(ModelUnavailable, match=ADVICE):
        read_training(model_dir(content), how_to_get=ADVICE)


def test_a_missing_model_is_refused(tmp_path):
    with pytest.raises(ModelUnavailable, match="The model is not there"):
        read_training(tmp_path, how_to_get=ADVICE)


@pytest.mark.parametrize(
    ("training", "scheduler"),
    [
        (Training.BASE, "unipc"),
        (Training.DISTILLED, "dmd"),
        (Training.NONE, "unipc"),
        (Training.NONE, "dmd"),
    ],
)
def test_weights_fit_the_sampler_they_were_trained_for(training, scheduler):
    check_training({training}, scheduler, how_to_get=ADVICE)


@pytest.mark.parametrize("scheduler", ["unipc", "dmd"])
def test_a_model_with_both_weights_fits_either_sampler(scheduler):
    check_training({Training.BASE, Training.DISTILLED}, scheduler, how_to_get=ADVICE)


@pytest.mark.parametrize(
    ("training", "scheduler", "said"),
    [
        (Training.BASE, "dmd", "are the base ones, and the preset needs the distilled ones"),
        (Training.DISTILLED, "unipc", "are the distilled ones, and the preset needs the base ones"),
    ],
)
def test_weights_for_another_sampler_are_refused_with_what_to_get(training, scheduler, said):
    with pytest.raises(ModelUnavailable, match=said) as caught:
        check_training({training}, scheduler, how_to_get=ADVICE)
    assert caught.value.message.endswith(ADVICE)
