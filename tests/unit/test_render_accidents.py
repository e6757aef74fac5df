"""Whatever a render does costs one attempt of its job, never the worker."""

from dataclasses import replace

import anyio
import pytest

from shared.catalog import CATALOG
from shared.job import JobStatus
from shared.wiring import wire
from tests.unit.consumer_under_test import (
    quick_config,
    receive,
    render_processes,
    stored_files,
    submit,
    working,
    working_files,
)

IMPATIENT = {"wan2.1-demo": replace(CATALOG["wan2.1-demo"], max_render_seconds=3)}


@pytest.fixture
def wiring(tmp_path):
    wired = wire(quick_config(tmp_path, memory_limit_mb=200))
    yield wired
    wired.close()


@pytest.mark.parametrize(
    ("accident", "code", "message"),
    [
        ("crash", "render_crashed", "ended unexpectedly"),
        ("exit", "render_crashed", "ended unexpectedly"),
        ("mute", "render_crashed", "ended unexpectedly"),
        ("babble", "render_crashed", "ended unexpectedly"),
        ("gush", "render_crashed", "ended unexpectedly"),
        ("dream", "render_crashed", "ended unexpectedly"),
        ("unload", "render_crashed", "ended unexpectedly"),
        ("devour", "render_crashed", "ran out of memory (its limit is 200 MB)"),
        ("hang", "render_timed_out", "longer than 3 seconds"),
        ("deaf", "render_timed_out", "longer than 3 seconds"),
        ("freeze", "render_timed_out", "longer than 3 seconds"),
        ("flood", "render_timed_out", "longer than 3 seconds"),
    ],
)
def test_an_accident_costs_one_attempt_and_the_next_job_is_rendered(
    wiring, tmp_path, accident, code, message
):
    unlucky = submit(wiring, accident)

    async def main():
        async with working(wiring, tmp_path, catalog=IMPATIENT) as consumer:
            with anyio.fail_after(60):
                await consumer.consume(receive(wiring))
                after = wiring.store.get(unlucky.id)
                assert (after.status, after.attempt) == (JobStatus.QUEUED, 1)
                assert after.error.code == code
                assert message in after.error.message
                assert not working_files(tmp_path)
                assert not stored_files(wiring)
                wiring.lifecycle.cancel(unlucky.id, owner="ada")
                next_one = submit(wiring, "ok")
                while wiring.store.get(next_one.id).status is JobStatus.QUEUED:
                    # As a worker does: no claim before the model is loaded again.
                    await consumer._supervisor.wait_ready()
                    if (delivery := receive(wiring)) is not None:
                        await consumer.consume(delivery)
                    await anyio.sleep(0.02)
        finished = wiring.store.get(next_one.id)
        assert (finished.status, finished.attempt) == (JobStatus.FINISHED, 1)

    anyio.run(main, backend="trio")
    assert not render_processes()
