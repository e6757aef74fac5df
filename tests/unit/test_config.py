"""promptreel.yaml: what it may say, what is refused and how, and the one merge."""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from shared.config import (
    Config,
    build_effective_config,
    find_config,
    load_config,
)
from shared.errors import ConfigurationError, InvalidRequest

FILE = Path(__file__).parents[2] / "config" / "promptreel.yaml"


@pytest.fixture
def write(tmp_path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        file = tmp_path / "promptreel.yaml"
        file.write_text(text, encoding="utf-8")
        return file

    return write


def refused(file: Path) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load_config(file)
    assert caught.value.file == file
    assert str(file) in caught.value.message
    return caught.value


def keys_of(section: BaseModel) -> dict[str, object]:
    """The keys a section has, and those of the sections in it."""
    return {
        name: keys_of(value) if isinstance(value, BaseModel) else None
        for name in type(section).model_fields
        for value in [getattr(section, name)]
    }


# --- the file that documents it


def test_the_documented_values_are_the_defaults_but_for_where_things_are_kept():
    documented, default = load_config(FILE), load_config(None)
    root = FILE.parents[1]
    assert documented.data_dir == root / ".promptreel"
    assert documented.output_dir == root / "out"
    assert documented.server.key_file == root / ".promptreel" / "keys.json"
    for name, files in documented.models.items():
        if files.dir is None:
            assert default.models[name].dir is None
            continue
        assert files.dir == root / "models" / default.models[name].dir.name
        if files.image_to_video is not None:
            assert files.image_to_video == files.dir / default.models[name].image_to_video.name
    same_places = documented.model_copy(
        update={
            "data_dir": default.data_dir,
            "output_dir": default.output_dir,
            "models": default.models,
            "server": documented.server.model_copy(update={"key_file": default.server.key_file}),
        }
    )
    assert same_places == default
    assert list(documented.models) == list(default.models)


def test_every_key_is_documented_in_the_order_of_the_model():
    written = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    known = keys_of(Config())
    assert list(written) == list(known)
    for name, keys in known.items():
        if keys is not None:
            assert list(written[name]) == list(keys), name


def test_without_a_file_the_users_own_data_folder_is_used():
    config = load_config(None)
    assert config.data_dir.is_absolute()
    assert "promptreel" in config.data_dir.parts
    assert config.dir_of("wan2.1-demo").is_relative_to(config.data_dir.parent)
    assert (config.model_dir / "model_index.json").is_file()


def test_an_empty_file_means_the_defaults(write):
    for text in ("", "# nothing\n", "{}"):
        config = load_config(write(text))
        assert config.worker == Config().worker
        assert config.render == Config().render


def test_a_file_may_change_one_key_and_keep_the_others(write):
    config = load_config(write("worker:\n  max_attempts: 9\n"))
    assert config.worker.max_attempts == 9
    assert config.worker.lease_seconds == Config().worker.lease_seconds


def test_a_limit_that_is_null_is_none(write):
    config = load_config(write("limits: {queued_per_model: null, in_flight_per_owner: 1}"))
    assert config.limits.queued_per_model is None
    assert config.limits.in_flight_per_owner == 1
    assert config.limits.queued_per_owner == Config().limits.queued_per_owner


# --- what is refused


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("sever: {}", "sever", "not permitted"),
        ("server: {prot: 1}", "server.prot", "not permitted"),
        ("server: {port: http}", "server.port", "integer"),
        ("server: {port: '8000'}", "server.port", "integer"),
        ("server: {port: true}", "server.port", "integer"),
        ("server: {port: 65536}", "server.port", "65535"),
        ("server: {threads: 0}", "server.threads", "greater than 0"),
        ("server: {public_url: video.example.com}", "server.public_url", "pattern"),
        ("server: 8000", "server", "dictionary"),
        ("server:", "server", "dictionary"),
        ("profile: aws", "profile", "local"),
        ("prompt: 7", "prompt", "string"),
        ("prompt: 2026-01-31", "prompt", "string"),
        ("data_dir: 7", "data_dir", "path"),
        ("limits: {prompt_max_chars: -1}", "limits.prompt_max_chars", "greater than 0"),
        ("limits: {body_max_bytes: 1.5}", "limits.body_max_bytes", "integer"),
        ("limits: {queued_per_model: 0}", "limits.queued_per_model", "greater than 0"),
        ("limits: {in_flight_per_owner: many}", "limits.in_flight_per_owner", "integer"),
        ("render: {model: sora}", "", "render.model: 'sora' is not in the catalog"),
        (
            "render: {preset: best}",
            "",
            "render.preset: wan2.1-shapes offers balanced, fast, reference",
        ),
        (
            "render: {model: wan2.1, preset: preview}",
            "",
            "models.wan2.1.tiny_decoder: render.preset preview needs it",
        ),
        (
            "models: {wan2.1-demo: {dir: m, tiny_decoder: 7}}",
            "models.wan2.1-demo.tiny_decoder",
            "path",
        ),
        ("render: {resolution: 4k}", "", "render.resolution: This model offers"),
        ("render: {resolution: 480}", "render.resolution", "string"),
        (
            "render: {duration_seconds: 6}",
            "",
            "render.duration_seconds: The duration must be 1 to 5",
        ),
        ("render: {duration_seconds: 0}", "render.duration_seconds", "greater than 0"),
        ("render: {seed: -1}", "render.seed", "greater than or equal to 0"),
        ("render: {device: tpu}", "render.device", "pattern"),
        ("render: {dtype: int8}", "render.dtype", "float32"),
        ("render: {model: veo3}", "", "render.model: 'veo3' is not in the catalog (wan2.1, "),
        ("render: {frames: 80}", "", "render.frames: give a multiple of 4, plus one, of 81"),
        ("render: {frames: 85}", "", "render.frames: give a multiple of 4, plus one, of 81"),
        ("render: {steps: 0}", "render.steps", "greater than 0"),
        ("render: {preset: fast, steps: 8}", "", "render.steps: the preset fast was made for 4"),
        ("render: {preset: fast, guidance_scale: 5}", "", "render.guidance_scale: the preset fast"),
        ("render: {guidance_scale: 0.5}", "render.guidance_scale", "greater than or equal to 1"),
        ("default_backend: sora", "default_backend", "'wan2.1' or 'veo3'"),
        ("default_backend: veo3", "", "vertex.project: default_backend asks Google's Vertex AI"),
        ("fallback_backend: veo3", "", "vertex.project: fallback_backend asks Google's"),
        ("fallback_backend: wan2.1", "", "fallback_backend: wan2.1 is the default already"),
        ("planner: gemini-2.5-flash", "", "vertex.project: planner asks Google's Vertex AI"),
        ("planner: gpt-5", "planner", "pattern"),
        (
            "{generation_mode: keyframe, image_generation_model: gemini-2.5-flash-image}",
            "",
            "vertex.project: image_generation_model asks Google's",
        ),
        ("generation_mode: both", "generation_mode", "'single', 'keyframe' or 'chaining'"),
        ("segments: 0", "segments", "greater than or equal to 1"),
        ("segments: 101", "segments", "less than or equal to 100"),
        ("image_size: big", "image_size", "pattern"),
        ("reference_images: [a.png, b.png, c.png, d.png]", "reference_images", "at most 3"),
        (
            "{generation_mode: chaining, crossfade_seconds: 2.5}",
            "",
            "crossfade_seconds: must be less than half of render.duration_seconds",
        ),
        (
            "{generation_mode: chaining, render: {preset: fast}}",
            "",
            "render.preset: fast renders single clips only; generation_mode chaining needs",
        ),
        (
            "{generation_mode: keyframe, render: {model: wan2.1-demo}, models: {wan2.1-demo: {dir: m}}}",
            "",
            "models.wan2.1-demo.image_to_video: generation_mode keyframe needs a model",
        ),
        ("vertex: {location: ../x}", "vertex.location", "pattern"),
        ("vertex: {veo_model: Veo 3}", "vertex.veo_model", "pattern"),
        ("vertex: {output_gcs_uri: /clips}", "vertex.output_gcs_uri", "pattern"),
        ("vertex: {max_retries: -1}", "vertex.max_retries", "greater than or equal to 0"),
        ("vertex: {poll_seconds: 0}", "vertex.poll_seconds", "greater than 0"),
        ("worker: {backend: tpu}", "worker.backend", "'wan2.1' or 'veo3'"),
        ("{models: {}, render: {model: wan2.1-demo}}", "", "add wan2.1-demo.dir"),
        ("{models: {wan2.1-demo: {}}, render: {model: wan2.1-demo}}", "", "add wan2.1-demo.dir"),
        ("worker: {lease_seconds: -5}", "worker.lease_seconds", "greater than 0"),
        ("worker: {lease_seconds: .inf}", "worker.lease_seconds", "less than or equal"),
        ("worker: {lease_seconds: .nan}", "worker.lease_seconds", ""),
        ("worker: {lease_seconds: 8, heartbeat_seconds: 5}", "worker", "half of lease_seconds"),
        ("worker: {max_attempts: 1.5}", "worker.max_attempts", "integer"),
        ("worker: {jobs_at_once: 0}", "worker.jobs_at_once", "greater than or equal to 1"),
        ("worker: {jobs_at_once: 5}", "worker.jobs_at_once", "less than or equal to 4"),
        ("queue: {max_deliveries: many}", "queue.max_deliveries", "integer"),
        ("artifacts: {bucket: My Bucket}", "artifacts.bucket", "pattern"),
        ("artifacts: {bucket: ..}", "artifacts.bucket", "pattern"),
        ("artifacts: {prefix: /videos}", "artifacts.prefix", "pattern"),
        ("artifacts: {prefix: ../videos}", "artifacts.prefix", "pattern"),
        ("artifacts: {link_seconds: 9999999}", "artifacts", "above link_max_seconds"),
        ("retention: {artifact_days: 99}", "retention", "above job_days"),
        ("retention: {job_days: 99999999}", "retention.job_days", "less than or equal"),
        ("1: 2", "1", "string"),
    ],
)
def test_a_bad_value_is_refused_with_its_key_and_the_reason(write, text, key, reason):
    problems = refused(write(text)).problems
    assert [found for found, _ in problems] == [key]
    assert reason in problems[0][1]


def test_all_bad_values_are_told_at_once(write):
    error = refused(write("sever: 1\nserver: {port: x}\nworker: {lease_seconds: -1}\n"))
    assert {key for key, _ in error.problems} == {"sever", "server.port", "worker.lease_seconds"}


@pytest.mark.parametrize(
    "text",
    ["server: [", "a: b: c", "\tserver: 1", "prompt: 2026-13-45", "[" * 5000, "x: !!python/none 1"],
)
def test_a_file_that_is_not_yaml_is_refused(write, text):
    assert "is not YAML" in refused(write(text)).message


@pytest.mark.parametrize("text", ["- server", "local", "7"])
def test_a_file_that_is_no_mapping_is_refused(write, text):
    assert "must be a mapping" in refused(write(text)).message


def test_a_file_in_another_encoding_is_refused(tmp_path):
    file = tmp_path / "promptreel.yaml"
    file.write_bytes("prompt: été".encode("latin-1"))
    assert "is not YAML" in refused(file).message


def test_a_missing_file_is_refused(tmp_path):
    assert "does not exist" in refused(tmp_path / "missing.yaml").message


def test_a_folder_is_no_configuration(tmp_path):
    assert "cannot be read" in refused(tmp_path).message


def test_the_longest_times_allowed_are_still_dates(write):
    text = "worker: {lease_seconds: 1000000000}\nretention: {artifact_days: 36500, job_days: 36500}"
    config = load_config(write(text))
    datetime.now(UTC) + timedelta(seconds=config.worker.lease_seconds)
    datetime.now(UTC) + timedelta(days=config.retention.job_days)


# --- paths


def test_relative_paths_are_relative_to_the_file(tmp_path, write, monkeypatch):
    file = write("data_dir: ../data\nmodels: {wan2.1-shapes: {dir: m}}\nserver: {key_file: k.json}")
    monkeypatch.chdir("/")
    config = load_config(file)
    assert config.data_dir == tmp_path.parent / "data"
    assert config.model_dir == tmp_path / "m"
    assert config.server.key_file == tmp_path.parent / "data" / "k.json"


def test_a_tiny_decoder_is_a_file_relative_to_the_configuration(tmp_path, write, monkeypatch):
    text = "models: {wan2.1: {dir: m, tiny_decoder: t.safetensors}}"
    file = write(text + "\nrender: {model: wan2.1, preset: preview}")
    monkeypatch.chdir("/")
    assert load_config(file).tiny_decoder == tmp_path / "t.safetensors"


def test_no_tiny_decoder_is_needed_where_the_full_one_shows(write):
    assert load_config(write("render: {model: wan2.1, preset: fast}")).tiny_decoder is None


def test_a_file_named_relatively_means_the_same(tmp_path, write, monkeypatch):
    file = write("data_dir: data")
    monkeypatch.chdir(tmp_path)
    assert load_config(Path(file.name)) == load_config(file)


def test_absolute_paths_stay(write):
    config = load_config(write("data_dir: /srv/data\nserver: {key_file: /etc/keys.json}"))
    assert (config.data_dir, config.server.key_file) == (Path("/srv/data"), Path("/etc/keys.json"))


def test_the_named_file_is_used_else_the_first_that_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    named = Path("named.yaml")
    assert find_config(None) is None
    (tmp_path / "promptreel.yaml").touch()
    assert find_config(None) == Path("promptreel.yaml")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "promptreel.yaml").touch()
    assert find_config(None) == Path("config/promptreel.yaml")
    assert find_config(named) == named


# --- the merge


WITH_PROMPT = Config(prompt="from the file")
CLI = {"prompt": "from the command line"}
HTTP = {"prompt": "from HTTP"}


@pytest.mark.parametrize(
    ("base", "cli", "http", "prompt"),
    [
        pytest.param(WITH_PROMPT, None, None, "from the file", id="file only"),
        pytest.param(WITH_PROMPT, CLI, None, "from the command line", id="file and CLI"),
        pytest.param(WITH_PROMPT, None, HTTP, "from HTTP", id="file and HTTP"),
        pytest.param(WITH_PROMPT, CLI, HTTP, "from HTTP", id="all three"),
        pytest.param(Config(), CLI, HTTP, "from HTTP", id="CLI and HTTP"),
        pytest.param(WITH_PROMPT, {"prompt": None}, {}, "from the file", id="nothing said"),
    ],
)
def test_http_wins_over_the_command_line_and_that_over_the_file(base, cli, http, prompt):
    effective = build_effective_config(base, cli, http)
    assert effective.prompt == prompt
    assert effective.config == base


def test_the_command_line_may_override_other_keys_too_and_only_for_its_run():
    said = CLI | {"generation_mode": "chaining", "segments": 2, "crossfade_seconds": None}
    effective = build_effective_config(WITH_PROMPT, said, HTTP)
    config = effective.config
    assert (effective.prompt, config.generation_mode, config.segments) == (
        "from HTTP",
        "chaining",
        2,
    )
    assert (WITH_PROMPT.generation_mode, WITH_PROMPT.segments) == ("single", 3)
    assert config.model_dump(exclude={"generation_mode", "segments"}) == WITH_PROMPT.model_dump(
        exclude={"generation_mode", "segments"}
    )


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"segments": 0}, "segments"),
        ({"default_backend": "veo3"}, "vertex.project"),
        ({"x": 1}, "x"),
    ],
)
def test_what_the_command_line_says_is_checked_like_the_file(said, reason):
    with pytest.raises(ConfigurationError, match=reason):
        build_effective_config(WITH_PROMPT, said)


# --- one line to switch


LONG = """
generation_mode: keyframe
image_generation_model: gemini-2.5-flash-image-preview
image_size: 1024x1024
vertex: {project: my-project}
"""


@pytest.mark.parametrize(
    ("backend", "model"), [("wan2.1", "wan2.1-shapes"), ("veo3", "veo3")], ids=["wan2.1", "veo3"]
)
def test_the_backend_is_switched_by_one_line(write, backend, model):
    config = load_config(write(f"default_backend: {backend}\n{LONG}"))
    assert (config.model_name, config.worker_model) == (model, model)
    assert config.backends == (backend,)


def test_a_worker_may_have_another_backend_than_the_default(write):
    text = "fallback_backend: veo3\nworker: {backend: veo3}\nvertex: {project: my-project}"
    config = load_config(write(text))
    assert (config.model_name, config.worker_model) == ("wan2.1-shapes", "veo3")
    assert config.backends == ("wan2.1", "veo3")


def test_vertex_ai_is_asked_by_the_project_of_the_whole_unless_it_names_its_own(write):
    gcp = "default_backend: veo3\ngcp: {project: the-whole}\n"
    assert load_config(write(gcp)).vertex_access.project == "the-whole"
    own = gcp + "vertex: {project: its-own}"
    assert load_config(write(own)).vertex_access.project == "its-own"
    by_key = load_config(write(gcp + "vertex: {api_key_file: key.txt}")).vertex_access
    assert by_key.project is None
    assert by_key.api_key_file.is_absolute()


def test_who_draws_the_keyframes_is_gemini_where_the_video_model_cannot(write):
    assert load_config(write("generation_mode: keyframe")).painter is None
    veo = "default_backend: veo3\nvertex: {project: my-project}\n"
    assert load_config(write(veo)).painter == "gemini-2.5-flash-image"
    named = load_config(write(veo + "image_generation_model: gemini-3-pro-image"))
    assert named.painter == "gemini-3-pro-image"


def test_what_begins_with_a_picture_is_loaded_only_for_long_videos(tmp_path, write):
    assert load_config(write("")).image_to_video_dir is None
    models = "models: {wan2.1-shapes: {dir: m, image_to_video: i}}\ngeneration_mode: chaining"
    assert load_config(write(models)).image_to_video_dir == tmp_path / "i"


def test_a_run_without_any_prompt_is_refused():
    for cli, http in itertools.product([None, {}, {"prompt": None}], repeat=2):
        with pytest.raises(InvalidRequest) as caught:
            build_effective_config(Config(), cli, http)
        assert caught.value.field == "prompt"


@pytest.mark.parametrize("field", ["duration", "model", "data_dir", "Prompt"])
def test_http_can_override_nothing_but_the_prompt(field):
    with pytest.raises(InvalidRequest) as caught:
        build_effective_config(WITH_PROMPT, None, {**HTTP, field: "x"})
    assert caught.value.field == field
    assert field in caught.value.message


def test_a_merge_writes_nothing_back(write):
    file = write("prompt: from the file\n")
    before = file.read_bytes()
    base, cli, http = load_config(file), dict(CLI), dict(HTTP)
    build_effective_config(base, cli, http)
    assert (base, cli, http) == (load_config(file), CLI, HTTP)
    assert file.read_bytes() == before
