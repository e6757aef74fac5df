"""A model that begins segments with pictures is loaded beside another, or it is said why not."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from services.gpu_worker.backends import wan as wan_backend
from services.gpu_worker.backends.backend import Segment
from services.gpu_worker.engine.bake import bake
from services.gpu_worker.engine.companion_files import CompanionFiles
from services.gpu_worker.engine.demo_network import IMAGE_TO_VIDEO
from services.gpu_worker.engine.wan import load_wan
from services.gpu_worker.protocol import Load
from shared.catalog import Size, find_model
from shared.errors import ModelUnavailable
from tests.unit.companions import KINDS, make_companion

MODEL = replace(find_model("wan2.1-demo"), native_size=Size(64, 32), negative_prompt="snow")
STILL = Segment(
    prompt="a red circle",
    negative_prompt="snow",
    seed=3,
    frames=1,
    size=MODEL.native_size,
    steps=2,
    guidance_scale=5.0,
    flow_shift=3.0,
)
WITH_PICTURE = replace(STILL, frames=5, first_frame=np.full((32, 64, 3), 90, np.uint8))
ALL_THREE = "VACE-1.3B-diffusers.*I2V-14B-480P-Diffusers.*FLF2V-14B-720P-diffusers"


class Quiet:
    def text_encoded(self):
        pass

    def step_done(self, step, steps):
        pass

    def decoded(self, fraction):
        pass


def _load(model_dir, companion=None, *, holds_first_frame=False, **changes):
    order = Load(
        model=MODEL.name,
        model_dir=model_dir,
        image_to_video_dir=companion,
        **({"device": "cpu", "dtype": "auto"} | changes),
    )
    model = replace(MODEL, holds_first_frame=holds_first_frame)
    return wan_backend.load(model, order, warn=pytest.fail)


def _copy(demo_model_dir, tmp_path, kind="vace"):
    return make_companion(kind, demo_model_dir, tmp_path / "companion")


def _change_json(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("kind", "first_frame", "last_frame"),
    [(None, False, False)]
    + [(kind, True, kind not in {"image to video", "text to video"}) for kind in KINDS],
)
def test_a_model_says_what_it_can_begin_and_end_with(
    demo_model_dir, tmp_path, kind, first_frame, last_frame
):
    companion = _copy(demo_model_dir, tmp_path, kind) if kind else None
    wan = _load(demo_model_dir, companion, holds_first_frame=kind == "text to video")

    assert wan.abilities.first_frame == first_frame
    assert wan.abilities.last_frame == last_frame
    assert wan.abilities.stills


def test_a_single_frame_is_drawn_without_a_companion(demo_model_dir):
    picture = _load(demo_model_dir).render(STILL, Quiet())

    assert picture.shape == (1, 32, 64, 3)
    assert picture.std() > 10


def test_without_a_companion_a_picture_is_refused_and_where_to_name_one_is_said(demo_model_dir):
    wan = _load(demo_model_dir)

    with pytest.raises(ModelUnavailable, match=r"as models\.wan2\.1-demo\.image_to_video in"):
        wan.render(WITH_PICTURE, Quiet())


def test_neither_its_text_encoder_nor_its_decoder_is_in_memory(demo_model_dir):
    wan = _load(demo_model_dir, demo_model_dir / IMAGE_TO_VIDEO)

    pipeline = wan._image_to_video._pipeline
    assert pipeline.text_encoder is None
    assert pipeline.vae.decoder is None


def test_one_that_few_will_ask_for_is_loaded_by_the_first_who_does(demo_model_dir):
    wan = _load(demo_model_dir, demo_model_dir / IMAGE_TO_VIDEO, image_to_video_when_asked=True)
    at_once = _load(demo_model_dir, demo_model_dir / IMAGE_TO_VIDEO)
    assert wan._image_to_video is None
    assert not wan.abilities.first_frame
    for _ in range(2):
        frames = wan.render(WITH_PICTURE, Quiet())
        assert wan.abilities.first_frame
        np.testing.assert_array_equal(frames, at_once.render(WITH_PICTURE, Quiet()))


def test_one_that_is_not_there_fails_only_who_asks_for_it(demo_model_dir, tmp_path):
    wan = _load(demo_model_dir, tmp_path / "nowhere", image_to_video_when_asked=True)
    with pytest.raises(ModelUnavailable, match="is not there"):
        wan.render(WITH_PICTURE, Quiet())


def test_beside_a_snapshot_it_renders_the_very_bytes_it_renders_beside_the_model(
    demo_model_dir, tmp_path
):
    bake(MODEL, demo_model_dir, tmp_path / "snapshot", compiles=False)
    companion = demo_model_dir / IMAGE_TO_VIDEO

    baked = _load(demo_model_dir, companion, snapshot_dir=tmp_path / "snapshot")

    expected = _load(demo_model_dir, companion).render(WITH_PICTURE, Quiet())
    assert np.array_equal(baked.render(WITH_PICTURE, Quiet()), expected)


def test_a_worker_without_one_imports_neither_diffusers_nor_transformers(demo_model_dir):
    # In a process of its own: this one has them already.
    program = (
        "import sys; from pathlib import Path;"
        "from services.gpu_worker.backends import wan;"
        "from services.gpu_worker.protocol import Load; from shared.catalog import find_model;"
        "order = Load(model='wan2.1-demo', model_dir=Path(sys.argv[1]), device='cpu', dtype='auto');"
        "wan.load(find_model('wan2.1-demo'), order, warn=sys.exit);"
        "print({'diffusers', 'transformers'} & set(sys.modules))"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, demo_model_dir],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "set()\n"


def test_one_that_is_not_there_says_what_to_download(demo_model_dir, tmp_path):
    with pytest.raises(ModelUnavailable, match=f"is not there. .*{ALL_THREE}"):
        _load(demo_model_dir, tmp_path / "nowhere")


@pytest.mark.parametrize(
    "index",
    [
        {"_class_name": "WanPipeline"},
        {"_class_name": None},
        {"boundary_ratio": 0.9},
        {"expand_timesteps": True},
    ],
    ids=["for text", "of no kind", "two transformers", "times of its own"],
)
def test_one_of_another_kind_is_refused(demo_model_dir, tmp_path, index):
    companion = _copy(demo_model_dir, tmp_path)
    _change_json(companion / "model_index.json", **index)

    with pytest.raises(ModelUnavailable, match=f"of a kind that cannot be used. .*{ALL_THREE}"):
        _load(demo_model_dir, companion)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("vae/config.json", {"latents_mean": [0.0] * 8}),
        ("vae/config.json", {"latents_std": [1.0] * 8}),
        ("vae/config.json", {"z_dim": 16}),
        ("transformer/config.json", {"text_dim": 4096}),
    ],
    ids=lambda part: part if isinstance(part, str) else next(iter(part)),
)
def test_one_that_does_not_go_with_the_model_is_refused(demo_model_dir, tmp_path, file, change):
    companion = _copy(demo_model_dir, tmp_path)
    _change_json(companion / file, **change)

    with pytest.raises(ModelUnavailable, match=f"does not go with this model.*{ALL_THREE}"):
        _load(demo_model_dir, companion)


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("vace", "scheduler"),
        ("vace", "transformer"),
        ("vace", "vae"),
        ("image to video", "image_encoder"),
        ("image to video", "image_processor"),
    ],
)
def test_one_that_lacks_a_part_says_which(demo_model_dir, tmp_path, kind, part):
    companion = _copy(demo_model_dir, tmp_path, kind)
    shutil.rmtree(companion / part)

    with pytest.raises(ModelUnavailable, match=rf"{part} is missing or incomplete\. Download"):
        _load(demo_model_dir, companion)


@pytest.mark.parametrize(
    "file",
    [
        "model_index.json",
        "vae/config.json",
        "transformer/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "scheduler/scheduler_config.json",
    ],
)
def test_a_file_cut_short_is_said_to_be_unreadable(demo_model_dir, tmp_path, file):
    companion = _copy(demo_model_dir, tmp_path)
    broken = companion / file
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])

    with pytest.raises(ModelUnavailable, match=f"files cannot be read. .*{ALL_THREE}") as caught:
        _load(demo_model_dir, companion)

    assert str(tmp_path) not in caught.value.message


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("vace", "transformer/diffusion_pytorch_model.safetensors"),
        ("vace", "vae/diffusion_pytorch_model.safetensors"),
        ("image to video", "image_encoder/model.safetensors"),
    ],
)
def test_weights_that_lack_one_are_not_made_up(demo_model_dir, tmp_path, kind, file):
    broken = _copy(demo_model_dir, tmp_path, kind) / file
    weights = load_file(broken)
    del weights[min(weights)]
    save_file(weights, broken, metadata={"format": "pt"})

    with pytest.raises(ModelUnavailable, match="files cannot be read"):
        _load(demo_model_dir, tmp_path / "companion")


def test_weights_that_are_not_there_at_all_are_said_to_be_unreadable(demo_model_dir, tmp_path):
    companion = _copy(demo_model_dir, tmp_path)
    (companion / "transformer/diffusion_pytorch_model.safetensors").unlink()

    with pytest.raises(ModelUnavailable, match="files cannot be read"):
        load_wan(
            demo_model_dir,
            device="cpu",
            dtype="auto",
            how_to_get="",
            companion=CompanionFiles(companion),
        )
