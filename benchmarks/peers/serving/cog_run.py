"""A Cog model. Its file comes back as a data URL, as Cog does by default; as a stream too, for those who follow."""

from collections.abc import Iterator

from cog import BaseRunner, Input, Path, streaming
from noop import render


class Runner(BaseRunner):
    @streaming
    def run(self, prompt: str = Input(description="What to render")) -> Iterator[Path]:
        yield Path(render(prompt))
