from itertools import product

import pytest

from services.torture.plan import API, Action, Kind, Point, draw_plan


def plan(seed=7, *, seconds=600, in_cloud=False):
    return draw_plan(seed, seconds=seconds, lease_seconds=4, in_cloud=in_cloud)


def test_one_seed_draws_one_plan():
    assert plan(7) == plan(7)
    assert plan(7) != plan(8)


def test_a_longer_session_arms_every_point_with_every_action():
    armed = {(fault.point, fault.action) for fault in plan().faults if fault.kind is Kind.TRIP}
    assert armed == set(product(Point, Action))


def test_faults_come_in_their_order_after_the_calm_and_before_the_end():
    drawn = plan(seconds=60)
    moments = [fault.at_seconds for fault in drawn.faults]
    assert moments == sorted(moments)
    assert drawn.calm_seconds > 0
    assert moments[0] >= drawn.calm_seconds
    assert moments[-1] < 60


@pytest.mark.parametrize("in_cloud", [True, False])
def test_each_set_of_adapters_has_faults_of_its_own(in_cloud):
    kinds = {fault.kind for fault in plan(in_cloud=in_cloud).faults}
    assert (Kind.BUSY in kinds) is not in_cloud
    assert (Kind.BUCKET_DROPS in kinds) is in_cloud


def test_what_only_the_api_does_is_armed_there():
    for fault in plan().faults:
        if fault.point is not None:
            assert (fault.target == API) is (fault.point in (Point.ADMITTED, Point.PUBLISHED))


def test_a_stop_outlasts_the_lease_and_clocks_differ_by_less_than_half_of_it():
    drawn = plan()
    stops = [fault for fault in drawn.faults if fault.kind is Kind.STOP]
    assert all(fault.seconds > 4 for fault in stops)
    skews = drawn.clock_skew_seconds.values()
    assert max(skews) - min(skews) < 2
