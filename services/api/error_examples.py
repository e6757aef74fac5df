"""What the OpenAPI page shows as errors, by status: a code, and a message that says what to do."""

from collections.abc import Mapping
from types import MappingProxyType

REQUEST_ID = "4c1f9d5e8b7a4d3f9e2c6b1a0d8f7e55"

ERROR_EXAMPLES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "400": ("invalid_request", "`prompt`: the prompt is empty; describe the video to make."),
        "401": ("unauthenticated", "Send a valid API key: `Authorization: Bearer <key>`."),
        "403": ("scope_missing", "This key has not the scope `write`. Use one that has."),
        "404": (
            "job_not_found",
            "There is no such job. Check the id; a job is visible to its owner only.",
        ),
        "408": (
            "body_too_slow",
            "The body came too slowly, or not to its end. Send it again, at once.",
        ),
        "409": (
            "idempotency_conflict",
            "This Idempotency-Key was used with another request. Send a new key with a new request.",
        ),
        "410": ("artifact_expired", "This link has expired. Ask the job for a new one."),
        "413": ("body_too_large", "The body has more than 65536 bytes. Send a shorter one."),
        "415": ("unsupported_content_type", "Send the body as `Content-Type: application/json`."),
        "416": ("range_not_satisfiable", "The file is shorter; Content-Range has its size."),
        "422": ("invalid_request", "`prompt` is missing; add it."),
        "429": ("too_many_requests", "Too many requests. Try again in 17 s."),
        "500": (
            "internal_error",
            "Something went wrong on our side. Try again; if it stays, report the request_id.",
        ),
        "501": (
            "images_not_offered",
            "This installation makes no images: no provider is set up for them here.",
        ),
        "502": ("render_crashed", "The render process died. Submit the job again."),
        "503": (
            "store_unavailable",
            "A part of the service does not answer at the moment. Try again in a few seconds.",
        ),
    }
)

_QUEUE_FULL = (
    "queue_full",
    "The queue is full: at most 1000 jobs may wait for this model. Try again in 42 s.",
)
_NO_ENDPOINT = (
    "webhook_not_found",
    (
        "No endpoint is registered for webhooks, or none was when the job was submitted: "
        "`PUT /v1/webhook` registers one."
    ),
)
_NOT_ENDED = (
    "job_not_terminal",
    "The job has not ended (started). Cancel it first, or wait.",
)
_CONFIGURED = (
    "webhook_configured",
    "Your endpoint is set in the configuration of this installation, and changed there.",
)

# What is told otherwise of a call without a body: it is its query that can be wrong, or its moment.
CALLS_WITHOUT_A_BODY: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "400": ("invalid_request", "`limit`: Input should be less than or equal to 100."),
        "409": (
            "job_already_terminal",
            "The job has ended (finished) and cannot change any more.",
        ),
    }
)

# What is told otherwise by one operation.
OPERATION_ERROR_EXAMPLES: Mapping[str, Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "delete_generation": {"409": _NOT_ENDED},
        "change_generation": {
            "400": ("invalid_request", "`action`: Input should be 'cancel'."),
            "409": CALLS_WITHOUT_A_BODY["409"],
        },
        "read_artifact": {"400": ("invalid_request", "`expires_in` must be 1 to 43200.")},
        "read_content": {
            "400": (
                "invalid_request",
                "`variant`: Input should be 'video', 'thumbnail' or 'spritesheet'.",
            )
        },
        "read_logs": {"400": ("invalid_request", "`tail` must be 1 to 2000.")},
        "replicate_webhook": {
            "400": ("malformed_body", "The webhook's body is not JSON."),
            "403": (
                "webhook_refused",
                "The webhook is not signed as it must be, or its time is over.",
            ),
            "413": ("body_too_large", "The body has more than 1048576 bytes. Send a shorter one."),
        },
        "stream_events": {
            "400": ("invalid_request", "`after` must be the id of an event, a number.")
        },
        "create_generation": {
            "400": (
                "invalid_request",
                "The mode edit starts from one picture: send input1 as a file.",
            ),
            "413": ("body_too_large", "The body has more than 21037056 bytes. Send a shorter one."),
            "422": (
                "prompt_refused",
                "This installation does not allow the prompt. Change it.",
            ),
        },
        "create_video": {
            "400": ("invalid_request", "The duration must be 1 to 5 seconds."),
            "429": _QUEUE_FULL,
        },
        "create_job": {"429": _QUEUE_FULL},
        "generate": {"429": _QUEUE_FULL},
        "remix_video": {"429": _QUEUE_FULL},
        "output": {
            "403": (
                "link_tampered",
                "The link's signature is not valid. Ask the job for a new link.",
            )
        },
        "register_webhook": {
            "400": ("invalid_request", "`url` must begin with https://."),
            "409": _CONFIGURED,
        },
        "read_webhook": {"404": _NO_ENDPOINT},
        "remove_webhook": {"404": _NO_ENDPOINT, "409": _CONFIGURED},
        "replace_webhook_secret": {"404": _NO_ENDPOINT, "409": _CONFIGURED},
        "read_delivery": {
            "404": _NO_ENDPOINT,
            "409": _NOT_ENDED,
        },
        "retry_delivery": {
            "404": _NO_ENDPOINT,
            "409": _NOT_ENDED,
        },
        "sweep": {
            "403": (
                "untrusted_caller",
                "Call with an OIDC token of the service account that is configured here.",
            )
        },
    }
)

# What is told otherwise where pictures are ordered, in the words of that surface.
IMAGE_ERROR_EXAMPLES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "429": (
            "LIMIT_EXCEEDED",
            "At most 20 images a month are in your plan. More come with the next month.",
        ),
        "502": (
            "UPSTREAM_ERROR",
            "The image provider does not answer, or failed. Nothing is counted. Try again.",
        ),
    }
)
