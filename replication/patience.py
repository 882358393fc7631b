"""What was asked of an upstream, and how long an answer is waited for. Pure decisions, no I/O, no clock of its own.

A wire that damages bytes can damage the length that stands before a message: then the connection waits for bytes that never come, and takes all that
follows for them. Only silence tells. So a relay that has answered nothing for too long is connected to anew, and asked again; how long is too
long follows the time that its answers take, because on a slow wire a new connection only begins the same slow answer once more.
"""

from typing import NamedTuple

from shmcache.limits import ANSWER_S_MAX, ANSWER_S_MIN, ASKED_MAX, RECONNECTS_MAX


class Question(NamedTuple):
    """`shard` and `number` (of a slice): what it was about."""

    kind: str
    shard: int = -1
    number: int = -1


class Questions:
    """Of one link. All times are monotonic seconds."""

    def __init__(self) -> None:
        self.patience_s = ANSWER_S_MIN
        """How long an answer is waited for before it is asked for again."""
        self._asked: dict[int, tuple[Question, float]] = {}
        self._silent_since: float | None = None
        """When the first question since the last answer was asked."""
        self._reconnects = 0

    def asked(self, request_id: int, kind: str, now: float, shard: int = -1, number: int = -1) -> None:
        """Note a question."""
        self._asked[request_id] = Question(kind, shard, number), now
        if len(self._asked) > ASKED_MAX:
            del self._asked[next(iter(self._asked))]
        if self._silent_since is None:
            self._silent_since = now

    def answered(self, request_id: int, now: float) -> Question:
        """What was answered; of no kind if it was not asked, or is given up."""
        question, asked_at = self._asked.pop(request_id, (Question(""), now))
        if question.kind:
            self.patience_s = min(ANSWER_S_MAX, max(ANSWER_S_MIN, 2 * (now - asked_at)))
            self.heard()
        return question

    def heard(self) -> None:
        """The relay says something. What else it owes is asked for again, and counts from then on."""
        self._reconnects = 0
        self._silent_since = None

    def excuse(self, seconds: float) -> None:
        """This process did not run for so long."""
        if self._silent_since is not None:
            self._silent_since += seconds

    def are_overdue(self, now: float) -> bool:
        """Whether the connection is to be made anew."""
        return self._silent_since is not None and now - self._silent_since > self.patience_s

    def give_up(self) -> bool:
        """Forget what was asked over a connection. False if so many in a row have brought nothing that it is no use."""
        self._asked.clear()
        self._silent_since = None
        self._reconnects += 1
        self.patience_s = min(ANSWER_S_MAX, 2 * self.patience_s)
        return self._reconnects <= RECONNECTS_MAX

    def forget(self) -> None:
        """The link begins anew."""
        self._asked.clear()
        self._silent_since = None
        self._reconnects = 0
        self.patience_s = ANSWER_S_MIN
