"""When a child that died is started again: pure arithmetic."""

from collections.abc import Sequence

from ..limits import RESTART_DELAY_S, RESTART_DELAY_S_MAX, RESTART_FAILED_DEATHS, RESTART_WINDOW_S


def recent(deaths: Sequence[float], now: float) -> list[float]:
    """Those of the death times that still count."""
    return [death for death in deaths if now - death < RESTART_WINDOW_S]


def restart_delay_s(deaths: int) -> float:
    """Pause before the next start after so many recent deaths: none after the first, then doubling up to a
    cap.
    """
    return 0.0 if deaths <= 1 else min(RESTART_DELAY_S * 2 ** (deaths - 2), RESTART_DELAY_S_MAX)


def has_failed(deaths: int) -> bool:
    """Whether it dies so often that somebody should be told; it is started again all the same."""
    return deaths >= RESTART_FAILED_DEATHS
