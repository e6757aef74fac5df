"""A prompt of the command line and the same one over HTTP are the same video."""

import pytest

from services.cli import pipeline
from services.gpu_worker.orders import render_command
from shared.catalog import find_model
from shared.config import Config, build_effective_config
from shared.submission import Submission
from shared.wiring import wire
from tests.unit.production_under_test import FakeModel, Notebook, first_half

PROMPT = "A red circle. It moves to the left. Then it grows."


@pytest.mark.parametrize("mode", ["single", "keyframe", "chaining"])
def test_the_command_line_and_http_give_the_same_plan(tmp_path, mode):
    config = Config.model_validate(
        {
            "data_dir": tmp_path / "state",
            "prompt": "something else",
            "generation_mode": mode,
            "crossfade_seconds": 0.25,
            "render": {"seed": 7, "duration_seconds": 1, "resolution": "240p", "steps": 4},
        }
    )
    by_cli = pipeline._job(build_effective_config(config, cli={"prompt": PROMPT}))
    wiring = wire(config)
    try:
        by_http = wiring.lifecycle.submit(
            Submission(
                owner="ada",
                request_id="r1",
                body={"prompt": PROMPT},
                prompt=build_effective_config(config, http={"prompt": PROMPT}).prompt,
            )
        )
    finally:
        wiring.close()

    assert by_cli.request == by_http.request
    assert plan_of(by_cli, tmp_path / "cli") == plan_of(by_http, tmp_path / "http")
    assert PROMPT.encode() in plan_of(by_cli, tmp_path / "cli") or mode != "single"


def plan_of(job, folder):
    folder.mkdir(exist_ok=True)
    model = find_model(job.request.model)
    first_half(render_command(job.id, job.request, model, folder), FakeModel(), Notebook())
    return (folder / "plan.json").read_bytes()
