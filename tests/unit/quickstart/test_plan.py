import io

import pytest
from rich.console import Console

from openmiro.quickstart.clock import Clock
from openmiro.quickstart.plan import ROUNDING, Plan, affordable, jobs, make_plan, recipes
from openmiro.quickstart.settings import Folders, QuickstartSettings

SETTINGS = QuickstartSettings(evaluation_seconds=100, reserve_seconds=20)


@pytest.mark.parametrize(
    ("minutes", "threads", "speed", "spent", "expected"),
    [
        (10, 2, 500, 80, (600 - 80 - 100 - 20) * 500 * 0.98),
        (30, 2, 500, 80, (1800 - 80 - 100 - 20) * 500 * 0.98),
        (10, 2, 250, 80, (600 - 80 - 200 - 20) * 250 * 0.98),  # a slow machine also judges more slowly
        (10, 1, 500, 80, (600 - 80 - 200 - 20) * 500 * 0.98 / 2),  # one core trains one after the other
    ],
)
def test_pictures_fill_what_is_left(minutes, threads, speed, spent, expected):
    images = affordable(SETTINGS, minutes, threads, speed, spent)
    assert images % ROUNDING == 0
    assert 0 <= expected - images < ROUNDING


def test_no_time_left_still_trains_a_little():
    assert affordable(SETTINGS, 1, 2, 10, 500) == ROUNDING


def test_plan_is_made_once(tmp_path):
    clock = Clock(tmp_path / "timings.json", "key", Console(file=io.StringIO()))
    settings = QuickstartSettings(images=640)
    first = make_plan(settings, Folders(tmp_path), 10, 2, 0, clock)
    assert first == Plan(minutes=10, seed=0, threads=2, trial_speed=0, images=640)
    # Another number of cores does not change a plan that was begun; other minutes are another plan.
    assert make_plan(settings, Folders(tmp_path), 10, 4, 0, clock) == first
    assert make_plan(settings, Folders(tmp_path), 30, 2, 0, clock).minutes == 30


def test_both_models_get_one_budget(tmp_path):
    found = recipes(QuickstartSettings(), Folders(tmp_path), 6400, 2, 3)
    assert list(found) == ["baseline", "MIRO"]
    assert {(r.images, r.batch_size, r.seed, r.threads) for r in found.values()} == {
        (6400, found["MIRO"].batch_size, 3, 1)
    }
    assert [bool(r.rewards) for r in found.values()] == [False, True]
    assert found["baseline"].model == found["MIRO"].model
    plan = Plan(minutes=10, seed=3, threads=2, trial_speed=0, images=6400)
    assert [job.run.name for job in jobs(QuickstartSettings(), Folders(tmp_path), plan)] == [
        "lab-baseline-6400",
        "lab-miro-6400",
    ]


def test_clock_adds_up_over_interruptions(tmp_path):
    def clock(key="a"):
        return Clock(tmp_path / "timings.json", key, Console(file=io.StringIO()))

    with clock().stage("one"):
        pass
    with pytest.raises(KeyError), clock().stage("two"):
        raise KeyError
    with clock().stage("one"):
        pass
    assert list(clock().seconds) == ["one", "two"]
    assert clock("b").seconds == {}
