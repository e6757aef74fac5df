"""What a cold start of the real Wan 2.1 1.3B must take on an L4, term by term: a prediction.

Bytes are counted, rates and imports measured on a machine without a GPU, and what only a GPU machine
could tell is assumed: each term says which. The clock runs from the start of the render process;
scheduling the container and starting the API's half of it are not in it.
"""

from dataclasses import dataclass

# Counted: parameters times bytes. The decoder is in float32.
_TRANSFORMER_GB, _DECODER_GB = 2.84, 0.30
_TEXT_ENCODER_GB = {"bfloat16": 11.4, "float8": 5.7}

# Measured elsewhere, 8 threads and nothing in the page cache.
DISK_GB_A_SECOND = 1.83

# Assumed: pinned buffers over the L4's 16 lanes of PCIe 4.0, a third of what they could; CUDA's
# start; the packages' kernels.
COPY_GB_A_SECOND = 10.0
_CONTEXT_SECONDS = 0.5
_PACKAGES_SECONDS = 0.2

TARGET_P95_SECONDS, TARGET_P99_SECONDS = 5.0, 8.0


@dataclass(frozen=True)
class Measured:
    """Seconds of this machine that go into the prediction, and what its page cache gives."""

    process: float  # the interpreter and our own imports
    torch: float
    engine: float  # the engine's imports
    modules: float  # 24 + 30 layers and the decoder, without weights
    tokenizer: float  # of the real vocabulary's size
    page_cache_gb_a_second: float


@dataclass(frozen=True)
class Term:
    name: str
    seconds: float
    source: str


@dataclass(frozen=True)
class Prediction:
    """One case: which text encoder, and where the snapshot's bytes come from."""

    text_encoder: str
    storage: str
    before: tuple[Term, ...]
    reading: Term  # from the disk, beside all that is in the middle: the longer hides the other
    middle: tuple[Term, ...]  # imports, then the copy to the GPU
    after: tuple[Term, ...]

    @property
    def seconds(self) -> float:
        longer = max(self.reading.seconds, _sum(self.middle))
        return _sum(self.before) + longer + _sum(self.after)

    @property
    def dominant(self) -> Term:
        """The largest term that the others do not hide."""
        is_read_longer = self.reading.seconds >= _sum(self.middle)
        middle = (self.reading,) if is_read_longer else self.middle
        return max((*self.before, *middle, *self.after), key=lambda term: term.seconds)

    @property
    def verdict(self) -> str:
        if self.seconds <= TARGET_P95_SECONDS:
            return "within p95"
        return "within p99 alone" if self.seconds <= TARGET_P99_SECONDS else "missed"

    def report(self) -> dict[str, object]:
        terms = (*self.before, self.reading, *self.middle, *self.after)
        return {
            "text_encoder": self.text_encoder,
            "storage": self.storage,
            "predicted_seconds": round(self.seconds, 2),
            "dominant": self.dominant.name,
            "verdict": self.verdict,
            "terms": {term.name: [round(term.seconds, 2), term.source] for term in terms},
        }


def predict(text_encoder: str, storage: str, measured: Measured) -> Prediction:
    """``storage`` is "disk", or "page cache" where the bytes are in memory already."""
    gigabytes = _TRANSFORMER_GB + _DECODER_GB + _TEXT_ENCODER_GB[text_encoder]
    is_cached = storage == "page cache"
    from_disk = 0.0 if is_cached else gigabytes / DISK_GB_A_SECOND
    # Read into small buffers and copied from there by eight threads: the slower of the two counts.
    copied = min(measured.page_cache_gb_a_second, COPY_GB_A_SECOND)
    return Prediction(
        text_encoder,
        storage,
        before=(Term("interpreter and our imports", measured.process, "measured here"),),
        reading=Term(
            "read weights",
            from_disk,
            f"{gigabytes:.1f} GB at {DISK_GB_A_SECOND:.2f} GB/s, measured elsewhere",
        ),
        middle=(
            Term("import torch", measured.torch, "measured here, a CPU build"),
            Term("engine imports", measured.engine, "measured here"),
            Term("CUDA context", _CONTEXT_SECONDS, "assumed"),
            Term("tokenizer", measured.tokenizer, "measured here, of the real size"),
            Term(
                "copy to the GPU",
                gigabytes / copied,
                f"{gigabytes:.1f} GB at {copied:.1f} GB/s; {COPY_GB_A_SECOND:.0f} are assumed, "
                f"{measured.page_cache_gb_a_second:.1f} into buffers measured here",
            ),
        ),
        after=(
            Term("modules", measured.modules, "measured here, of the real size"),
            Term("packages", _PACKAGES_SECONDS, "assumed"),
        ),
    )


def _sum(terms: tuple[Term, ...]) -> float:
    return sum(term.seconds for term in terms)
