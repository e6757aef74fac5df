"""What docs/images.md tells people to type is typed here, and answered as it says there."""

import shutil

import pytest
import yaml

from services.emulators.replicate import replicate_server
from services.emulators.replicate_script import NeverEnds, Succeeds
from shared.config import load_config
from tests.journey.picture_installation import install_images, on_this_machine
from tests.journey.typed_page import Page

PAGE = Page("images.md")


@pytest.mark.skipif(
    shutil.which("curl") is None, reason="the page is about curl, which is not here"
)
def test_the_page_about_pictures_says_what_happens(tmp_path, demo_model_dir):
    with replicate_server(seconds=0.5, polls=None) as provider:
        # The page cancels its second order before that has begun.
        provider.script.next(Succeeds())
        provider.script.next(NeverEnds(starts=False))
        installation = install_images(tmp_path, demo_model_dir, provider)
        installation.config["plans"] = yaml.safe_load(PAGE.blocks("yaml")[0])["plans"]
        with on_this_machine(installation) as (client, _):
            typed = PAGE.type_it(
                tmp_path,
                URL=installation.url,
                AUTH=f"Authorization: {client.headers['Authorization']}",
            )
    assert typed >= 10
    picture = (tmp_path / "boat.jpg").read_bytes()
    assert picture.startswith(b"\xff\xd8\xff")


def test_the_pages_configuration_is_one(tmp_path):
    (tmp_path / "promptreel.yaml").write_text(PAGE.blocks("yaml")[0])
    config = load_config(tmp_path / "promptreel.yaml")
    assert config.plans["pro"].images_in_flight == 4
    assert config.images.replicate.api_token_file == tmp_path / "replicate.token"
