"""How many replicas must have acknowledged a write: `ack` as a number, "quorum" or "all"."""

from ..errors import ConfigError
from ..limits import REPLICAS_MAX

Ack = int | str


def parse_ack(text: int | str) -> Ack:
    """0 to 32, "quorum" or "all". Raises ConfigError."""
    if text in ("quorum", "all"):
        return text
    try:
        number = int(text)
    except (TypeError, ValueError):
        number = -1
    if isinstance(text, bool) or not 0 <= number <= REPLICAS_MAX:
        raise ConfigError(f"ack is {text!r}; it must be 0 to {REPLICAS_MAX}, 'quorum' or 'all'")
    return number


def needed(ack: Ack, replicas: int) -> int:
    """Acknowledgements for `ack` when `replicas` replicas count. A quorum is a majority of all copies, the primary's being one of them."""
    if ack == "quorum":
        return (replicas + 1) // 2
    return replicas if ack == "all" else int(ack)
