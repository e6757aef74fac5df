"""What the benchmarks count with, and that the one for a GPU still runs without one."""

import io

import cold_start
import cost
import figures
import gpu_wan
import pytest
import start_model
import torch
import wan_model
from PIL import Image
from rich.console import Console
from start_model import Measured
from torch.utils.flop_counter import FlopCounterMode
from wan_geometry import TINY, WAN_1_3B

from services.gpu_worker.engine.model import unfilled
from services.gpu_worker.engine.transformer import Transformer, TransformerConfig
from shared.catalog import find_model
from shared.prices import L4_PRICE, price_of, usd

MEASURED = Measured(
    process=0.3, torch=1.5, engine=0.1, modules=0.1, tokenizer=0.4, page_cache_gb_a_second=10.0
)


def test_a_percentile_is_a_value_that_was_measured():
    values = [float(number) for number in range(1, 21)]
    assert figures.percentiles(values) == {"p50": 10.0, "p95": 19.0, "p99": 20.0}
    assert figures.percentile([3.0], 99) == 3.0


def test_results_are_read_as_they_were_written(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    assert figures.read_results("tried") is None
    figures.write_results("tried", {"p95_seconds": 1.5})
    assert figures.read_results("tried") == {"p95_seconds": 1.5}


def test_the_arithmetic_of_a_forward_is_what_torch_counts_of_it():
    config = TransformerConfig.from_config(WAN_1_3B.transformer)
    transformer = unfilled(lambda: Transformer(config)).to(torch.bfloat16)
    tokens = wan_model.tokens(WAN_1_3B)
    with torch.inference_mode(), torch.device("meta"):
        texts = transformer.read([torch.empty(1, 512, 4096)])
        latents = torch.empty(1, 16, 21, 60, 104)
        positions = torch.empty(tokens, 1, 64, 2)
        with FlopCounterMode(display=False) as counter:
            transformer(latents, torch.empty(()), texts, positions)
    assert tokens == 32_760
    assert wan_model.forward_tflop() == pytest.approx(counter.get_total_flops() / 1e12, rel=2e-3)


def test_a_prediction_goes_with_the_preset():
    presets = find_model("wan2.1").presets
    whole = {name: wan_model.total(wan_model.predict(preset)) for name, preset in presets.items()}
    assert whole["preview"].high < whole["fast"].low
    assert whole["fast"].high < whole["balanced"].low < whole["reference"].low
    for seconds in whole.values():
        assert 0 < seconds.low < seconds.high
    denoise = wan_model.predict(presets["reference"])["denoise"]
    assert denoise.low == pytest.approx(100 * 283 / (121 * 0.6), rel=0.01)
    assert str(wan_model.Range(0.031, 27.4)) == "0.03 to 27"


def test_a_start_waits_for_the_longer_of_reading_and_importing():
    cold = start_model.predict("bfloat16", "disk", MEASURED)
    assert cold.dominant.name == "read weights"
    assert cold.seconds == pytest.approx(0.3 + 14.54 / 1.83 + 0.1 + 0.2)
    assert cold.verdict == "missed"
    warm = start_model.predict("float8", "page cache", MEASURED)
    copied = 8.84 / min(MEASURED.page_cache_gb_a_second, 10)
    assert warm.seconds == pytest.approx(0.3 + (1.5 + 0.1 + 0.5 + 0.4 + copied) + 0.1 + 0.2)
    assert warm.verdict == "within p95"


def test_a_price_is_that_of_the_machine_it_was_asked_for():
    assert price_of("NVIDIA L4") is L4_PRICE
    assert price_of("NVIDIA H200") is None
    assert usd(100, L4_PRICE) == pytest.approx(0.029)


def test_a_measured_run_is_told_by_its_device_and_has_no_price_but_its_own():
    run = {"predicted": False, "device": "NVIDIA H200", "ours_seconds": {"fast": 2.0}}
    (row,) = cost.measured_rows(run)
    assert (row["device"], row["usd"]) == ("NVIDIA H200", None)
    assert cost.measured_rows({"predicted": True}) == []
    assert cost.measured_rows(None) == []


def test_a_start_of_its_own_costs_a_clip_more():
    for row in cost.predictions(wan_model.Range(5.0, 10.0)).values():
        assert row["predicted"]
        assert row["usd_with_a_start"][1] > row["usd"][1]


def test_every_kind_of_start_is_drawn_in_the_same_parts():
    found = cold_start.group_phases({"reference": {"import torch": 1.0, "from_pretrained": 0.5}})
    assert found["reference"]["import torch"] == 1.0
    assert found["reference"]["model"] == 0.5
    assert sum(found["reference"].values()) == 1.5


def test_the_bars_are_a_picture(tmp_path):
    file = tmp_path / "bars.png"
    cost.draw_bars(wan_model.bars(find_model("wan2.1").presets), file)
    with Image.open(file) as picture:
        assert picture.width > 400


def test_the_gpu_benchmark_runs_a_tiny_model_on_a_cpu():
    preset = find_model("wan2.1").presets["fast"]
    printed = io.StringIO()
    run = gpu_wan.measure(
        TINY,
        torch.device("cpu"),
        presets={"fast": preset},
        steps_max=2,
        with_text=True,
        compiles=False,
        console=Console(file=printed),
    )
    report = gpu_wan.report_of(run)
    assert report["predicted"] is False
    assert report["device"] == "cpu"
    assert report["extrapolated_from_fewer_steps"]
    assert run.clips["ours"]["fast"].forwards == 2
    assert set(run.clips["ours"]["fast"].seconds) == set(gpu_wan.STAGES)
    assert report["ratio_fast"] > 0
    gpu_wan.show(Console(file=printed), run)
    assert "diffusers" in printed.getvalue()
