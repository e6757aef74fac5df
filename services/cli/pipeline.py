"""`promptreel pipeline`: one video from prompt to files, as a worker makes it, without a server.

What is done stays in the output folder, as it is done: a run that was stopped goes on there.
"""

import hashlib
import re
import secrets
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import anyio
import yaml
from rich.console import Console

from services.cli.one_render import render_here
from services.gpu_worker.orders import render_command
from services.gpu_worker.pipeline import parts
from services.gpu_worker.protocol import Rendered
from shared.catalog import find_model
from shared.complete_file import complete_or_absent
from shared.config import EffectiveConfig, for_backend, load_config
from shared.errors import ConfigurationError, PromptreelError
from shared.fallback import fallback_request
from shared.job import Job
from shared.lifecycle import new_job_id
from shared.submission import Submission, settle

CONFIG_NAME = "promptreel.yaml"
# Of a folder's name.
_WORDS, _LETTERS, _DIGITS = 5, 20, 8
# What one backend has made is of no use to another.
_PARTS = (parts.PLAN, parts.KEYFRAMES, parts.SEGMENTS)


def folder_of(effective: EffectiveConfig) -> Path:
    """Where the video goes if nobody says: the same run, the same folder."""
    said = effective.config.model_dump_json() + effective.prompt
    words = re.findall(r"\w+", effective.prompt.lower())[:_WORDS]
    digest = hashlib.sha256(said.encode()).hexdigest()[:_DIGITS]
    name = "-".join([*(word[:_LETTERS] for word in words), digest])
    return effective.config.output_dir / name


def run_pipeline(effective: EffectiveConfig, out: Path, *, console: Console) -> Rendered:
    """Plan, draw, render and stitch into ``out``.

    Raises ``ConfigurationError`` for a folder that holds another video, ``KeyboardInterrupt``,
    and what the render raises.
    """
    effective = _settled(effective, out)
    job = _job(effective)
    while True:
        model = find_model(job.request.model)
        config = for_backend(effective.config, model.backend)
        command = render_command(job.id, job.render, model, out.resolve())
        try:
            return anyio.run(partial(render_here, config, command, console), backend="trio")
        except PromptreelError as error:
            # Nobody tries again here: whoever waits may do so, or has named who takes over.
            tried = replace(job, attempt=job.max_attempts)
            request = fallback_request(tried, error, effective.config)
            if request is None:
                raise
            console.print(f"[yellow]{error.message} {request.model} takes over.[/]")
            _forget_parts(out)
            job = replace(job, request=request, fallen_back_from=job.request.model)


def _settled(effective: EffectiveConfig, out: Path) -> EffectiveConfig:
    """With a seed, written beside the files: the same video again, if its folder is there already."""
    file = out / CONFIG_NAME
    config = effective.config
    before = load_config(file) if file.is_file() else None
    if config.render.seed is None:
        seed = secrets.randbelow(2**32) if before is None else before.render.seed
        render = config.render.model_copy(update={"seed": seed})
        config = config.model_copy(update={"render": render})
    config = config.model_copy(update={"prompt": effective.prompt})
    if before is None and out.is_dir() and any(out.iterdir()):
        raise ConfigurationError(out, [("", "holds other files; name an empty folder as --out")])
    if before is not None and before != config:
        problem = "holds another video, or was begun with another configuration; name another --out"
        raise ConfigurationError(out, [("", problem)])
    out.mkdir(parents=True, exist_ok=True)
    settings = config.model_dump(mode="json")
    with complete_or_absent(file) as written:
        written.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return EffectiveConfig(config=config, prompt=effective.prompt)


def _job(effective: EffectiveConfig) -> Job:
    """The very job that the API would accept, kept by nobody."""
    submission = Submission(
        owner="command line",
        prompt=effective.prompt,
        request_id="command line",
        body={"prompt": effective.prompt},
    )
    return settle(
        submission,
        effective.config,
        job_id=new_job_id(),
        now=datetime.now(UTC),
        new_seed=lambda: secrets.randbelow(2**32),
    )


def _forget_parts(out: Path) -> None:
    for name in _PARTS:
        path = out / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
