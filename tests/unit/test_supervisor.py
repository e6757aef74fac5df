import os
import signal
import sys
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import psutil
import pytest

from services.gpu_worker.protocol import Load, LogLine, Progress, Render
from services.gpu_worker.supervisor import Supervisor, supervisor_of
from shared.config import Config
from shared.errors import ModelUnavailable, PromptRefused, RenderCrashed

MEGABYTE = 1024**2
GIGABYTE = 1024**3
SCRIPT = Path(__file__).with_name("scripted_render_process.py")


def load(device: str = "cpu", model_dir: Path = Path("nowhere")) -> Load:
    return Load(model="wan2.1-demo", model_dir=model_dir, device=device, dtype="auto")


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
async def running(
    grace_seconds: float = 0.3,
    memory_limit_bytes: int = GIGABYTE,
    model_dir: Path = Path("nowhere"),
):
    supervisor = Supervisor(
        load(model_dir=model_dir),
        load_timeout_seconds=5,
        grace_seconds=grace_seconds,
        memory_limit_bytes=memory_limit_bytes,
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


def test_a_render_that_takes_too_much_memory_is_told_the_limit_and_the_next_one_works(tmp_path):
    async def main():
        async with running(memory_limit_bytes=200 * MEGABYTE) as supervisor:
            with (
                anyio.fail_after(20),
                pytest.raises(RenderCrashed, match=r"out of memory.* 200 MB"),
            ):
                await supervisor.render(render("devour", tmp_path), lambda _event: None)
            with anyio.fail_after(10):
                await supervisor.render(render("ok", tmp_path), lambda _event: None)

    on_trio(main)


def test_a_render_that_somebody_else_killed_is_said_to_have_been(tmp_path):
    async def main():
        async with running() as supervisor:
            (pid,) = child_pids()

            def kill(event):
                if isinstance(event, Progress):
                    os.kill(pid, signal.SIGKILL)

            with pytest.raises(RenderCrashed, match="killed, most likely because memory"):
                await supervisor.render(render("slow", tmp_path), kill)

    on_trio(main)


def test_a_stopped_render_leaves_no_process_of_its_own(tmp_path):
    async def main():
        async with running() as supervisor, anyio.create_task_group() as tasks:
            spawned = anyio.Event()

            def listen(event):
                if isinstance(event, LogLine) and event.text == "spawned":
                    spawned.set()

            tasks.start_soon(supervisor.render, render("spawn", tmp_path), listen)
            with anyio.fail_after(10):
                await spawned.wait()
            grandchild = psutil.Process(int((tmp_path / "pid").read_text()))
            supervisor.end()
            tasks.cancel_scope.cancel()
        with anyio.fail_after(10):
            while grandchild.is_running() and grandchild.status() != psutil.STATUS_ZOMBIE:
                await anyio.sleep(0.02)

    on_trio(main)


def test_an_answer_given_twice_is_not_taken_for_the_next_renders(tmp_path):
    async def main():
        async with running() as supervisor:
            await supervisor.render(render("stutter", tmp_path), lambda _event: None)
            next_one = render("refuse", tmp_path).model_copy(update={"job_id": "job_2"})
            with pytest.raises(PromptRefused):
                await supervisor.render(next_one, lambda _event: None)

    on_trio(main)


def test_a_process_that_dies_while_it_loads_is_followed_by_one_that_takes_renders(tmp_path):
    async def main():
        (tmp_path / "fragile").touch()
        async with running(model_dir=tmp_path) as supervisor:  # waits until it is ready
            await supervisor.render(render("ok", tmp_path), lambda _event: None)

    on_trio(main)


def test_a_supervisor_at_its_end_kills_a_render_without_asking_it(tmp_path):
    async def main():
        async with running(grace_seconds=60) as supervisor:
            began = anyio.Event()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(
                    supervisor.render, render("deaf", tmp_path), lambda _event: began.set()
                )
                with anyio.fail_after(10):
                    await began.wait()
                    supervisor.end()
                    tasks.cancel_scope.cancel()
            assert not child_pids()
            assert not supervisor.model_loaded

    on_trio(main)


def test_a_model_that_cannot_be_loaded_ends_the_worker_with_the_reason():
    async def main():
        supervisor = Supervisor(
            load(device="cuda"),
            load_timeout_seconds=5,
            grace_seconds=1,
            memory_limit_bytes=GIGABYTE,
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


def test_the_render_process_is_told_the_configured_preset_and_what_it_needs(tmp_path):
    config = Config.model_validate(
        {
            "render": {"model": "wan2.1", "preset": "preview"},
            "models": {"wan2.1": {"dir": Path("/m"), "tiny_decoder": Path("/t.safetensors")}},
        }
    )

    load = supervisor_of(config, scratch=tmp_path)._load

    assert (load.model, load.model_dir) == ("wan2.1", Path("/m"))
    assert (load.preset, load.tiny_decoder) == ("preview", Path("/t.safetensors"))


def test_what_a_render_process_leaves_behind_lies_in_its_workers_folder(tmp_path):
    command = (sys.executable, "-c", "import tempfile; tempfile.mkdtemp(prefix='left-')")

    async def main():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(supervisor_of(Config(), scratch=tmp_path, command=command).run)
            with anyio.fail_after(10):
                while not list(tmp_path.glob("left-*")):
                    await anyio.sleep(0.02)
            tasks.cancel_scope.cancel()

    on_trio(main)
