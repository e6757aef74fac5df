"""The few things that come from the environment."""

from pathlib import Path

import pytest

from shared.errors import ConfigurationError
from shared.settings import read_settings


def test_an_empty_environment_means_json_logs_and_no_named_file():
    settings = read_settings({})
    assert settings.config_file is None
    assert settings.log_format == "json"


def test_what_the_environment_says_is_used():
    settings = read_settings(
        {"PROMPTREEL_CONFIG": "/etc/p.yaml", "PROMPTREEL_LOG_FORMAT": "console"}
    )
    assert settings.config_file == Path("/etc/p.yaml")
    assert settings.log_format == "console"


def test_an_empty_file_name_is_no_file():
    assert read_settings({"PROMPTREEL_CONFIG": ""}).config_file is None


def test_an_unknown_log_format_is_refused_by_the_variables_name():
    with pytest.raises(ConfigurationError) as caught:
        read_settings({"PROMPTREEL_LOG_FORMAT": "xml"})
    assert "PROMPTREEL_LOG_FORMAT: must be json or console, not 'xml'" in caught.value.message
    assert "defaults" not in caught.value.message


def test_workers_of_one_cloud_run_revision_have_different_names():
    environment = {"K_REVISION": "worker-00007-abc"}
    names = {read_settings(environment).instance for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("worker-00007-abc-") for name in names)


def test_the_port_is_that_of_cloud_run_or_nobodys():
    assert read_settings({"PORT": "8081"}).port == 8081
    assert read_settings({}).port is None
    assert read_settings({"PORT": ""}).port is None


@pytest.mark.parametrize("port", ["0", "65536", "eighty", "-1", "²"])
def test_a_port_that_is_none_is_refused_by_the_variables_name(port):
    with pytest.raises(ConfigurationError, match="PORT: must be 1 to 65535"):
        read_settings({"PORT": port})
