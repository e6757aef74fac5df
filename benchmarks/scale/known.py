"""Every number the simulation rests on, and where each is from: the one place to change them.

counted      read off this repository's code; where the code has a name for it, it is taken from there
configured   what terraform/ or config/promptreel.yaml sets; tests hold them together
predicted    by benchmarks/wan_model.py and start_model.py, from arithmetic; never measured
published    by who runs the service
assumed      by us: nobody says, or nobody could be asked
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["configured", "counted", "published", "predicted", "assumed"]

_DAY = "2026-11-29"
_AUTOSCALING = "cloud.google.com/run/docs/about-instance-autoscaling"
_PUSH = "cloud.google.com/pubsub/docs/push"
_FIRESTORE = "cloud.google.com/firestore/docs/best-practices"
_RAMP = "cloud.google.com/datastore/docs/best-practices#ramping_up_traffic"


@dataclass(frozen=True, kw_only=True)
class Known:
    value: float
    unit: str
    kind: Kind
    source: str
    noted_on: str = _DAY


# --- what terraform and the configuration set

MAX_INSTANCES = Known(
    value=1, unit="", kind="configured", source="terraform/variables.tf gpu_worker.max_instances"
)
MAX_INSTANCES_ALLOWED = Known(
    value=1000, unit="", kind="configured", source="terraform/variables.tf, gpu_worker's validation"
)
QUEUED_PER_GPU = Known(
    value=250,
    unit="jobs",
    kind="configured",
    source="terraform/configuration.tf queued_per_gpu",
)
CONCURRENCY = Known(
    value=4,
    unit="requests",
    kind="configured",
    source="terraform/gpu_worker.tf max_instance_request_concurrency",
)
PUSH_SECONDS = Known(
    value=600,
    unit="s",
    kind="configured",
    source="terraform/naming.tf push_seconds; the most Pub/Sub allows",
)
BACKOFF_MIN = Known(
    value=10,
    unit="s",
    kind="configured",
    source="terraform/variables.tf redelivery.backoff_min_seconds",
)
BACKOFF_MAX = Known(
    value=600,
    unit="s",
    kind="configured",
    source="terraform/variables.tf redelivery.backoff_max_seconds",
)
MAX_DELIVERIES = Known(
    value=100, unit="", kind="configured", source="terraform/variables.tf redelivery.max_deliveries"
)
SWEEP_EVERY = Known(
    value=60, unit="s", kind="configured", source="terraform/variables.tf sweep_schedule"
)
POOL_SWEEP_EVERY = Known(
    value=60, unit="s", kind="configured", source="terraform/configuration.tf worker.sweep_seconds"
)
VISIBILITY = Known(
    value=60,
    unit="s",
    kind="configured",
    source="terraform/configuration.tf queue.visibility_seconds",
)
API_MAX_INSTANCES = Known(
    value=3, unit="", kind="configured", source="terraform/variables.tf api.max_instances"
)
API_THREADS = Known(
    value=32, unit="", kind="configured", source="terraform/variables.tf api.threads"
)
ARTIFACT_DAYS = Known(
    value=7, unit="days", kind="configured", source="terraform/variables.tf retention.artifact_days"
)

# --- how Google's services behave

AUTOSCALER_TARGET = Known(value=0.6, unit="", kind="published", source=_AUTOSCALING)
AUTOSCALER_AVERAGES = Known(value=60, unit="s", kind="published", source=_AUTOSCALING)
AUTOSCALER_EVERY = Known(
    value=5, unit="s", kind="published", source=f"{_AUTOSCALING}, an earlier edition"
)
PENDING = Known(
    value=10,
    unit="s",
    kind="published",
    source=f"{_AUTOSCALING}: then 429, where no instance starts",
)
PENDING_STARTS = Known(
    value=2,
    unit="",
    kind="assumed",
    source=f'{_AUTOSCALING}: while one starts, "at least" what a start takes; twice that',
)
IDLE = Known(
    value=900, unit="s", kind="published", source=f"{_AUTOSCALING}: up to 15 minutes; taken whole"
)
GPU_MACHINE_START = Known(
    value=5,
    unit="s",
    kind="published",
    source='cloud.google.com/run/docs/configuring/services/gpu: "approximately"',
)
INSTANCE_LIFETIME = Known(
    value=168 * 3600,
    unit="s",
    kind="assumed",
    source="an instance dies by itself once a week on average",
)
WINDOW_AT_FIRST = Known(
    value=3,
    unit="requests",
    kind="assumed",
    source=f"{_PUSH} says that the rate follows the successes, not from where",
)
WINDOW_AT_MOST = Known(
    value=3000,
    unit="requests",
    kind="published",
    source=f"{_PUSH}: from there on it grows slowly; here, not at all",
)
WINDOW_STEP = Known(
    value=1,
    unit="requests",
    kind="assumed",
    source=f"{_PUSH} says that it grows and shrinks, not by how much: one wider after a good push, one narrower after a failed one",
)
WINDOW_KEPT_IN_FEAR = Known(
    value=0.9,
    unit="",
    kind="assumed",
    source="of the push window after each failed push, in the run that fears it shrinks fast",
)
BACKOFF_FACTOR = Known(
    value=2,
    unit="",
    kind="assumed",
    source="cloud.google.com/pubsub/docs/handling-failures: exponential; by which factor is not said",
)
BACKOFF_JITTER = Known(value=0.1, unit="", kind="assumed", source="a tenth more or less")
L4_QUOTA = Known(
    value=3,
    unit="",
    kind="assumed",
    source="docs/deploy.md: what a new project usually has in a region",
)
DOCUMENT_WRITES = Known(
    value=1,
    unit="writes/s",
    kind="published",
    source=f"{_FIRESTORE}: sustained, of one document; newer editions say that it depends",
)
HOT_INDEX_WRITES = Known(
    value=500,
    unit="writes/s",
    kind="published",
    source=f"{_FIRESTORE}: of a collection with an indexed field whose values grow",
)
RAMP_OPERATIONS = Known(
    value=500,
    unit="operations/s",
    kind="published",
    source=f"{_RAMP}: at first, of a new collection; half as much again every 5 minutes",
)
RAMP_GROWTH = Known(value=1.5, unit="", kind="published", source=f"{_RAMP}: every 5 minutes")

# --- who calls, and what a clip is

SWING = Known(
    value=0.6, unit="", kind="assumed", source="at noon 1.6 times the average, at night 0.4 times"
)
BURST_SHARE = Known(value=0.1, unit="", kind="assumed", source="of all jobs come in bursts")
BURST_SIZE = Known(value=10, unit="jobs", kind="assumed", source="of a burst, at one moment")
POLL_EVERY = Known(
    value=2, unit="s", kind="assumed", source="a caller polls this often from acceptance to the end"
)
CLIP_BYTES = Known(
    value=2_000_000,
    unit="B",
    kind="assumed",
    source="of a video; the demo model's is 0.7 MB (README.md)",
)
UPLOAD_SECONDS = Known(
    value=1.0,
    unit="s",
    kind="assumed",
    source="three files into a bucket of the same region, and the job settled",
)
ENCODE_SECONDS = Known(
    value=0.73, unit="s", kind="predicted", source="benchmarks/wan_model.py: measured on a CPU"
)
CALL_SECONDS = Known(
    value=0.03,
    unit="s",
    kind="assumed",
    source="a call of Firestore or Cloud Storage in the same region",
)
DEAD_LETTER_LOOK = Known(
    value=2.0,
    unit="s",
    kind="counted",
    source="shared/adapters/gcp/pubsub_queue.py _LOOK_SECONDS: waited where there are none, of all topics at the same time",
)
LOG_WRITES = Known(
    value=4,
    unit="",
    kind="counted",
    source="services/gpu_worker: moments at which a job of one clip logs",
)
DECODED_STEPS = Known(
    value=21,
    unit="",
    kind="counted",
    source="latent frames of a clip of 81 frames: the steps of its decoding",
)
FILES = Known(
    value=3, unit="", kind="counted", source="final_video.mp4, poster.jpg, spritesheet.jpg"
)


def all_known() -> Mapping[str, Known]:
    return {name: value for name, value in globals().items() if isinstance(value, Known)}
