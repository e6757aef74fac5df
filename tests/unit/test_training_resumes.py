"""A training that is killed goes on from what it has saved, to the same weights."""

import pytest
import torch

from training.checkpoints import read_history
from training.few_steps_stage import FewStepsTraining
from training.flow_stage import FlowPlan, FlowTraining
from training.frames_stage import learning_rate, train_frames
from training.motion_stage import train_motion
from training.network import new_vae
from training.slices import slice_by_slice

CPU = torch.device("cpu")
STEPS = 3
TINY = FlowPlan(seed=1, clips=3, first_clips=2, words_steps=2, places_steps=2)


class KilledError(Exception):
    pass


class KilledAfter:
    """A report that is the last thing the training says."""

    def __init__(self, step):
        self._end = f" {step}/"

    def __call__(self, text):
        if self._end in text:
            raise KilledError


def _silent(_text):
    pass


def _weights(file):
    return torch.load(file, weights_only=True)["model"]


def _vae():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return slice_by_slice(new_vae()).requires_grad_(False)


def _frames(directory, report):
    train_frames(directory, steps=STEPS, seed=1, device=CPU, report=report, save_every=1)


def _motion(directory, report):
    train_motion(directory, _vae(), steps=STEPS, seed=1, report=report, save_every=1)


def _flow(directory, report):
    training = FlowTraining(directory, _vae(), TINY, device=CPU, report=report)
    training.train(steps=STEPS, save_every=1)


def _few_steps(directory, report):
    flow = FlowTraining(directory, _vae(), TINY, device=CPU, report=_silent)
    flow.pool.grow(TINY.clips)
    training = FewStepsTraining(directory, flow, seed=1, tokens=130, report=report, frames=(1, 2))
    training.train(steps=STEPS, save_every=1)


@pytest.mark.parametrize(
    ("name", "train"),
    [("frames", _frames), ("motion", _motion), ("flow", _flow), ("few_steps", _few_steps)],
)
def test_a_killed_training_ends_with_the_weights_of_one_that_was_not(tmp_path, name, train):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    train(whole, _silent)
    with pytest.raises(KilledError):
        train(killed, KilledAfter(2))
    assert len(read_history(killed / f"{name}.pt")["error"]) == 2

    train(killed, _silent)

    wanted, found = _weights(whole / f"{name}.pt"), _weights(killed / f"{name}.pt")
    assert wanted.keys() == found.keys()
    for weight in wanted:
        assert torch.allclose(wanted[weight], found[weight], atol=1e-6), weight


def test_the_last_steps_are_the_smallest():
    rates = [learning_rate(step, 1000, 1.0) for step in range(1000)]

    assert max(rates) == 1.0
    assert rates[0] < 0.02
    assert rates[-1] < 1e-4
