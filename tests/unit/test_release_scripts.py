"""The scripts of a release, with programs in place of Google's that write down what they are asked."""

import json
import os
import shlex
import shutil
import subprocess

import pytest

from tests.dockerfiles import ROOT

DIGEST = "sha256:" + "5" * 64


@pytest.fixture
def release(tmp_path):
    """Runs scripts of the folder that stands for /workspace."""
    folder = tmp_path / "workspace"
    shutil.copytree(ROOT / "deploy", folder / "deploy")
    for script in (folder / "deploy").glob("*.sh"):
        script.write_text(script.read_text().replace("/workspace", str(folder)))
    programs = tmp_path / "programs"
    programs.mkdir()
    return Release(folder, programs)


class Release:
    def __init__(self, folder, programs):
        self.folder, self._programs = folder, programs
        self._asked = folder.parent / "asked"

    def has(self, program, *, fails=(), says=""):
        """A program that succeeds unless its arguments begin so."""
        cases = "".join(f'case "$*" in {shlex.quote(each)}*) exit 1;; esac\n' for each in fails)
        file = self._programs / program
        file.write_text(
            f'#!/bin/sh\necho "{program} $*" >> {self._asked}\n{cases}'
            f"printf %s {shlex.quote(says)}\n"
        )
        file.chmod(0o755)

    def run(self, script, *arguments, code=0, **environment):
        done = subprocess.run(
            ["sh", f"deploy/{script}", *map(str, arguments)],
            cwd=self.folder,
            env={"PATH": f"{self._programs}:{os.environ['PATH']}", **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done

    @property
    def asked(self):
        return self._asked.read_text().splitlines() if self._asked.exists() else []


def test_a_release_that_has_passed_stays(release):
    release.has("gcloud")
    (release.folder / "passed").touch()
    release.run(
        "roll_back.sh", "us-central1", release.folder / "none.csv", release.folder / "passed"
    )
    assert release.asked == []


def test_one_that_has_not_is_taken_back_service_by_service_and_fails(release):
    release.has("gcloud")
    revisions = release.folder / "revisions.csv"
    # The last line of what gcloud prints may have no end; the third service is new.
    revisions.write_text(
        "reel-api,reel-api-00007\nreel-new,\nreel-gpu-worker,reel-gpu-worker-00003\n"
    )
    release.run("roll_back.sh", "us-central1", revisions, release.folder / "passed", code=1)
    taken_back = "gcloud run services update-traffic"
    assert release.asked == [
        f"{taken_back} reel-api --region us-central1 --to-revisions reel-api-00007=100",
        f"{taken_back} reel-gpu-worker --region us-central1 --to-revisions reel-gpu-worker-00003=100",
    ]


def test_one_service_that_cannot_be_taken_back_keeps_no_other_from_it(release):
    release.has("gcloud", fails=["run services update-traffic reel-api"])
    revisions = release.folder / "revisions.csv"
    revisions.write_text("reel-api,reel-api-00007\nreel-courier,reel-courier-00003\n")
    release.run("roll_back.sh", "us-central1", revisions, release.folder / "passed", code=1)
    assert "reel-courier-00003=100" in release.asked[-1]


def test_images_are_named_by_the_digests_they_were_pushed_with(release):
    release.has("docker")
    environment = {"REGISTRY": "r/p/reel", "RELEASE": "b1", "REVISION": "c0ffee", "BUILDKIT": "b:1"}
    for name in ("api", "gpu-worker", "remote-worker"):
        (release.folder / f"{name}.json").write_text(
            json.dumps({"buildx.build.ref": "x", "containerimage.digest": DIGEST}, indent=2)
        )
        release.run("build.sh", name, "services/api/Dockerfile", "api", **environment)
    (release.folder / "root").mkdir()
    release.run("name_images.sh", "root", "gpu-worker")
    named = json.loads((release.folder / "root/images.auto.tfvars.json").read_text())
    assert named == {
        "images": {
            "api": f"r/p/reel/api@{DIGEST}",
            "gpu_worker": f"r/p/reel/gpu-worker@{DIGEST}",
            "remote_worker": f"r/p/reel/remote-worker@{DIGEST}",
        }
    }
    (built,) = [line for line in release.asked if "--tag r/p/reel/gpu-worker:b1 --push" in line]
    assert "--cache-to type=registry,ref=r/p/reel/cache:gpu-worker,mode=max" in built


def test_an_image_without_a_digest_is_none(release):
    release.has("docker")
    (release.folder / "api.json").write_text("{}")
    environment = {"REGISTRY": "r", "RELEASE": "b1", "REVISION": "c", "BUILDKIT": "b:1"}
    release.run("build.sh", "api", "services/api/Dockerfile", "api", code=1, **environment)
    assert not (release.folder / "api.image").exists()


def test_a_snapshot_is_baked_once_by_each_image(release):
    (release.folder / "bake.image").write_text(f"r/bake@{DIGEST}\n")
    bake = ("bake.sh", "reel-bake", "us-central1", "wan2.1", "reel-builds", "--text-float8")
    release.has("gcloud", fails=["storage ls"])
    release.run(*bake)
    kept = f"wan2.1-{'5' * 64}"
    job = "reel-bake --region us-central1"
    arguments = f"/models/wan2.1,/snapshots/{kept},--model,wan2.1,--text-float8"
    assert release.asked[1:] == [
        f"gcloud run jobs update {job} --image r/bake@{DIGEST} --args {arguments}",
        "gcloud run jobs execute reel-bake --region us-central1 --wait",
        f"gcloud storage cp --recursive gs://reel-builds/{kept}/* {release.folder}/snapshot/",
    ]
    release.has("gcloud")
    release.run(*bake)
    assert len([line for line in release.asked if "jobs execute" in line]) == 1


def test_a_job_that_fails_ends_the_build(release):
    (release.folder / "bake.image").write_text(f"r/bake@{DIGEST}\n")
    release.has("gcloud", fails=["storage ls", "run jobs execute"])
    release.run("bake.sh", "reel-bake", "us-central1", "wan2.1", "reel-builds", code=1)
    assert not any("storage cp" in line for line in release.asked)


def test_terraform_keeps_its_state_in_the_bucket_whatever_the_folder_says(release):
    release.has("terraform")
    (release.folder / "root").mkdir()
    release.run("terraform.sh", "root", "p-terraform", "plan", "-out=x")
    assert release.asked == [
        "terraform -chdir=root init -input=false -backend-config=bucket=p-terraform",
        "terraform -chdir=root plan -out=x",
    ]
    assert 'backend "gcs"' in (release.folder / "root/backend_override.tf").read_text()


def test_only_images_are_made_when_nothing_is_to_be_released(release):
    release.has("gcloud")
    release.run("when.sh", "false", "gcloud", "run")
    assert release.asked == []
    release.run("when.sh", "true", "gcloud", "run")
    assert release.asked == ["gcloud run"]
