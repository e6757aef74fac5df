"""`promptreel webhook`: where the owner of a key is told that jobs have ended, and what came of it."""

from urllib.parse import quote

from services.cli.connection import connected
from services.cli.job_ids import job_id_of
from services.cli.output import Output
from shared.client.calls import Call
from shared.schemas import Ok
from shared.webhooks.schemas import (
    DeliveryList,
    DeliveryStatus,
    DeliveryView,
    EndpointSecret,
    EndpointView,
)

_PATH = "/v1/webhook"


def set_endpoint(url: str, *, server: str | None, output: Output) -> None:
    call = Call(method="PUT", path=_PATH, reply=EndpointSecret, json={"url": url})
    with connected(server) as client:
        endpoint = client.call(call)
    if endpoint.secret is None:
        output.result(f"told at {endpoint.url}; the secret stays", endpoint.model_dump(mode="json"))
        return
    output.remark(f"You are told at {endpoint.url}. Keep the secret: it is not shown again.")
    output.result(endpoint.secret, endpoint.model_dump(mode="json"))


def show_endpoint(*, server: str | None, output: Output) -> None:
    with connected(server) as client:
        endpoint = client.read(_PATH, EndpointView)
    if endpoint.disabled_at is not None:
        output.remark(
            f"Its receiver said on {endpoint.disabled_at.astimezone():%Y-%m-%d %H:%M} that it is gone: "
            f"nothing is sent. `promptreel webhook set {endpoint.url}` has it sent again."
        )
    output.result(endpoint.url, endpoint.model_dump(mode="json"))


def replace_secret(*, server: str | None, output: Output) -> None:
    with connected(server) as client:
        endpoint = client.call(
            Call(
                method="POST",
                path=f"{_PATH}/secret",
                reply=EndpointSecret,
                # A second one would take the place of one that nobody has seen.
                repeatable=False,
            )
        )
    output.remark("For a day, the old secret signs, too. Keep this one: it is not shown again.")
    output.result(endpoint.secret or "", endpoint.model_dump(mode="json"))


def remove_endpoint(*, server: str | None, output: Output) -> None:
    with connected(server) as client:
        client.call(Call(method="DELETE", path=_PATH, reply=Ok))
    output.result("You are told no more.", {"removed": True})


def list_deliveries(
    status: DeliveryStatus | None, limit: int, *, server: str | None, output: Output
) -> None:
    params = {"limit": str(limit)} | ({"status": status} if status else {})
    call = Call(path=f"{_PATH}/deliveries", reply=DeliveryList, params=params)
    with connected(server) as client:
        page = client.call(call)
    if not page.data:
        output.remark("Nothing was told yet. `promptreel webhook set URL` says where to.")
        return
    if not output.as_json:
        output.result(_line("JOB", "STATUS", "TRIES", "ENDED", ""), {})
    for delivery in page.data:
        output.result(_row(delivery), delivery.model_dump(mode="json"))


def retry_delivery(said: str, *, server: str | None, output: Output) -> None:
    with connected(server) as client:
        path = f"{_PATH}/deliveries/{quote(job_id_of(client, said), safe='')}/retry"
        delivery = client.call(Call(method="POST", path=path, reply=DeliveryView, repeatable=False))
    output.result(f"{delivery.job_id} is told once more", delivery.model_dump(mode="json"))


def _row(delivery: DeliveryView) -> str:
    ended = f"{delivery.created_at.astimezone():%Y-%m-%d %H:%M}"
    last = delivery.attempts[-1] if delivery.attempts else None
    remark = "" if last is None else (last.error or str(last.status))
    return _line(delivery.job_id, delivery.status, str(len(delivery.attempts)), ended, remark)


def _line(job_id: str, status: str, tries: str, ended: str, remark: str) -> str:
    return f"{job_id:<36}  {status:<9}  {tries:>5}  {ended:<16}  {remark}".rstrip()
