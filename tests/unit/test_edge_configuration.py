"""deploy/edge/ and the configuration's defaults: what both say must agree."""

import re

from services.api.limits import WEBHOOK_MAX_BYTES, largest_body
from shared.config import Config
from shared.config_sections import Http3
from tests.dockerfiles import ROOT

EDGE = ROOT / "deploy/edge"
CONFIG = Config()


def sizes():
    """What a body may have, by location; the server's own under None."""
    found, place = {}, None
    for line in (EDGE / "angie.conf").read_text().splitlines():
        if location := re.search(r"location = (\S+) \{", line):
            place = location[1]
        if size := re.search(r"client_max_body_size (\w+);", line):
            found[place] = size[1]
    return found


def test_a_body_that_the_api_takes_is_not_refused_before_it():
    limits, images = CONFIG.limits, CONFIG.images
    assert sizes() == {
        None: "1m",
        "/api/v1/generations": str(largest_body(CONFIG)),
        "/v1/videos": str(limits.body_max_bytes + images.input_max_bytes),
    }
    assert max(limits.body_max_bytes, WEBHOOK_MAX_BYTES) <= 1024 * 1024


def test_a_caller_may_wait_as_long_as_the_api_lets_it():
    (seconds,) = re.findall(r"proxy_read_timeout (\d+)s;", (EDGE / "proxy.conf").read_text())
    assert int(seconds) > CONFIG.generate.wait_seconds


def test_it_leads_to_where_the_api_is():
    text = (EDGE / "angie.conf").read_text()
    assert f"server 127.0.0.1:{CONFIG.server.port};" in text
    assert f"server 127.0.0.1:{Http3.model_fields['port'].default};" in text
