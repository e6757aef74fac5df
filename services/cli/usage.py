"""`promptreel usage`: what is left of the month."""

from services.cli.connection import connected
from services.cli.output import Output
from shared.images.schemas import UsageView


def usage(*, server: str | None, output: Output) -> None:
    with connected(server) as client:
        month = client.read("/api/v1/usage", UsageView)
    output.result(
        f"{month.used} of {month.limit} pictures used in {month.month} (plan {month.plan}); "
        f"more from {month.resets_at:%Y-%m-%d}",
        month.model_dump(mode="json"),
    )
