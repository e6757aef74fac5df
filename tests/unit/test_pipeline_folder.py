"""The folder of a video that `promptreel pipeline` makes: found again, and never taken from another."""

from pathlib import Path

import pytest
import yaml

from services.cli.pipeline import _settled, folder_of
from shared.config import Config, EffectiveConfig, load_config
from shared.errors import ConfigurationError

PROMPT = "A red circle; it moves left & grows, slowly"


@pytest.fixture
def effective(tmp_path):
    file = tmp_path / "given.yaml"
    file.write_text("output_dir: out\nsegments: 2\n")
    return EffectiveConfig(config=load_config(file), prompt=PROMPT)


def test_the_same_run_has_the_same_folder_and_another_run_another(effective, tmp_path):
    folder = folder_of(effective)
    assert folder.parent == tmp_path / "out"
    assert folder.name.startswith("a-red-circle-it-moves-")
    assert folder_of(effective) == folder
    others = [
        EffectiveConfig(config=effective.config, prompt=PROMPT + "!"),
        EffectiveConfig(config=Config(output_dir=tmp_path / "out"), prompt=PROMPT),
    ]
    assert folder not in map(folder_of, others)


@pytest.mark.parametrize("prompt", ["x" * 2000, "!?", "../../etc/passwd", "動画 を 作る"])
def test_any_prompt_gives_a_folder_that_can_be_made(effective, tmp_path, prompt):
    folder = folder_of(EffectiveConfig(config=effective.config, prompt=prompt))
    folder.mkdir(parents=True)
    assert folder.parent == tmp_path / "out"


def test_a_run_that_goes_on_has_the_seed_it_began_with(effective, tmp_path):
    out = tmp_path / "video"
    first = _settled(effective, out)
    assert first.config.render.seed is not None
    assert _settled(effective, out) == first


def test_what_is_written_down_makes_the_same_video_again(effective, tmp_path):
    out = tmp_path / "video"
    first = _settled(effective, out)
    again = load_config(out / "promptreel.yaml")
    assert again == first.config
    assert again.prompt == PROMPT
    assert "secret" not in yaml.safe_load((out / "promptreel.yaml").read_text())


@pytest.mark.parametrize("change", [{"segments": 5}, {"generation_mode": "chaining"}])
def test_another_video_is_not_begun_in_the_folder_of_this_one(effective, tmp_path, change):
    out = tmp_path / "video"
    _settled(effective, out)
    before = (out / "promptreel.yaml").read_bytes()
    other = EffectiveConfig(config=effective.config.model_copy(update=change), prompt=PROMPT)
    with pytest.raises(ConfigurationError, match="name another --out"):
        _settled(other, out)
    assert (out / "promptreel.yaml").read_bytes() == before


def test_files_of_others_are_left_alone(effective, tmp_path):
    out = tmp_path / "video"
    out.mkdir()
    (out / "holiday.mp4").touch()
    with pytest.raises(ConfigurationError, match="name an empty folder"):
        _settled(effective, out)
    assert [path.name for path in Path(out).iterdir()] == ["holiday.mp4"]
