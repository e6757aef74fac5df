"""`promptreel weights`: a model's files by their digests. What is done is in services/gpu_worker/weights.py."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from services.cli.exits import told_plainly
from services.cli.output import console

commands = typer.Typer(
    no_args_is_help=True, help="A model's files: of one commit of the hub, by their digests."
)

Manifest = Annotated[Path, typer.Argument(metavar="MANIFEST", help="What `record` has written.")]
Directory = Annotated[Path, typer.Argument(metavar="DIRECTORY", help="Where the files are to be.")]


@commands.command()
def record(
    repository: Annotated[
        str, typer.Argument(metavar="REPOSITORY", help="Of the Hugging Face hub, as OWNER/NAME.")
    ],
    commit: Annotated[str, typer.Argument(metavar="COMMIT", help="All 40 digits of it.")],
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="The file to write.")],
) -> None:
    """Write down which files a commit has, with their digests; fetches only the small ones."""
    with _told():
        from services.gpu_worker.weights import record as run

        recorded = run(repository, commit, manifest)
    gigabytes = sum(file.size for file in recorded.files.values()) / 1e9
    console().print(f"{len(recorded.files)} files, {gigabytes:.1f} GB: {manifest}")


@commands.command()
def fetch(manifest: Manifest, directory: Directory) -> None:
    """Download the files of a manifest, and check every byte. What is there already is not fetched again."""
    with _told():
        from services.gpu_worker.weights import fetch as run

        run(manifest, directory)
    console().print("[green]Every file is as the manifest says.[/]")


@commands.command()
def check(manifest: Manifest, directory: Directory) -> None:
    """Read every file and compare it with the manifest. Exits 2 if one is damaged, missing or too many."""
    with _told():
        from services.gpu_worker.weights import check as run

        run(manifest, directory)
    console().print("[green]Every file is as the manifest says.[/]")


@contextmanager
def _told() -> Iterator[None]:
    with told_plainly(console()):
        try:
            from services.gpu_worker.weights import WeightsRefused
        except ModuleNotFoundError:
            from shared.errors import ModelUnavailable

            raise ModelUnavailable("This needs the worker: install promptreel[worker].") from None
        try:
            yield
        except WeightsRefused as reason:
            from shared.errors import ModelUnavailable

            raise ModelUnavailable(str(reason)) from None
