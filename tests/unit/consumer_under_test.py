"""A consumer with a real store and queue and a scripted render process, as its tests use it."""

import math
import os
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import psutil
from anyio import to_thread

from services.gpu_worker.consumer import Consumer
from services.gpu_worker.memory import memory_limit_bytes
from services.gpu_worker.protocol import Load
from services.gpu_worker.supervisor import Supervisor
from shared.catalog import CATALOG, TOPIC_GPU
from shared.config import Config
from shared.job import JobStatus
from shared.submission import Submission

SCRIPT = Path(__file__).with_name("scripted_render_process.py")


def quick_config(folder: Path, **worker) -> Config:
    """Short leases and little patience."""
    patience = {"lease_seconds": 2, "heartbeat_seconds": 0.5, "grace_seconds": 0.3}
    return Config.model_validate(
        {
            "data_dir": folder / "state",
            "render": {"model": "wan2.1-demo"},
            "worker": {**patience, "max_attempts": 2, **worker},
            "queue": {"visibility_seconds": 2, "backoff_min_seconds": 0.01},
        }
    )


def submit(wiring, prompt, **said):
    submission = Submission(owner="ada", prompt=prompt, request_id="r1", body={"prompt": prompt})
    return wiring.lifecycle.submit(replace(submission, **said))


def receive(wiring):
    return wiring.queue.receive([TOPIC_GPU], wait_seconds=0)


@asynccontextmanager
async def working(wiring, tmp_path, catalog=CATALOG, longest_render_seconds=math.inf):
    """A consumer with a scripted render process, ready to render."""
    load = Load(model="wan2.1-demo", model_dir=Path("nowhere"), device="cpu", dtype="auto")
    supervisor = Supervisor(
        load,
        load_timeout_seconds=5,
        grace_seconds=wiring.config.worker.grace_seconds,
        memory_limit_bytes=memory_limit_bytes(wiring.config.worker.memory_limit_mb),
        command=(sys.executable, str(SCRIPT)),
    )
    workspace = tmp_path / "work"
    workspace.mkdir(exist_ok=True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supervisor.run)
        with anyio.fail_after(10):
            await supervisor.wait_ready()
        yield Consumer(
            wiring,
            supervisor,
            instance="w1",
            workspace=workspace,
            catalog=catalog,
            longest_render_seconds=longest_render_seconds,
        )
        tasks.cancel_scope.cancel()


def let_go(tmp_path, job):
    """Let a render that waits for it be finished."""
    (tmp_path / "work" / job.id / "go").touch()


def consume(wiring, tmp_path, **working_with):
    """See the next message through."""

    async def main():
        async with working(wiring, tmp_path, **working_with) as consumer:
            with anyio.fail_after(20):
                await consumer.consume(receive(wiring))

    anyio.run(main, backend="trio")


def consume_while(wiring, tmp_path, disturb, *, ends=False):
    """See the next message through while something else happens to its job.

    With ``ends``, the worker ends right after that, whatever has become of the message.
    """

    async def main():
        async with working(wiring, tmp_path) as consumer, anyio.create_task_group() as tasks:
            tasks.start_soon(consumer.consume, receive(wiring))
            with anyio.fail_after(20):
                await disturb(consumer)
            if ends:
                tasks.cancel_scope.cancel()

    anyio.run(main, backend="trio")


async def until(wiring, job_id, condition):
    with anyio.fail_after(10):
        while not condition(await to_thread.run_sync(wiring.store.get, job_id)):
            await anyio.sleep(0.02)


def is_rendering(job):
    return job.status is JobStatus.PROGRESS


async def cancel(wiring, job):
    await to_thread.run_sync(partial(wiring.lifecycle.cancel, job.id, owner="ada"))


def stored_files(wiring):
    """What the artifact store holds, half-written files included."""
    folder = wiring.config.data_dir / "artifacts"
    # os.walk, which does not mind that a folder goes while it is walked.
    return sorted(name for _, _, names in os.walk(folder) for name in names)


def working_files(tmp_path):
    return [*(tmp_path / "work").iterdir()]


def render_processes():
    """Those this test has started and that live, or are left as zombies."""
    return [
        child
        for child in psutil.Process().children()
        if child.status() == psutil.STATUS_ZOMBIE or str(SCRIPT) in child.cmdline()
    ]


async def eventually(condition):
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.02)
