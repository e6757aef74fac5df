"""What Google charges in us-central1, in US dollars, without free tiers, discounts or taxes.

A GPU machine's second is in ``shared/prices.py``. Looked up by hand in stored copies of the pages; nothing
notices when one changes.
"""

from dataclasses import dataclass

_DAY = "2026-11-29"
_MILLION = 1e6
_GB = 1e9
_TIB = 2.0**40


@dataclass(frozen=True, kw_only=True)
class UnitPrice:
    usd: float
    per: float  # so many units
    unit: str
    source: str
    noted_on: str = _DAY

    def of(self, units: float) -> float:
        return self.usd * units / self.per


FIRESTORE_READS = UnitPrice(
    usd=0.03,
    per=1e5,
    unit="documents",
    source='airbyte.com/data-engineering-resources/google-firestore-pricing, "US regions": Google\'s own table was not at hand',
)
FIRESTORE_WRITES = UnitPrice(usd=0.09, per=1e5, unit="documents", source=FIRESTORE_READS.source)
FIRESTORE_DELETES = UnitPrice(
    usd=0.02,
    per=1e5,
    unit="documents",
    source="cloud.google.com/firestore/pricing, the multi-region's: the region's was not found, and is no more",
)
PUBSUB_BYTES = UnitPrice(
    usd=40, per=_TIB, unit="B", source="cloud.google.com/pubsub/pricing, 2026-09-20"
)
# Each publish and each delivery counts as this much at least.
PUBSUB_LEAST_BYTES = 1000
GCS_CLASS_A = UnitPrice(
    usd=0.005, per=1000, unit="operations", source="cloud.google.com/storage/pricing-examples"
)
GCS_CLASS_B = UnitPrice(usd=0.0004, per=1000, unit="operations", source=GCS_CLASS_A.source)
GCS_MONTH = UnitPrice(usd=0.020, per=_GB, unit="B a month", source=GCS_CLASS_A.source)
EGRESS = UnitPrice(usd=0.12, per=_GB, unit="B", source=GCS_CLASS_A.source)
CPU = UnitPrice(
    usd=0.000024,
    per=1,
    unit="vCPU s",
    source="cloud.google.com/run/pricing, while a request is in work",
)
MEMORY = UnitPrice(
    usd=0.0000025, per=1, unit="GiB s", source="cloudchipr.com/blog/cloud-run-pricing, of the same"
)
REQUESTS = UnitPrice(usd=0.40, per=_MILLION, unit="requests", source=MEMORY.source)


def all_prices() -> dict[str, UnitPrice]:
    return {name: value for name, value in globals().items() if isinstance(value, UnitPrice)}
