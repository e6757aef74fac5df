"""Several renders in one process: what becomes of one is no business of the others'."""

import os
import signal
from contextlib import asynccontextmanager

import anyio
import pytest

from services.gpu_worker.protocol import Denoised, Progress
from services.gpu_worker.render_outcome import RenderInterrupted
from shared.errors import RenderCrashed
from tests.unit.test_supervisor import MEGABYTE, child_pids, on_trio, render, running


class Rendering:
    """One render in work: what is heard of it, and how it ends."""

    def __init__(self, supervisor, folder, prompt):
        self.folder = folder / f"{prompt}-{len([*folder.iterdir()])}"
        self.folder.mkdir()
        self.command = render(prompt, self.folder).model_copy(
            update={"job_id": f"job_{self.folder.name}"}
        )
        self.heard = []
        self.began = anyio.Event()
        self.denoised = anyio.Event()
        self.over = anyio.Event()
        self.result = self.error = None
        self._supervisor = supervisor
        self._scope = anyio.CancelScope()

    def listen(self, event):
        self.heard.append(event)
        if isinstance(event, Progress):
            self.began.set()
        if isinstance(event, Denoised):
            self.denoised.set()

    async def run(self):
        with self._scope:
            try:
                self.result = await self._supervisor.render(self.command, self.listen)
            except Exception as error:  # noqa: BLE001 - it is what the test asks for
                self.error = error
        self.over.set()

    def cancel(self):
        self._scope.cancel()

    def let_go(self):
        (self.folder / "go").touch()


@asynccontextmanager
async def rendering(tmp_path, *prompts, **options):
    """These renders, each begun when the device was free of the one before."""
    async with running(**options) as supervisor, anyio.create_task_group() as tasks:
        renderings = []
        with anyio.fail_after(30):
            for prompt in prompts:
                if renderings:
                    await renderings[-1].denoised.wait()
                renderings.append(Rendering(supervisor, tmp_path, prompt))
                tasks.start_soon(renderings[-1].run)
                await renderings[-1].began.wait()
            yield supervisor, *renderings
        tasks.cancel_scope.cancel()


def test_a_render_begins_while_the_one_before_is_finished_and_each_hears_only_of_itself(tmp_path):
    async def main():
        async with rendering(tmp_path, "finish", "finish") as (_, first, second):
            assert not first.over.is_set()
            second.let_go()
            await second.over.wait()
            assert not first.over.is_set()
            first.let_go()
            await first.over.wait()
            for each in (first, second):
                assert each.result.job_id == each.command.job_id
                assert {event.job_id for event in each.heard} == {each.command.job_id}
                assert {file.path.parent for file in each.result.files} == {each.folder}

    on_trio(main)


@pytest.mark.parametrize("canceled", [0, 1], ids=["being finished", "being denoised"])
def test_a_cancel_of_one_render_leaves_the_other_running_in_the_same_process(tmp_path, canceled):
    async def main():
        async with rendering(tmp_path, "finish", "finish", grace_seconds=10) as (_, *both):
            before = child_pids()
            both[canceled].cancel()
            await both[canceled].over.wait()
            other = both[1 - canceled]
            assert not other.over.is_set()
            other.let_go()
            await other.over.wait()
            assert other.result is not None
            assert child_pids() == before

    on_trio(main)


@pytest.mark.parametrize(
    ("prompts", "guilty"),
    [(("linger", "slow"), 0), (("finish", "hang"), 1), (("finish", "deaf"), 1)],
    ids=["being finished", "being denoised", "by SIGKILL"],
)
def test_a_process_ended_for_one_render_interrupts_the_other_and_blames_it_for_nothing(
    tmp_path, prompts, guilty
):
    async def main():
        async with rendering(tmp_path, *prompts, grace_seconds=0.2) as (supervisor, *both):
            both[guilty].cancel()
            await both[guilty].over.wait()
            innocent = both[1 - guilty]
            await innocent.over.wait()
            assert isinstance(innocent.error, RenderInterrupted)
            assert not supervisor.model_loaded
            again = Rendering(supervisor, tmp_path, "ok")
            await again.run()
            assert again.result is not None

    on_trio(main)


def test_a_process_that_dies_by_itself_crashes_all_its_renders_also_after_an_interruption(tmp_path):
    async def main():
        async with rendering(tmp_path, "finish", "hang", grace_seconds=0.1) as (
            supervisor,
            first,
            hanging,
        ):
            hanging.cancel()
            await first.over.wait()
            assert isinstance(first.error, RenderInterrupted)
            both = [Rendering(supervisor, tmp_path, prompt) for prompt in ("finish", "slow")]
            async with anyio.create_task_group() as tasks:
                for each in both:
                    tasks.start_soon(each.run)
                    await each.began.wait()
                (pid,) = child_pids()
                os.kill(pid, signal.SIGSEGV)
            assert all(isinstance(each.error, RenderCrashed) for each in both)

    on_trio(main)


def test_what_takes_too_much_memory_is_both_renders_and_both_are_told(tmp_path):
    async def main():
        limit = {"memory_limit_bytes": 200 * MEGABYTE}
        async with rendering(tmp_path, "finish", "devour", **limit) as (_, *both):
            for each in both:
                await each.over.wait()
                assert isinstance(each.error, RenderCrashed)
                assert "out of memory" in each.error.message

    on_trio(main)


def test_a_supervisor_at_its_end_ends_all_renders(tmp_path):
    async def main():
        async with rendering(tmp_path, "linger", "deaf", grace_seconds=60) as (supervisor, *both):
            supervisor.end()
            for each in both:
                await each.over.wait()

    on_trio(main)
