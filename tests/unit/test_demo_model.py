import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from diffusers import WanPipeline
from transformers import T5Tokenizer

from services.gpu_worker.engine import demo_network
from services.gpu_worker.engine.demo_model import MARKER, make_demo_model
from shared.errors import ConfigurationError

REPOSITORY = Path(__file__).parents[2]


def _digests(directory: Path) -> dict[str, str]:
    return {
        str(file.relative_to(directory)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(directory.rglob("*"))
        if file.is_file()
    }


def test_the_same_seed_gives_the_same_bytes_in_every_file(demo_model_dir, tmp_path):
    make_demo_model(tmp_path / "again")

    assert _digests(tmp_path / "again") == _digests(demo_model_dir)


def test_another_seed_gives_other_weights(demo_model_dir, tmp_path):
    make_demo_model(tmp_path / "other", seed=1)

    first, other = _digests(demo_model_dir), _digests(tmp_path / "other")
    weights = [name for name in first if name.endswith(".safetensors")]
    assert len(weights) == 5  # three of the model, two of its companion
    assert all(first[name] != other[name] for name in weights)


def test_plain_diffusers_loads_and_runs_it(demo_model_dir):
    pipeline = WanPipeline.from_pretrained(demo_model_dir, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    frames = pipeline("a red ball", height=48, width=80, num_frames=5, num_inference_steps=1).frames

    assert frames.shape == (1, 5, 48, 80, 3)


def test_its_layout_is_that_of_the_real_model(demo_model_dir):
    index = json.loads((demo_model_dir / "model_index.json").read_text())

    parts = {name: value[1] for name, value in index.items() if isinstance(value, list)}
    assert index["_class_name"] == "WanPipeline"
    assert parts == {
        "scheduler": "UniPCMultistepScheduler",
        "text_encoder": "UMT5EncoderModel",
        "tokenizer": "T5Tokenizer",  # what transformers 5 calls T5TokenizerFast
        "transformer": "WanTransformer3DModel",
        "transformer_2": None,
        "vae": "AutoencoderKLWan",
    }
    scheduler = json.loads((demo_model_dir / "scheduler/scheduler_config.json").read_text())
    assert scheduler["prediction_type"] == "flow_prediction"
    assert scheduler["flow_shift"] == 3.0


def test_known_words_are_one_token_each_and_others_are_spelled(demo_model_dir):
    tokenizer = T5Tokenizer.from_pretrained(demo_model_dir / "tokenizer", local_files_only=True)

    assert tokenizer.tokenize("A red circle, zyx") == [
        *("▁A", "▁red", "▁circle", ","),
        *("▁", "z", "y", "x"),
    ]


def test_a_model_that_is_there_is_kept_without_importing_torch(demo_model_dir):
    # In a process of its own: this one has torch already.
    program = (
        "import sys; from pathlib import Path;"
        "from services.gpu_worker.engine.demo_model import make_demo_model;"
        "make_demo_model(Path(sys.argv[1]), report=print);"
        "print('torch' in sys.modules)"
    )
    before = (demo_model_dir / MARKER).stat().st_mtime_ns

    result = subprocess.run(
        [sys.executable, "-c", program, str(demo_model_dir)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )

    assert result.stdout.splitlines() == ["The demo model is already there.", "False"]
    assert (demo_model_dir / MARKER).stat().st_mtime_ns == before


def test_an_interrupted_build_leaves_nothing(tmp_path, monkeypatch):
    save = demo_network.save_demo_pipeline

    def save_and_be_interrupted(directory, *, seed):
        save(directory, seed=seed)
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_network, "save_demo_pipeline", save_and_be_interrupted)

    with pytest.raises(KeyboardInterrupt):
        make_demo_model(tmp_path / "models" / "demo")

    assert list((tmp_path / "models").iterdir()) == []


def test_an_outdated_demo_model_is_replaced(demo_model_dir, tmp_path):
    directory = tmp_path / "demo"
    directory.mkdir()
    (directory / MARKER).write_text('{"version": 0, "seed": 0}')
    (directory / "left-over").touch()

    make_demo_model(directory)

    assert _digests(directory) == _digests(demo_model_dir)
    assert [entry.name for entry in tmp_path.iterdir()] == ["demo"]


def test_a_directory_with_anything_else_in_it_is_refused_and_untouched(tmp_path):
    (tmp_path / "thesis.txt").write_text("ten years of work")

    with pytest.raises(ConfigurationError, match="something else than a demo model"):
        make_demo_model(tmp_path)

    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_empty_directory_is_filled(demo_model_dir, tmp_path):
    make_demo_model(tmp_path / "empty")  # the parent exists
    (tmp_path / "made").mkdir()

    make_demo_model(tmp_path / "made")

    assert (tmp_path / "made" / MARKER).is_file()
