"""Every service, ours first: what the others are compared with."""

from peers.systems.model_servers import BENTOML, COG, LITSERVE
from peers.systems.ours import PROMPTREEL, PROMPTREEL_EMULATORS
from peers.systems.queues import CELERY, RQ

SYSTEMS = (PROMPTREEL, PROMPTREEL_EMULATORS, RQ, CELERY, BENTOML, COG, LITSERVE)
