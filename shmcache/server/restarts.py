"""When a child that died is started again: pure arithmetic."""

from collections.abc import Sequence

from ..limits import (
    RESTART_DELAY_S,
    RESTART_DELAY_S_MAX,
    RESTART_DELAY_SERVED_S_MAX,
    RESTART_FAILED_DEATHS,
    RESTART_WINDOW_S,
)


def recent(deaths: Sequence[float], now: float) -> list[float]:
    """Those of the death times that still count."""
    return [death for death in deaths if now - death < RESTART_WINDOW_S]


def restart_delay_s(deaths: int, served: bool) -> float:
    """Pause before the next start: none after the first death of a series, then doubling up to a cap.

    For a child that had `served`, the series is its recent deaths and the cap is low: others killed it.
    For one that had not, it is the starts that failed since it served last.
    """
    cap = RESTART_DELAY_SERVED_S_MAX if served else RESTART_DELAY_S_MAX
    return 0.0 if deaths <= 1 else min(RESTART_DELAY_S * 2 ** (deaths - 2), cap)


def has_failed(deaths: int, served: bool) -> bool:
    """Whether it dies at every start, so that somebody should be told; it is started again all the same."""
    return not served and deaths >= RESTART_FAILED_DEATHS
