"""How far behind a position is, in records and time."""

from shmcache.limits import TIMELINE_SAMPLES_MAX
from shmcache.replication.timeline import Timeline


def test_an_empty_log_and_its_end_are_not_behind():
    timeline = Timeline()
    assert timeline.behind(0, 5.0) == (0, 0)
    timeline.note(0, 0, 1.0)
    timeline.note(100, 10, 2.0)
    assert timeline.behind(100, 9.0) == (0, 0)


def test_records_and_time_since_the_first_that_is_missing():
    timeline = Timeline()
    timeline.note(100, 10, 1.0)
    timeline.note(200, 20, 2.0)
    timeline.note(400, 30, 4.0)
    assert timeline.behind(100, 10.0) == (20, 8000)
    assert timeline.behind(200, 10.0) == (10, 6000)
    assert timeline.behind(300, 10.0) == (5, 6000), "half of the bytes are about half of the records"
    assert timeline.behind(399, 10.0)[0] == 1, "what is not acknowledged is at least a record"
    assert timeline.behind(50, 10.0) == (25, 9000), "before the first sample"


def test_samples_are_bounded_and_as_exact_as_their_age_allows():
    timeline = Timeline()
    count = 100_000
    for n in range(1, count + 1):
        timeline.note(n * 10, n, n / 200)
    assert len(timeline._positions) == len(timeline._seqs) == len(timeline._times) <= TIMELINE_SAMPLES_MAX
    now = count / 200
    records, ms = timeline.behind((count - 5) * 10, now)
    assert records == 5
    assert 18 <= ms <= 20
    for back in (300, 2_000, 20_000, 90_000):
        records, ms = timeline.behind((count - back) * 10, now)
        assert records == back
        assert 0.95 * back * 5 <= ms <= back * 5
