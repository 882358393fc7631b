"""Retry or give up: pure decisions about one request. No I/O, no clock."""

from dataclasses import dataclass
from enum import Enum, auto

from ..errors import CacheTimeout, Moved, NotReplicated, OutcomeUnknown, ShmcacheError, Unavailable
from ..limits import CLIENT_RETRY_DELAY_MAX_MS, CLIENT_RETRY_DELAY_MS


class Next(Enum):
    """What to do with a request that has no answer."""

    WAIT = auto()
    SEND_AGAIN = auto()
    TIMED_OUT = auto()
    OUTCOME_UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class Silence:
    """A request that was sent and not answered, at one moment. Times in seconds of one monotonic clock."""

    now: float
    deadline: float
    repeatable: bool
    """Sending it twice does no harm."""
    worker_replaced: bool
    """The worker that it was sent to is gone or another one."""
    resend_at: float | None = None
    """When to ask again although nothing seems to have changed; None where a replaced worker is noticed."""


def after_silence(silence: Silence) -> Next:
    """A write that cannot be repeated is never sent twice: it ends as `OutcomeUnknown`."""
    if not silence.repeatable and (silence.worker_replaced or silence.now >= silence.deadline):
        return Next.OUTCOME_UNKNOWN
    if silence.now >= silence.deadline:
        return Next.TIMED_OUT
    if silence.worker_replaced:
        return Next.SEND_AGAIN
    if silence.resend_at is not None and silence.repeatable and silence.now >= silence.resend_at:
        return Next.SEND_AGAIN
    return Next.WAIT


def tries_again(refusal: ShmcacheError) -> bool:
    """Whether a message that was refused, hence not executed, may succeed a little later."""
    return isinstance(refusal, Unavailable | Moved)


def refusal_error(refusal: ShmcacheError, *, may_have_happened: bool) -> ShmcacheError:
    """What a refusal means for a request. Of one that was sent before and not answered it says only that it was not
    executed this time.
    """
    if not may_have_happened or isinstance(refusal, NotReplicated | CacheTimeout | OutcomeUnknown):
        return refusal
    unknown = OutcomeUnknown(f"the write was sent twice; the first may have happened, the second was refused: {refusal}")
    unknown.__cause__ = refusal
    return unknown


def retry_delay(attempt: int) -> float:
    """Seconds before attempt 1, 2, ... is repeated."""
    return min(CLIENT_RETRY_DELAY_MS << min(attempt - 1, 16), CLIENT_RETRY_DELAY_MAX_MS) / 1000


def silence_error(step: Next, shard: int, where: str, timeout: float) -> ShmcacheError:
    """The one error of a request that is given up."""
    if step is Next.OUTCOME_UNKNOWN:
        return OutcomeUnknown(
            f"shard {shard} of {where}: the write was sent, its reply never came; "
            "it may or may not have happened"
        )
    return CacheTimeout(f"shard {shard} of {where} did not answer within {timeout:g} s")
