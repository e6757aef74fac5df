import sys
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import psutil
import pytest

from services.gpu_worker.protocol import Load, LogLine, Progress, Render
from services.gpu_worker.supervisor import Supervisor
from shared.errors import ModelUnavailable, PromptRefused, RenderCrashed

SCRIPT = Path(__file__).with_name("scripted_render_process.py")


def load(device: str = "cpu") -> Load:
    return Load(model="wan2.1-demo", model_dir=Path("nowhere"), device=device, dtype="auto")


def render(prompt: str, work_dir: Path) -> Render:
    return Render(
        job_id="job_1",
        prompt=prompt,
        negative_prompt="",
        seed=7,
        frames=17,
        fps=16,
        native_width=208,
        native_height=120,
        output_width=416,
        output_height=240,
        steps=2,
        guidance_scale=5.0,
        flow_shift=3.0,
        work_dir=work_dir,
    )


@asynccontextmanager
async def running(grace_seconds: float = 0.3):
    supervisor = Supervisor(
        load(),
        load_timeout_seconds=5,
        grace_seconds=grace_seconds,
        command=(sys.executable, str(SCRIPT)),
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supervisor.run)
        with anyio.fail_after(10):
            await supervisor.wait_ready()
        yield supervisor
        tasks.cancel_scope.cancel()


def on_trio(main: Callable, *args) -> None:
    anyio.run(main, *args, backend="trio")


def child_pids() -> set[int]:
    """The render processes this test started; others' children are none of its business."""
    return {child.pid for child in psutil.Process().children() if str(SCRIPT) in child.cmdline()}


async def cancel_soon_after_it_began(supervisor: Supervisor, command: Render) -> float:
    """Seconds from the cancel to the moment the render has stopped."""
    began = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supervisor.render, command, lambda _event: began.set())
        with anyio.fail_after(5):
            await began.wait()
        cancelled_at = anyio.current_time()
        tasks.cancel_scope.cancel()
    return anyio.current_time() - cancelled_at


def test_a_render_reports_its_progress_and_its_files(tmp_path):
    async def main():
        async with running() as supervisor:
            heard = []
            rendered = await supervisor.render(render("ok", tmp_path), heard.append)
            assert [file.kind for file in rendered.files] == ["video", "poster", "spritesheet"]
            assert [type(event) for event in heard] == [LogLine, Progress]
            assert supervisor.device == "scripted"

    on_trio(main)


def test_a_process_that_dies_costs_one_render_and_the_next_one_works(tmp_path):
    async def main():
        async with running() as supervisor:
            with pytest.raises(RenderCrashed):
                await supervisor.render(render("crash", tmp_path), lambda _event: None)
            assert not supervisor.model_loaded
            with anyio.fail_after(10):
                await supervisor.render(render("ok", tmp_path), lambda _event: None)

    on_trio(main)


def test_what_is_no_event_ends_the_process_not_the_worker(tmp_path):
    async def main():
        async with running() as supervisor:
            with pytest.raises(RenderCrashed):
                await supervisor.render(render("babble", tmp_path), lambda _event: None)
            with anyio.fail_after(10):
                await supervisor.render(render("ok", tmp_path), lambda _event: None)

    on_trio(main)


def test_a_refused_prompt_is_the_requesters_error(tmp_path):
    async def main():
        async with running() as supervisor:
            with pytest.raises(PromptRefused, match="refused"):
                await supervisor.render(render("refuse", tmp_path), lambda _event: None)
            assert supervisor.model_loaded

    on_trio(main)


def test_a_render_that_listens_stops_at_once_and_keeps_its_process(tmp_path):
    async def main():
        async with running(grace_seconds=5) as supervisor:
            before = child_pids()
            seconds = await cancel_soon_after_it_began(supervisor, render("slow", tmp_path))
            assert seconds < 1
            assert supervisor.model_loaded
            assert child_pids() == before

    on_trio(main)


@pytest.mark.parametrize(("prompt", "graces"), [("hang", 1), ("deaf", 2)])
def test_a_render_that_does_not_listen_is_ended_after_the_grace(tmp_path, prompt, graces):
    async def main():
        async with running(grace_seconds=0.3) as supervisor:
            before = child_pids()
            seconds = await cancel_soon_after_it_began(supervisor, render(prompt, tmp_path))
            assert graces * 0.3 <= seconds < graces * 0.3 + 2
            with anyio.fail_after(10):
                await supervisor.render(render("ok", tmp_path), lambda _event: None)
            assert before.isdisjoint(child_pids())

    on_trio(main)


def test_a_model_that_cannot_be_loaded_ends_the_worker_with_the_reason():
    async def main():
        supervisor = Supervisor(
            load(device="cuda"),
            load_timeout_seconds=5,
            grace_seconds=1,
            command=(sys.executable, str(SCRIPT)),
        )
        with pytest.raises(ModelUnavailable, match="no CUDA"):
            await supervisor.run()

    on_trio(main)


def test_a_stopped_supervisor_leaves_no_process():
    async def main():
        async with running():
            assert child_pids()

    on_trio(main)
    assert not child_pids()
