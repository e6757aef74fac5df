"""A BentoML service with one task endpoint: `bentoml serve bentoml_service:Video`."""

import bentoml
from noop import render


# One render at a time, as everybody; what waits is what is compared, so nothing is refused.
@bentoml.service(workers=1, threads=1, traffic={"timeout": 3600})
class Video:
    @bentoml.task
    def generate(self, prompt: str) -> str:
        # Where the file is, as the queues tell it. A task of this version that returns the file itself never
        # completes: it reads the response without saying by which method it was asked for.
        return str(render(prompt))
