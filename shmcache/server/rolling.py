"""A rolling restart: one process of an instance after the other is ended in order and started again. Decisions only; the supervisor acts.

A step is over when the successor serves, and the next begins only while all others serve, too: at most one process is missing at a time.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ..limits import RESTART_STEP_S_MAX
from .children import Child


class Stage(StrEnum):
    """Of one process."""

    WAITING = "waiting"
    STOPPING = "stopping"
    STARTING = "starting"
    DONE = "done"


@dataclass(slots=True)
class Step:
    """One process' turn."""

    child: Child
    stop_s_max: float
    """After so long it is killed."""
    stage: Stage = Stage.WAITING
    pid: int = 0
    """Of the process that is to end."""
    since: float = 0.0
    seconds: float = 0.0


class Rolling:
    """One rolling restart; `step` is called whenever something may have changed."""

    def __init__(
        self,
        turns: Sequence[tuple[Child, float]],
        others: Callable[[], Sequence[Child]],
        end: Callable[[Child, bool], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`turns`: children in their order, and how long each may take to end. `others`: all that have to serve. `end(child, by_force)` ends one."""
        self.steps = [Step(child, seconds) for child, seconds in turns]
        self._others, self._end, self._clock = others, end, clock
        self._began = clock()
        self._waits_since = self._began
        self.error = ""
        self.is_over = False

    def expects(self, child: Child) -> bool:
        """Whether the death of this child is the one that was asked for."""
        return any(step.child is child and step.stage is Stage.STOPPING for step in self.steps)

    def step(self) -> None:
        """Go on as far as it goes now."""
        while not self.is_over and self._advance():
            pass

    def _advance(self) -> bool:
        """Whether something changed."""
        now = self._clock()
        step = next((step for step in self.steps if step.stage is not Stage.DONE), None)
        if step is None:
            self.is_over = True
            return False
        if step.stage is Stage.WAITING:
            absent = [child.role for child in self._others() if not child.ready]
            if absent:
                if now - self._waits_since > RESTART_STEP_S_MAX:
                    self._give_up(f"{', '.join(absent)} did not serve for {RESTART_STEP_S_MAX:g} s")
                return False
            step.stage, step.pid, step.since = Stage.STOPPING, step.child.pid, now
            self._end(step.child, False)
            return True
        step.seconds = now - step.since
        if step.stage is Stage.STOPPING:
            if step.child.pid == step.pid:
                if step.seconds > step.stop_s_max:
                    self._end(step.child, True)
                return False
            step.stage = Stage.STARTING
            return True
        if step.child.ready:
            step.stage, self._waits_since = Stage.DONE, now
            return True
        if step.seconds > RESTART_STEP_S_MAX:
            self._give_up(f"{step.child.role} did not come back within {RESTART_STEP_S_MAX:g} s; it is tried on")
        return False

    def _give_up(self, reason: str) -> None:
        self.error, self.is_over = reason, True

    def status(self) -> dict[str, Any]:
        """For who asked for it."""
        return {
            "steps": [
                {"role": step.child.role, "stage": step.stage.value, "pid": step.child.pid, "seconds": round(step.seconds, 3)}
                for step in self.steps
            ],
            "is_over": self.is_over,
            "error": self.error,
        }
