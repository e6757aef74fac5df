"""The traces that the configuration asks for."""

from shared.config_sections import Telemetry
from shared.errors import ConfigurationError
from shared.telemetry.traces import Traces


def traces_of(telemetry: Telemetry, *, service: str, project: str | None) -> Traces:
    """Those of a process by this name. Raises ``ConfigurationError`` if they cannot be kept."""
    if telemetry.traces == "off":
        return Traces()
    # Here, not above: it takes a third of a second to import, and need not be installed.
    try:
        from shared.telemetry.exporting import exported_traces  # noqa: PLC0415
    except ImportError as error:
        reason = f"{telemetry.traces} needs `pip install 'promptreel[telemetry]'`"
        raise ConfigurationError(None, [("telemetry.traces", reason)]) from error
    return exported_traces(telemetry, service=service, project=project)
