"""Every service, ours first: what the others are compared with."""

from peers.systems.model_servers import BENTOML, COG, LITSERVE
from peers.systems.ours import PROMPTREEL, PROMPTREEL_EMULATORS
from peers.systems.queues import CELERY, CELERY_SYNCED, RQ, RQ_SYNCED

SYSTEMS = (
    PROMPTREEL,
    PROMPTREEL_EMULATORS,
    RQ,
    RQ_SYNCED,
    CELERY,
    CELERY_SYNCED,
    BENTOML,
    COG,
    LITSERVE,
)
