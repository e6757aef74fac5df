import signal
import subprocess
import sys
from pathlib import Path

from services.gpu_worker.workspace import job_folder, open_workspace

ROOT = Path(__file__).parents[2]
HOLD = """
import sys
from pathlib import Path
from services.gpu_worker.workspace import job_folder, open_workspace
with open_workspace(Path(sys.argv[1]), instance=sys.argv[2]) as workspace:
    with job_folder(workspace, "job_1") as folder:
        (folder / "frames").write_text("half")
        print("holding", flush=True)
        sys.stdin.read()
"""


def hold(root, instance):
    """Another worker, in the middle of a job."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, root, instance],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"holding\n"
    return process


def end(process, number):
    process.send_signal(number)
    process.communicate()


def test_nothing_is_left_of_a_worker_that_ends(tmp_path):
    with open_workspace(tmp_path, instance="w1") as workspace:
        with job_folder(workspace, "job_1") as folder:
            (folder / "frames").write_text("done")
        assert list(workspace.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


def test_the_next_worker_removes_what_a_killed_one_left(tmp_path):
    end(hold(tmp_path, "killed"), signal.SIGKILL)
    assert (tmp_path / "killed" / "job_1" / "frames").exists()
    with open_workspace(tmp_path, instance="next"):
        assert {path.name for path in tmp_path.iterdir()} == {"next", "next.lock"}


def test_of_a_killed_worker_is_told_what_it_was_at_and_of_one_that_lives_nothing(tmp_path):
    living = hold(tmp_path, "living")
    end(hold(tmp_path, "killed"), signal.SIGKILL)
    told = []
    try:
        with open_workspace(
            tmp_path, instance="next", gone=lambda *worker_and_job: told.append(worker_and_job)
        ):
            assert told == [("killed", "job_1")]
    finally:
        end(living, signal.SIGKILL)


def test_a_worker_that_lives_keeps_its_folder(tmp_path):
    living = hold(tmp_path, "living")
    try:
        with open_workspace(tmp_path, instance="next"):
            assert (tmp_path / "living" / "job_1" / "frames").read_text() == "half"
    finally:
        end(living, signal.SIGKILL)


def test_a_second_attempt_starts_with_an_empty_folder(tmp_path):
    with open_workspace(tmp_path, instance="w1") as workspace:
        (workspace / "job_1").mkdir()
        (workspace / "job_1" / "frames").write_text("of the first attempt")
        with job_folder(workspace, "job_1") as folder:
            assert list(folder.iterdir()) == []
