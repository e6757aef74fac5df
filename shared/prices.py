"""What a second of a machine costs: the one place where a price is written down."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Price:
    """Of a worker's whole machine, while it is there: also while it starts and while it waits."""

    machine: str
    device: str  # as torch names it
    usd_a_second: float
    noted_on: str  # prices change, and nothing here looks them up
    source: str


L4_PRICE = Price(
    machine="Cloud Run, 4 vCPU, 16 GiB, one NVIDIA L4",
    device="NVIDIA L4",
    usd_a_second=0.00029,
    noted_on="2026-11-21",
    source="cloud.google.com/run/pricing: GPU, CPU and memory taken together, rounded",
)
PRICES = (L4_PRICE,)


def price_of(device: str) -> Price | None:
    """None for a device whose price nobody has looked up: then there is no cost to be told."""
    return next((price for price in PRICES if price.device == device), None)


def usd(seconds: float, price: Price) -> float:
    return seconds * price.usd_a_second
