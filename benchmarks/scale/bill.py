"""Seconds and operations into dollars, a finished clip."""

from collections.abc import Mapping

from scale import known, operations, prices
from scale.operations import Operations, Render
from scale.simulation import Outcome
from shared.prices import L4_PRICE, usd

_PACE_SECONDS = 600.0  # shared/admission.py PACE_WINDOW: what a poll of a waiting job counts
_MONTH_DAYS = 30.0


def operations_of(outcome: Outcome, of: Render) -> Operations:
    """All of a run: every job's, every delivery's, and what goes on whether or not there are jobs."""
    waited = sum(outcome.waits) / known.POLL_EVERY.value
    mean_queued = sum(outcome.waits) / outcome.span_seconds
    ended = outcome.finished / outcome.span_seconds * _PACE_SECONDS
    rendering = outcome.finished * of.seconds / known.POLL_EVERY.value
    parts = (
        operations.submit(queued=mean_queued).times(outcome.accepted),
        operations.delivery().times(outcome.deliveries),
        (operations.claim() + operations.render(of) + operations.log()).times(outcome.attempts),
        (operations.finish() + operations.fetch()).times(outcome.finished),
        operations.poll_queued(queued=mean_queued, ended=ended).times(waited),
        operations.poll_rendering().times(rendering),
        operations.retention().times(outcome.accepted),
        operations.sweep().times(outcome.span_seconds / known.SWEEP_EVERY.value),
        operations.presence(outcome.instance_seconds),
    )
    return sum(parts, Operations())


def gpu_usd(outcome: Outcome) -> Mapping[str, float]:
    """Of all instances, for as long as they were there."""
    return {
        "GPU busy": usd(outcome.busy_seconds, L4_PRICE),
        "GPU idle": usd(outcome.idle_seconds, L4_PRICE),
        "cold starts": usd(outcome.starting_seconds, L4_PRICE),
    }


def service_usd(made: Operations, *, api_seconds: float) -> Mapping[str, float]:
    """Of everything else but what is stored and fetched."""
    api = prices.CPU.of(api_seconds) + prices.MEMORY.of(api_seconds)
    return {
        "Firestore": prices.FIRESTORE_READS.of(made.reads)
        + prices.FIRESTORE_WRITES.of(made.writes)
        + prices.FIRESTORE_DELETES.of(made.deletes),
        "Pub/Sub": prices.PUBSUB_BYTES.of(made.messages * prices.PUBSUB_LEAST_BYTES),
        "GCS": prices.GCS_CLASS_A.of(made.class_a) + prices.GCS_CLASS_B.of(made.class_b),
        "API": api + prices.REQUESTS.of(made.requests),
    }


def clip_usd(clip_bytes: float, days: float) -> float:
    """Kept for its days, and fetched once over the internet."""
    return prices.GCS_MONTH.of(clip_bytes) * days / _MONTH_DAYS + prices.EGRESS.of(clip_bytes)


def usd_a_clip(outcome: Outcome, of: Render) -> Mapping[str, float]:
    """By what it is spent on; the parts add up to the whole."""
    made = operations_of(outcome, of)
    whole = dict(gpu_usd(outcome)) | dict(service_usd(made, api_seconds=made.request_seconds))
    each = {name: part / max(outcome.finished, 1) for name, part in whole.items()}
    each["GCS"] += clip_usd(known.CLIP_BYTES.value, known.ARTIFACT_DAYS.value)
    return each
