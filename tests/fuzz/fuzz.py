"""Has atheris look for bytes that a target does not take as it should: ``make fuzz MINUTES=10``.

python tests/fuzz/fuzz.py                       all targets, MINUTES over all of them
python tests/fuzz/fuzz.py envelope              one of them
python tests/fuzz/fuzz.py envelope FILE         once, with what is in a file
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOUND = ROOT / "out" / "fuzz"
# Parts of others are looked into only where they read what strangers send.
LOOKED_INTO = [
    "services",
    "shared",
    "werkzeug.formparser",
    "werkzeug.sansio.multipart",
    "google.auth.jwt",
]


def main() -> int:
    sys.path.insert(0, str(ROOT))
    match sys.argv[1:]:
        case []:
            return all_targets()
        case [name]:
            fuzz(name, seconds())
        case [name, file]:
            from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - only where it is needed

            TARGETS[name].try_it(Path(file).read_bytes())
            print("Nothing is wrong with it.")
    return 0


def all_targets() -> int:
    """One after the other, in processes of their own; all of them, also after one was broken."""
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - only where it is needed

    broken = []
    for name in TARGETS:
        each = str(max(1, seconds() // len(TARGETS)))
        print(f"{name}: {each} s", flush=True)
        done = subprocess.run(
            [sys.executable, __file__, name],
            env={**os.environ, "FUZZ_SECONDS": each},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            text=True,
            errors="replace",
        )
        told = done.stdout.splitlines()
        print(
            next((f"  {line}" for line in reversed(told) if line.startswith("Done ")), ""),
            flush=True,
        )
        if done.returncode:
            broken.append(name)
            print("\n".join(told[-60:]))
            file = next(
                (line.rpartition("written to ")[2] for line in told if "written to " in line), ""
            )
            print(f"Again: {sys.executable} tests/fuzz/fuzz.py {name} {file}", flush=True)
    print(f"Broken: {', '.join(broken)}" if broken else "Nothing was found.")
    return bool(broken)


def seconds() -> int:
    if given := os.environ.get("FUZZ_SECONDS"):
        return int(given)
    return int(float(os.environ.get("MINUTES", "5")) * 60)


def fuzz(name: str, limit_seconds: int) -> None:
    """Does not return: atheris ends the process."""
    import atheris  # noqa: PLC0415 - before what it looks into

    with atheris.instrument_imports(include=LOOKED_INTO):
        from tests.fuzz.targets import TARGETS, keep_quiet  # noqa: PLC0415 - see above

    keep_quiet()
    corpus = FOUND / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(TARGETS[name].seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [
        f"-max_total_time={limit_seconds}",
        f"-artifact_prefix={FOUND}/{name}-",
        "-timeout=20",
        "-rss_limit_mb=4096",
        "-max_len=8192",
        "-verbosity=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], TARGETS[name].try_it)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
