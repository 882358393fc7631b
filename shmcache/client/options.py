"""What a client asks of replication with each request: acknowledgements for writes, freshness for reads. No I/O."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..errors import ConfigError
from ..protocol.codec import encode_options
from ..protocol.needs import Ack, parse_ack


@dataclass(frozen=True)
class RequestOptions:
    """Raises ConfigError for values that cannot be."""

    ack: Ack | None = None
    """Replicas that must have a write before it returns: a number, "quorum", "all"; None: as the instance says."""
    ack_timeout: float | None = None
    """Seconds to wait for them."""
    max_staleness: float | None = None
    """Seconds that a replica may be behind when it answers a read."""

    def __post_init__(self) -> None:
        if self.ack is not None:
            parse_ack(self.ack)
        for name in ("ack_timeout", "max_staleness"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} is {value!r}; it must be seconds above 0")

    @cached_property
    def for_reads(self) -> bytes:
        """What stands before a batch of reads; empty: nothing."""
        return b"" if self.max_staleness is None else encode_options({"max_staleness_ms": int(self.max_staleness * 1000)})

    @cached_property
    def for_writes(self) -> bytes:
        """What stands before a batch that may write; empty: nothing."""
        options: dict[str, Any] = {}
        if self.ack is not None:
            options["ack"] = self.ack
        if self.ack_timeout is not None:
            options["ack_timeout_ms"] = max(1, int(self.ack_timeout * 1000))
        return encode_options(options) if options else b""


NO_OPTIONS = RequestOptions()
