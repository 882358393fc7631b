"""When a child that died is started again: pure arithmetic."""

from collections.abc import Sequence
from typing import Final

WINDOW_S: Final = 10.0
DELAY_S: Final = 0.1
DELAY_S_MAX: Final = 5.0
FAILED_AFTER_DEATHS: Final = 5


def recent(deaths: Sequence[float], now: float) -> list[float]:
    """Those of the death times that still count."""
    return [death for death in deaths if now - death < WINDOW_S]


def restart_delay_s(deaths: int) -> float:
    """Pause before the next start after so many recent deaths: none after the first, then doubling up to a cap."""
    return 0.0 if deaths <= 1 else min(DELAY_S * 2 ** (deaths - 2), DELAY_S_MAX)


def has_failed(deaths: int) -> bool:
    """Whether it dies so often that somebody should be told; it is started again all the same."""
    return deaths >= FAILED_AFTER_DEATHS
