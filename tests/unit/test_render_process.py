"""Over real pipes, with the demo model: what the supervisor sees of the render process."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from services.gpu_worker.protocol import (
    Cancel,
    Denoised,
    Load,
    LoadFailed,
    LogLine,
    Progress,
    Ready,
    RenderCanceled,
    Rendered,
)
from tests.unit.render_process_under_test import ENDINGS, PROMPT, REPOSITORY, orders, start


@pytest.fixture(scope="module")
def load(demo_model_dir):
    return Load(model="wan2.1-demo", model_dir=demo_model_dir, device="cpu", dtype="auto")


@pytest.fixture(scope="module")
def loaded(load, tmp_path_factory):
    """One process with the model in memory, for the tests that leave it usable."""
    with start(tmp_path_factory.mktemp("process")) as child:
        child.send(load)
        assert isinstance(child.next_event(), Ready)
        yield child


@pytest.fixture
def order(tmp_path):
    return orders(tmp_path)


def test_it_loads_and_then_renders_what_it_is_told(load, order, tmp_path):
    render = order()
    with start(tmp_path) as child:
        child.send(load, render)
        ready, *events = child.events_until(*ENDINGS)

    assert isinstance(ready, Ready)
    assert ready.device == "cpu"
    assert ready.load_seconds > 0
    *reports, rendered = events
    assert isinstance(rendered, Rendered)
    assert all(event.job_id == render.job_id for event in events)
    assert {type(event) for event in reports} == {Progress, LogLine, Denoised}
    files = {path for path in render.work_dir.iterdir() if path.is_file()}
    assert {file.path for file in rendered.files} == files - {render.work_dir / "plan.json"}


def test_the_same_order_gives_the_same_file(loaded, order):
    first, second = order(), order()

    loaded.send(first, second)
    loaded.events_until(*ENDINGS)
    loaded.events_until(*ENDINGS)

    videos = [(render.work_dir / "final_video.mp4").read_bytes() for render in (first, second)]
    assert videos[0] == videos[1]


def test_a_cancel_stops_a_render_between_two_steps_and_the_next_one_goes_well(loaded, order):
    endless, next_one = order(steps=1000), order()
    loaded.send(endless)
    while loaded.next_event() != Progress(
        job_id=endless.job_id, phase="generation", fraction=3 / 1002, step=3, steps=1000
    ):
        pass

    loaded.send(Cancel(job_id=endless.job_id), next_one)

    assert loaded.events_until(*ENDINGS)[-1] == RenderCanceled(job_id=endless.job_id)
    assert isinstance(loaded.events_until(*ENDINGS)[-1], Rendered)
    assert [path.name for path in endless.work_dir.iterdir()] == ["plan.json"]


def test_a_render_canceled_while_it_waits_is_ended_at_once_and_not_begun(loaded, order):
    first, waiting = order(steps=1000), order()

    loaded.send(first, waiting)
    loaded.events_until(Progress)
    loaded.send(Cancel(job_id=waiting.job_id))

    assert loaded.events_until(*ENDINGS)[-1] == RenderCanceled(job_id=waiting.job_id)
    loaded.send(Cancel(job_id=first.job_id))
    rest = loaded.events_until(*ENDINGS)
    assert rest[-1] == RenderCanceled(job_id=first.job_id)
    assert {event.job_id for event in rest} == {first.job_id}


def test_two_clips_at_once_are_byte_for_byte_what_each_is_alone(loaded, order):
    prompts = {"prompt": "a green square", "seed": 2, "frames": 9}
    alone, alone_too = order(), order(**prompts)
    for command in (alone, alone_too):
        loaded.send(command)
        loaded.events_until(*ENDINGS)
    # Decoded and encoded beside the other one, before it and after it.
    beside = [order(), order(**prompts), order(), order(**prompts)]

    loaded.send(*beside)
    events = [event for _ in beside for event in loaded.events_until(*ENDINGS)]

    endings = [event for event in events if isinstance(event, ENDINGS)]
    assert [event.job_id for event in endings] == [command.job_id for command in beside]
    assert all(isinstance(event, Rendered) for event in endings)
    first_words = [job_ids_of(events).index(command.job_id) for command in beside]
    assert any(
        begun < events.index(end) for begun, end in zip(first_words[1:], endings, strict=False)
    )
    for command, same in zip(beside, [alone, alone_too] * 2, strict=True):
        assert files_of(command) == files_of(same)
    assert files_of(alone) != files_of(alone_too)


def job_ids_of(events):
    return [event.job_id for event in events]


def files_of(command):
    return {path.name: path.read_bytes() for path in command.work_dir.rglob("*") if path.is_file()}


def test_a_cancel_for_another_job_or_an_old_attempt_changes_nothing(loaded, order):
    render = order()

    loaded.send(Cancel(job_id="another"), Cancel(job_id=render.job_id), render)

    assert isinstance(loaded.events_until(*ENDINGS)[-1], Rendered)


def test_a_refused_order_says_whose_fault_it_is_and_the_next_one_goes_well(loaded, order):
    loaded.send(order(output_width=127), order())

    failed = loaded.events_until(*ENDINGS)[-1]
    assert (failed.code, failed.retry) == ("invalid_request", False)
    assert "must be even" in failed.message
    assert isinstance(loaded.events_until(*ENDINGS)[-1], Rendered)


def test_a_crash_in_a_render_is_told_without_prompt_or_path_and_survived(loaded, order, tmp_path):
    loaded.send(order(work_dir=tmp_path / "does-not-exist"), order())

    failed = loaded.events_until(*ENDINGS)[-1]
    assert (failed.code, failed.retry) == ("render_crashed", True)
    assert "/" not in failed.message
    assert PROMPT not in failed.message
    assert isinstance(loaded.events_until(*ENDINGS)[-1], Rendered)


def test_a_missing_model_is_told_with_how_to_get_it(load, tmp_path):
    with start(tmp_path) as child:
        child.send(load.model_copy(update={"model_dir": tmp_path / "nowhere"}))
        (failed,) = child.events_until(LoadFailed)
        code = child.process.wait(timeout=10)

    assert "make-demo-model" in failed.message
    assert str(tmp_path) not in failed.message
    assert code == 1
    assert str(tmp_path / "nowhere") in (tmp_path / "stderr").read_text()  # for the operator


def test_the_end_of_input_ends_it_even_in_the_middle_of_a_render(load, order, tmp_path):
    with start(tmp_path) as child:
        child.send(load, order(steps=1000))
        child.events_until(Progress)
        child.process.stdin.close()
        closed = time.monotonic()

        assert child.process.wait(timeout=10) == 0
        assert time.monotonic() - closed < 1


def test_sigterm_ends_it_even_in_the_middle_of_a_render(load, order, tmp_path):
    with start(tmp_path) as child:
        child.send(load, order(steps=1000))
        child.events_until(Progress)
        child.process.terminate()
        told = time.monotonic()

        assert child.process.wait(timeout=10) == -signal.SIGTERM
        assert time.monotonic() - told < 1


def test_a_ctrl_c_is_left_to_the_supervisor(loaded, order):
    loaded.send(order(steps=20))
    loaded.events_until(Progress)
    loaded.process.send_signal(signal.SIGINT)

    assert isinstance(loaded.events_until(*ENDINGS)[-1], Rendered)


def test_what_libraries_print_does_not_get_into_the_channel(load, order, tmp_path):
    """Into sys.stdout, into descriptor 1, and from a process of their own."""
    program = tmp_path / "noisy.py"
    program.write_text(
        textwrap.dedent(
            """
            import os, subprocess, sys
            from services.gpu_worker import render_process
            quiet_begin = render_process.begin

            def noisy_begin(*arguments, **options):
                print("noise from print")
                sys.stdout.flush()
                os.write(1, b"noise from a C library\\n")
                subprocess.run(["sh", "-c", "cat; echo noise from a child"], check=True)
                return quiet_begin(*arguments, **options)

            render_process.begin = noisy_begin
            sys.exit(render_process.main())
            """
        )
    )
    launcher = f"import sys, runpy; sys.path.insert(0, '.'); runpy.run_path({str(program)!r})"
    with start(tmp_path, program=("-c", launcher)) as child:
        child.send(load, order())
        events = child.events_until(*ENDINGS)

    assert isinstance(events[-1], Rendered)
    noise = (tmp_path / "stderr").read_text()
    assert all(f"noise from {who}" in noise for who in ("print", "a C library", "a child"))


def test_a_traceback_goes_to_standard_error_without_the_prompt(load, order, tmp_path):
    program = tmp_path / "failing.py"
    program.write_text(
        textwrap.dedent(
            """
            import sys
            from services.gpu_worker import render_process

            def failing_begin(command, *_, **__):
                raise ValueError(f"cannot make sense of {command.prompt!r}")

            render_process.begin = failing_begin
            sys.exit(render_process.main())
            """
        )
    )
    launcher = f"import sys, runpy; sys.path.insert(0, '.'); runpy.run_path({str(program)!r})"
    with start(tmp_path, program=("-c", launcher)) as child:
        child.send(load, order())
        failed = child.events_until(*ENDINGS)[-1]

    assert failed.code == "render_crashed"
    stderr = (tmp_path / "stderr").read_text()
    assert "ValueError: cannot make sense of '[prompt]'" in stderr
    assert PROMPT not in stderr


@pytest.mark.parametrize(
    "error",
    [
        "MemoryError()",
        "torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.')",
        "RuntimeError('DefaultCPUAllocator: can\\'t allocate memory: you tried to allocate 9 bytes')",
    ],
    ids=["of Python", "of the GPU", "of the machine"],
)
def test_a_render_without_memory_says_so(load, order, tmp_path, error):
    program = tmp_path / "hungry.py"
    program.write_text(
        textwrap.dedent(
            f"""
            import sys
            from services.gpu_worker import render_process

            def hungry_begin(*_, **__):
                import torch
                raise {error}

            render_process.begin = hungry_begin
            sys.exit(render_process.main())
            """
        )
    )
    launcher = f"import sys, runpy; sys.path.insert(0, '.'); runpy.run_path({str(program)!r})"
    with start(tmp_path, program=("-c", launcher)) as child:
        child.send(load, order())
        failed = child.events_until(*ENDINGS)[-1]

    assert (failed.code, failed.message) == ("render_crashed", "The render ran out of memory.")


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels have no such list")
def test_the_kernel_is_offered_the_render_process_before_the_worker(loaded):
    score = Path(f"/proc/{loaded.process.pid}/oom_score_adj").read_text()

    assert int(score) == 1000


@pytest.mark.parametrize("first", [b"Hello?\n", b'{"type": "render"}\n'])
def test_a_line_that_is_no_command_ends_it(tmp_path, first):
    with start(tmp_path) as child:
        child.process.stdin.write(first)
        child.process.stdin.flush()

        assert child.process.wait(timeout=10) == 2
        assert "no command" in (tmp_path / "stderr").read_text()


@pytest.mark.parametrize("library", ["torch", "httpx"])
def test_nothing_heavy_is_imported_before_a_model_is_ordered(library):
    program = f"import sys, services.gpu_worker.render_process; print({library!r} in sys.modules)"

    result = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )

    assert result.stdout == "False\n"
