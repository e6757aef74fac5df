"""What Firestore must be set up with: every query that is made, its index, and the TTL fields.

The emulator answers without any index, production does not. Terraform is tested against this list,
and the queries the adapter really sends are tested against it too.
"""

from dataclasses import dataclass
from typing import Literal

JOBS = "jobs"
LOG = "log"  # below each job
IDEMPOTENCY = "idempotency"
OWNERS = "owners"
WORKERS = "workers"
USAGE = "usage"
WEBHOOK_ENDPOINTS = "webhook_endpoints"
KEY_USES = "key_uses"

MODEL = "request.model"
KIND = "request.kind"  # of a picture; a video's request has none
JOB_KIND = "kind"  # of every job
TTL_FIELD = "expire_at"
WORK_ENDED_AT = "work_ended_at"


@dataclass(frozen=True, kw_only=True)
class IndexField:
    path: str
    order: Literal["ASCENDING", "DESCENDING"] = "ASCENDING"


@dataclass(frozen=True, kw_only=True)
class CompositeIndex:
    """An index Firestore does not keep by itself, over one collection (not a collection group)."""

    collection: str
    fields: tuple[IndexField, ...]


@dataclass(frozen=True, kw_only=True)
class Query:
    """A query by its shape: fields compared for equality, then those in a range or an order.

    A field that may have one of several values is compared with each. The name of a document, as the
    last order, is in every index, in the direction of the field before it. A sum is taken from an index,
    whose last field is what is summed.
    """

    made_by: str
    collection: str
    equal: tuple[str, ...] = ()
    ordered: tuple[IndexField, ...] = ()
    summed: str | None = None
    index: CompositeIndex | None = None  # None: one field at most, which Firestore indexes itself


@dataclass(frozen=True, kw_only=True)
class FieldSetting:
    """How one field of a collection group differs from Firestore's defaults."""

    collection_group: str
    path: str
    ttl: bool = False
    indexed: bool = False


JOBS_OF_AN_OWNER = CompositeIndex(
    collection=JOBS,
    fields=(IndexField(path="owner"), IndexField(path="created_at", order="DESCENDING")),
)

_OF_A_KIND = (IndexField(path="owner"), IndexField(path=JOB_KIND))
_WITH_STATUS = (*_OF_A_KIND, IndexField(path="status"))
_OLDEST_FIRST = IndexField(path="created_at")
_NEWEST_FIRST = IndexField(path="created_at", order="DESCENDING")
_LONGEST_DUE_FIRST = IndexField(path="due_at")

PAGES_NEWEST_FIRST = CompositeIndex(collection=JOBS, fields=(*_OF_A_KIND, _NEWEST_FIRST))
PAGES_OLDEST_FIRST = CompositeIndex(collection=JOBS, fields=(*_OF_A_KIND, _OLDEST_FIRST))
PAGES_BY_STATUS_NEWEST_FIRST = CompositeIndex(
    collection=JOBS, fields=(*_WITH_STATUS, _NEWEST_FIRST)
)
PAGES_BY_STATUS_OLDEST_FIRST = CompositeIndex(
    collection=JOBS, fields=(*_WITH_STATUS, _OLDEST_FIRST)
)

OWNERS_JOBS_BY_STATUS = CompositeIndex(
    collection=JOBS, fields=(IndexField(path="owner"), IndexField(path="status"))
)
OWNERS_JOBS_OF_A_KIND_BY_STATUS = CompositeIndex(
    collection=JOBS,
    fields=(IndexField(path="owner"), IndexField(path=KIND), IndexField(path="status")),
)
MODELS_JOBS_BY_STATUS = CompositeIndex(
    collection=JOBS, fields=(IndexField(path=MODEL), IndexField(path="status"))
)
MODELS_JOBS_BY_STATUS_IN_ORDER = CompositeIndex(
    collection=JOBS, fields=(IndexField(path=MODEL), IndexField(path="status"), _OLDEST_FIRST)
)
OWNERS_JOBS_BY_END = CompositeIndex(
    collection=JOBS, fields=(IndexField(path="owner"), IndexField(path=WORK_ENDED_AT))
)
MODELS_JOBS_BY_END = CompositeIndex(
    collection=JOBS, fields=(IndexField(path=MODEL), IndexField(path=WORK_ENDED_AT))
)
DUE_JOBS_BY_STATUS = CompositeIndex(
    collection=JOBS, fields=(IndexField(path="status"), _LONGEST_DUE_FIRST)
)
AMOUNTS_OF_A_MONTH = CompositeIndex(
    collection=USAGE,
    fields=(IndexField(path="owner"), IndexField(path="month"), IndexField(path="amount")),
)

COMPOSITE_INDEXES = (
    JOBS_OF_AN_OWNER,
    PAGES_NEWEST_FIRST,
    PAGES_OLDEST_FIRST,
    PAGES_BY_STATUS_NEWEST_FIRST,
    PAGES_BY_STATUS_OLDEST_FIRST,
    OWNERS_JOBS_BY_STATUS,
    OWNERS_JOBS_OF_A_KIND_BY_STATUS,
    MODELS_JOBS_BY_STATUS,
    MODELS_JOBS_BY_STATUS_IN_ORDER,
    OWNERS_JOBS_BY_END,
    MODELS_JOBS_BY_END,
    DUE_JOBS_BY_STATUS,
    AMOUNTS_OF_A_MONTH,
)

QUERIES = (
    Query(
        made_by="admit: submissions of the last minute",
        collection=JOBS,
        equal=("owner",),
        ordered=(_NEWEST_FIRST,),
        index=JOBS_OF_AN_OWNER,
    ),
    Query(
        made_by="list",
        collection=JOBS,
        equal=("owner", JOB_KIND),
        ordered=(_NEWEST_FIRST,),
        index=PAGES_NEWEST_FIRST,
    ),
    Query(
        made_by="list, oldest first",
        collection=JOBS,
        equal=("owner", JOB_KIND),
        ordered=(_OLDEST_FIRST,),
        index=PAGES_OLDEST_FIRST,
    ),
    Query(
        made_by="list, some statuses",
        collection=JOBS,
        equal=("owner", JOB_KIND, "status"),
        ordered=(_NEWEST_FIRST,),
        index=PAGES_BY_STATUS_NEWEST_FIRST,
    ),
    Query(
        made_by="list, some statuses, oldest first",
        collection=JOBS,
        equal=("owner", JOB_KIND, "status"),
        ordered=(_OLDEST_FIRST,),
        index=PAGES_BY_STATUS_OLDEST_FIRST,
    ),
    Query(
        made_by="due",
        collection=JOBS,
        equal=("status",),
        ordered=(_LONGEST_DUE_FIRST,),
        index=DUE_JOBS_BY_STATUS,
    ),
    Query(made_by="counts", collection=JOBS, equal=("status",)),
    Query(
        made_by="admit: an owner's jobs that wait, or are in flight",
        collection=JOBS,
        equal=("owner", "status"),
        index=OWNERS_JOBS_BY_STATUS,
    ),
    Query(
        made_by="admit: an owner's pictures that are in flight",
        collection=JOBS,
        equal=("owner", KIND, "status"),
        index=OWNERS_JOBS_OF_A_KIND_BY_STATUS,
    ),
    Query(
        made_by="admit: a model's jobs that wait",
        collection=JOBS,
        equal=(MODEL, "status"),
        index=MODELS_JOBS_BY_STATUS,
    ),
    Query(
        made_by="queued_before",
        collection=JOBS,
        equal=(MODEL, "status"),
        ordered=(_OLDEST_FIRST,),
        index=MODELS_JOBS_BY_STATUS_IN_ORDER,
    ),
    Query(
        made_by="ended_since, of an owner",
        collection=JOBS,
        equal=("owner",),
        ordered=(IndexField(path=WORK_ENDED_AT),),
        index=OWNERS_JOBS_BY_END,
    ),
    Query(
        made_by="ended_since, of a model",
        collection=JOBS,
        equal=(MODEL,),
        ordered=(IndexField(path=WORK_ENDED_AT),),
        index=MODELS_JOBS_BY_END,
    ),
    Query(
        made_by="used; admit: what counts against an owner's month",
        collection=USAGE,
        equal=("owner", "month"),
        summed="amount",
        index=AMOUNTS_OF_A_MONTH,
    ),
    Query(
        made_by="append_log, tail_log: the newest document",
        collection=LOG,
        ordered=(IndexField(path="last", order="DESCENDING"),),
    ),
    Query(
        made_by="append_log, tail_log, read_log: documents below or from a line",
        collection=LOG,
        ordered=(IndexField(path="last"),),
    ),
    Query(made_by="delete: all of a job's log", collection=LOG),
    Query(made_by="key_uses", collection=KEY_USES),
    Query(
        made_by="workers",
        collection=WORKERS,
        ordered=(IndexField(path="seen_at", order="DESCENDING"),),
    ),
)

FIELD_SETTINGS = (
    # Firestore advises against indexing a TTL field: nearly equal values make one hot spot.
    FieldSetting(collection_group=JOBS, path=TTL_FIELD, ttl=True),
    FieldSetting(collection_group=LOG, path=TTL_FIELD, ttl=True),
    FieldSetting(collection_group=IDEMPOTENCY, path=TTL_FIELD, ttl=True),
    FieldSetting(collection_group=OWNERS, path=TTL_FIELD, ttl=True),
    FieldSetting(collection_group=WORKERS, path=TTL_FIELD, ttl=True),
    # Long, never asked for, and each line of a log would be an index entry of its own.
    FieldSetting(collection_group=LOG, path="lines"),
    FieldSetting(collection_group=JOBS, path="request.prompt"),
    FieldSetting(collection_group=WEBHOOK_ENDPOINTS, path="secret"),
    FieldSetting(collection_group=WEBHOOK_ENDPOINTS, path="old_secret"),
)
