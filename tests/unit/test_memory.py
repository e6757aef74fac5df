import subprocess
import sys

import psutil
import pytest

from services.gpu_worker.memory import memory_limit_bytes, used_bytes

MEGABYTE = 1024**2


def machine(root, *, membership, files):
    """A machine's files as far as they tell how much memory there is."""
    for name, text in {"proc/self/cgroup": membership, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_configured_limit_is_taken_as_it_is():
    assert memory_limit_bytes(200) == 200 * MEGABYTE


def test_without_a_container_a_tenth_of_the_machine_is_kept_free(tmp_path):
    total = psutil.virtual_memory().total
    assert memory_limit_bytes(None, root=tmp_path) == pytest.approx(total * 0.9, abs=1)


@pytest.mark.parametrize(
    ("membership", "files"),
    [
        ("0::/\n", {"sys/fs/cgroup/memory.max": "100000000\n"}),
        ("0::/host/path\n", {"sys/fs/cgroup/memory.max": "100000000\n"}),
        (
            "0::/jobs/one\n",
            {
                "sys/fs/cgroup/jobs/one/memory.max": "max\n",
                "sys/fs/cgroup/jobs/memory.max": "100000000\n",
                "sys/fs/cgroup/memory.max": "200000000\n",
            },
        ),
        (
            "5:cpu,cpuacct:/a\n4:memory:/a\n0::/\n",
            {
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "100000000\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
        ),
    ],
    ids=["v2", "v2 seen from inside", "v2 with groups around it", "v1"],
)
def test_in_a_container_the_tightest_limit_counts(tmp_path, membership, files):
    root = machine(tmp_path, membership=membership, files=files)
    assert memory_limit_bytes(None, root=root) == 90_000_000


def test_a_process_that_is_gone_uses_nothing():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert used_bytes(process.pid) == 0


def test_what_a_process_has_taken_is_seen_and_what_it_has_mapped_from_a_file_is_not(tmp_path):
    weights = tmp_path / "weights"
    weights.write_bytes(b"\1" * 60 * MEGABYTE)
    program = (
        "import mmap, sys;"
        "file = open(sys.argv[1], 'rb');"
        "mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ);"
        "sum(mapped[::4096]);"
        "hoard = b'1' * 100 * 1024**2;"
        "print('taken', flush=True);"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(weights)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"taken\n"
        assert psutil.Process(process.pid).memory_info().rss > 160 * MEGABYTE
        assert 100 * MEGABYTE < used_bytes(process.pid) < 150 * MEGABYTE
