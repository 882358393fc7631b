"""Comparing beside a writer that keeps a bucket for a while."""

import pytest

from shmcache._engine import Busy
from shmcache.errors import ResponseError
from shmcache.replication import verifying


@pytest.mark.parametrize("busy", [Busy("a bucket is being changed"), ResponseError("BUSY", "the other one's is")])
def test_who_is_told_to_ask_again_does(monkeypatch: pytest.MonkeyPatch, busy: Exception) -> None:
    monkeypatch.setattr(verifying, "_BUSY_PAUSE_S", 0)
    answers = [busy, busy, b"digests"]

    def ask() -> bytes:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert verifying._patiently(ask) == b"digests"


def test_not_for_ever_and_not_for_other_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "_BUSY_PAUSE_S", 0)
    asked = []

    def never(error: Exception) -> None:
        asked.append(error)
        raise error

    with pytest.raises(Busy):
        verifying._patiently(lambda: never(Busy("always")))
    assert len(asked) == verifying._BUSY_TRIES + 1
    with pytest.raises(ResponseError, match="not"):
        verifying._patiently(lambda: never(ResponseError("DENIED", "not for you")))
    assert len(asked) == verifying._BUSY_TRIES + 2
