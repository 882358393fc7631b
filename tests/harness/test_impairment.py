"""One direction of a bad wire, frame by frame."""

import pytest

from tests.support.impairment import RATE_QUEUE_S_MAX, Impairment, Link

FRAME = bytes(100)


def link(**settings: float) -> Link:
    made = Link(1)
    made.change(Impairment(**settings))
    return made


def test_perfect_link_sends_at_once():
    assert Link(1).accept(FRAME, 5.0) == [(5.0, FRAME)]


def test_jitter_keeps_the_order():
    """And stays within its bounds."""
    made = link(delay_ms=10, jitter_ms=9)
    dues = [made.accept(FRAME, at * 0.001)[0][0] for at in range(200)]
    assert dues == sorted(dues)
    assert all(0.001 <= due - at * 0.001 <= 0.019 + 1e-9 for at, due in enumerate(dues))


def test_corruption_is_one_bit_behind_the_header():
    made = link(corrupt=1.0)
    for _ in range(100):
        [(_, frame)] = made.accept(FRAME, 0.0)
        assert frame[:14] == FRAME[:14]
        assert sum(byte.bit_count() for byte in frame) == 1


def test_rate_queues_and_then_drops():
    """100 bytes at 0.8 Mbit/s take 1 ms each; the queue is bounded."""
    made = link(rate_mbit=0.8)
    dues = [sent[0][0] for _ in range(1000) if (sent := made.accept(FRAME, 0.0))]
    assert dues[:3] == pytest.approx([0.001, 0.002, 0.003])
    assert dues[-1] == pytest.approx(RATE_QUEUE_S_MAX, abs=0.0011)
    assert made.counts["overflow"] == 1000 - len(dues)


def test_cut_and_mended_link():
    made = link()
    made.is_cut = True
    assert made.accept(FRAME, 0.0) == []
    made.is_cut = False
    assert made.accept(FRAME, 1.0) == [(1.0, FRAME)]
    assert made.counts == {"seen": 2, "cut": 1}


@pytest.mark.parametrize(
    "wrong",
    [{"loss": 1.5}, {"corrupt": -0.1}, {"jitter_ms": 1.0}, {"delay_ms": 1e6}, {"rate_mbit": -1.0}],
)
def test_senseless_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="between"):
        Impairment(**wrong)
