"""The model catalog is data others build on: it must add up."""

import pytest

from shared.catalog import CATALOG, TOPIC_GPU, TOPIC_REMOTE, find_model
from shared.errors import InvalidRequest

PUSH_SECONDS = 600
every_model = pytest.mark.parametrize("model", CATALOG.values(), ids=CATALOG.keys())
WAN = [model for model in CATALOG.values() if model.backend == "wan2.1"]
every_wan = pytest.mark.parametrize("model", WAN, ids=[model.name for model in WAN])


def test_a_model_is_found_by_its_name():
    assert find_model("wan2.1").name == "wan2.1"


def test_an_unknown_model_is_refused_with_what_there_is():
    with pytest.raises(InvalidRequest, match=r"wan2\.1, wan2\.1-demo") as caught:
        find_model("sora")
    assert caught.value.field == "model"


@every_model
def test_an_entry_is_found_under_its_own_name_and_goes_to_a_known_topic(model):
    assert find_model(model.name) is model
    assert model.topic in {TOPIC_GPU, TOPIC_REMOTE}
    assert model.default_preset in model.presets


@every_wan
def test_frame_counts_follow_wans_rule(model):
    for duration in range(model.min_duration_seconds, model.max_duration_seconds + 1):
        assert model.frames(duration) % 4 == 1


def test_five_seconds_at_sixteen_a_second_are_eighty_one_frames():
    assert find_model("wan2.1").frames(5) == 81


def test_a_clip_of_veo_has_no_frame_beside_its_seconds():
    assert find_model("veo3").frames(8) == 192


def test_veo_goes_to_the_workers_without_a_gpu_and_says_what_it_needs():
    veo = find_model("veo3")
    assert veo.topic == TOPIC_REMOTE
    assert {model.topic for model in WAN} == {TOPIC_GPU}
    assert "section vertex" in veo.how_to_get(veo.default_preset)


@every_model
def test_sizes_can_be_encoded_and_rendered(model):
    # yuv420p halves both sides; the transformer takes latents in patches of two by two.
    for size in model.resolutions.values():
        assert size.width % 2 == size.height % 2 == 0
    assert model.native_size.width % 16 == model.native_size.height % 16 == 0


@every_model
def test_a_render_ends_before_a_push_delivery_would(model):
    assert 0 < model.max_render_seconds < PUSH_SECONDS


@every_model
def test_a_duration_outside_the_models_limits_is_refused(model):
    model.check_duration(model.min_duration_seconds)
    model.check_duration(model.max_duration_seconds)
    for duration in (model.min_duration_seconds - 1, model.max_duration_seconds + 1, -1):
        with pytest.raises(InvalidRequest) as caught:
            model.check_duration(duration)
        assert caught.value.field == "duration"


@every_model
def test_an_unknown_resolution_is_refused_with_what_is_offered(model):
    with pytest.raises(InvalidRequest, match=r"240p, 480p") as caught:
        model.output_size("8k")
    assert caught.value.field == "resolution"


@every_wan
def test_every_preset_says_what_it_is_and_what_it_needs(model):
    for name, preset in model.presets.items():
        assert preset.description
        assert preset.vram_gb > 0
        assert 0 <= preset.guided_steps <= preset.steps
        # A scale of 1 guides nothing, so a guided step has a larger one.
        assert (preset.guidance_scale > 1) == (preset.guided_steps > 0)
        if preset.scheduler == "dmd":
            assert len(preset.timesteps) == preset.steps
            assert list(preset.timesteps) == sorted(preset.timesteps, reverse=True)
        else:
            assert preset.timesteps == ()
        advice = model.how_to_get(name)
        made_here = "python -m training" if model.packaged else "make-demo-model"
        assert (preset.checkpoint or made_here) in advice


def test_the_presets_of_wan_cost_what_is_said_of_them():
    presets = find_model("wan2.1").presets

    assert {name: preset.forwards for name, preset in presets.items()} == {
        "reference": 100,
        "balanced": 45,
        "fast": 3,
        "preview": 3,
    }
    assert [name for name, preset in presets.items() if preset.decoder == "tiny"] == ["preview"]


def test_only_the_few_step_presets_need_the_distilled_checkpoint():
    for preset in find_model("wan2.1").presets.values():
        distilled = preset.checkpoint == "FastVideo/FastWan2.1-T2V-1.3B-Diffusers"
        assert distilled == (preset.scheduler == "dmd")


def test_the_demo_offers_the_same_presets_but_for_the_tiny_decoder_s():
    presets = find_model("wan2.1-demo").presets

    assert list(presets) == ["reference", "balanced", "fast"]
    assert {preset.checkpoint for preset in presets.values()} == {None}


def test_a_size_reads_as_people_write_it():
    assert str(find_model("wan2.1").output_size("480p")) == "832x480"


def test_the_catalog_cannot_be_changed():
    with pytest.raises(TypeError):
        CATALOG["wan2.1"] = None
