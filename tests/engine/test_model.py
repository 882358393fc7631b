"""The engine against the reference model, under Hypothesis: the owner and a lock-free reader both answer as
the model does, through transactions, expiry and new owners of the same regions.
"""

import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import tests.engine.model_commands  # noqa: F401  (registers the handlers)
from shmcache import _engine
from tests.engine.generators import EVERY, KEYS, Command, key, one_of
from tests.engine.model import ARITY, COMPARED_WITH_REDIS, HANDLERS, Failed, Model
from tests.engine.regions import ErrorReply, execute, new_regions, settle

TOLERANCE_MS = 5000
"""The engine reads its own clock, a little after the model's."""
SHORT_MS = 50
LOCAL = {row.name for row in _engine.COMMANDS if "local" in row.flags}


def test_every_command_has_a_model_and_a_rule():
    """A row of the table without a handler in the model, or without generated calls, or of another arity; but those that are compared with
    a real server."""
    rows = {row.name: row.arity for row in _engine.COMMANDS}
    assert rows.keys() >= COMPARED_WITH_REDIS
    rows = {name: arity for name, arity in rows.items() if name not in COMPARED_WITH_REDIS}
    assert rows == ARITY
    assert rows.keys() == HANDLERS.keys() == EVERY.keys()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Difference(AssertionError):
    pass


class Comparison(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.regions = new_regions()
        self.owner = self.regions.create()
        self.reader = self.regions.reader()
        self.model = Model()
        self.stamps: dict[int, int] = {}
        """The model's stamp -> the engine's, as GETSTAMP showed it."""

    def teardown(self) -> None:
        self.reclaim()
        live = self.live()
        assert self.owner.verify()["keys"] == len(live)
        assert dict(zip(live, self.reader.mget(list(live)), strict=True)) == live
        assert sorted(self.owner.command("KEYS", "*")) == sorted(live)
        self.owner.close()
        self.regions.close()

    def reclaim(self) -> None:
        """No expired entry is left: the owner deletes those that it meets. (Its sweep may take a second.)"""
        self.owner.command("EXISTS", *KEYS, b"x" * _engine.MAX_KEY_BYTES)
        settle(self.owner)

    def live(self) -> dict[bytes, bytes]:
        self.model.now = now_ms()
        return {name: entry.value for name, entry in self.model.live().items()}

    # -------------------------------------------------------- comparing

    def check(self, command: Command, expected: Any, actual: Any) -> None:
        """Are these the same answer? Times may differ by the tolerance, stamps are the model's own."""
        name = command[0].decode("latin-1").upper()
        match expected:
            case Failed(code=code, message=message):
                same = (
                    isinstance(actual, ErrorReply)
                    and actual.code == code
                    and message.lower() in actual.message.lower()
                )
            case int() if name in ("PTTL", "PEXPIRETIME", "TTL", "EXPIRETIME") and expected > 0:
                unit = 1 if name.startswith("P") else 1000
                same = isinstance(actual, int) and abs(actual - expected) * unit <= TOLERANCE_MS
            case [bytes(), int(stamp)] if name == "GETSTAMP":
                same = actual[0] == expected[0] and self.stamps.setdefault(stamp, actual[1]) == actual[1]
            case list() if name == "TIME":
                same = (
                    abs(int(actual[0]) - int(expected[0])) <= TOLERANCE_MS / 1000
                    and 0 <= int(actual[1]) < 10**6
                )
            case _ if name == "INFO":
                same = expected in actual
            case _ if name == "RANDOMKEY":
                same = actual is None if expected is None else actual in self.model.live()
            case _ if name == "KEYS":
                same = sorted(actual) == expected
            case _:
                same = actual == expected
        if not same:
            raise Difference(f"{shorten(command)}: engine {shorten(actual)}, model {shorten(expected)}")

    def ambiguous(self, command: Command) -> bool:
        """GT and LT between deadlines so near that the two clocks could decide differently."""
        if not {argument.upper() for argument in command[3:]} & {b"GT", b"LT"}:
            return False
        entry = self.model.get(command[1])
        if not entry or not entry.deadline:
            return False
        trial = Model()
        trial.now = self.model.now
        trial.put(command[1], b"")
        try:
            trial.run(command[:3])
        except Failed:
            return False
        new = trial.entries.get(command[1])
        return new is not None and abs(new.deadline - entry.deadline) <= TOLERANCE_MS

    def run_both(self, commands: Sequence[Command], transaction: bool, batch: bool) -> None:
        self.model.now = now_ms()
        if any(self.ambiguous(command) for command in commands):
            return
        expected = self.model.batch(commands, transaction)
        if batch:
            actual = execute(self.owner, commands, _engine.FLAG_TRANSACTION if transaction else 0)
        else:
            actual = [self.answer(self.owner, commands[0])]
        for command, wanted, got in zip(commands, expected, actual, strict=True):
            self.check(command, wanted, got)
        self.wait_for_short_deadlines()

    def wait_for_short_deadlines(self) -> None:
        """What lives for a few ms only is dead before the next step, for both."""
        left = [entry.deadline - self.model.now for entry in self.model.entries.values() if entry.deadline]
        short = [ms for ms in left if 0 < ms <= SHORT_MS]
        if short:
            time.sleep((max(short) + 3) / 1000)

    def answer(self, engine: _engine.Owner | _engine.Reader, command: Command) -> Any:
        """The result of one command; SCAN goes on to its end."""
        try:
            result = engine.command(*command)
            if command[0] != b"SCAN":
                return result
            found = set(result[1])
            while result[0] != b"0":
                result = engine.command(b"SCAN", result[0], *command[2:])
                found |= set(result[1])
            return [b"0", sorted(found)]
        except _engine.CommandError as error:
            return ErrorReply(error.code, error.message)

    # -------------------------------------------------------- rules

    @rule(command=one_of("any"))
    def one(self, command: Command) -> None:
        """One command by the owner; what a reader can answer is asked of the reader too."""
        name = command[0].decode()
        if name in ("DBSIZE", "INFO"):
            self.reclaim()
        self.run_both([command], transaction=False, batch=False)
        if name in LOCAL and name != "SCAN":
            self.model.now = now_ms()
            self.check(command, *[self.model.batch([command])[0], self.answer(self.reader, command)])

    @rule(commands=st.lists(one_of("keyed"), max_size=6))
    def batch(self, commands: list[Command]) -> None:
        """A batch from the wire."""
        self.run_both(commands, transaction=False, batch=True)

    @rule(commands=st.lists(one_of("keyed"), min_size=1, max_size=6))
    def transaction(self, commands: list[Command]) -> None:
        """A batch as one atomic group: the same results as one by one."""
        self.run_both(commands, transaction=True, batch=True)

    @rule(
        name=key,
        which=st.sampled_from(("current", "old", "none")),
        value=st.binary(max_size=8),
        more=st.booleans(),
    )
    def compare_and_set(self, name: bytes, which: str, value: bytes, more: bool) -> None:
        """SET IFSTAMP writes exactly if the key still has that stamp; 0 means no such key."""
        self.one((b"GETSTAMP", name))
        entry = self.model.get(name)
        stamps = {"current": entry.stamp if entry else 0, "none": 0, "old": max(self.stamps, default=0)}
        stamp = stamps[which]
        options = (b"KEEPTTL", b"GET") if more else ()
        self.model.now = now_ms()
        [expected] = self.model.batch([(b"SET", name, value, b"IFSTAMP", b"%d" % stamp, *options)])
        command = (b"SET", name, value, b"IFSTAMP", b"%d" % self.stamps.get(stamp, 0), *options)
        self.check(command, expected, self.answer(self.owner, command))

    @rule(name=key)
    def read_by_every_door(self, name: bytes) -> None:
        """`get`, `mget` and `get_stamped` of the reader agree with each other and the model."""
        self.model.now = now_ms()
        entry = self.model.get(name)
        value = entry.value if entry else None
        assert self.reader.get(name) == value
        assert self.reader.mget([name, b"nosuch"]) == [value, None]
        stamped = self.reader.get_stamped(name)
        assert (stamped and stamped[0]) == value
        if entry and stamped:
            assert self.stamps.setdefault(entry.stamp, stamped[1]) == stamped[1]

    @rule(count=st.integers(1, 1000), pattern=st.sampled_from((None, b"*", b"[ab]")))
    def scan_by_reader(self, count: int, pattern: bytes | None) -> None:
        """The reader's SCAN finds each key that is there all the time."""
        cursor, found = 0, set()
        while True:
            cursor, names = self.reader.scan(0, cursor, pattern, count, "string")
            found |= set(names)
            if not cursor:
                break
        self.model.now = now_ms()
        wanted = set(self.model.run([b"KEYS", pattern or b"*"]))
        assert found == wanted

    @rule(count=st.integers(1, 300), size=st.integers(0, 300))
    def many_keys(self, count: int, size: int) -> None:
        """So many keys that the index grows."""
        self.run_both(
            [(b"SET", b"many:%d" % n, b"m" * size) for n in range(count)],
            transaction=size % 2 == 0,
            batch=True,
        )

    @rule(clean=st.booleans())
    def new_owner(self, clean: bool) -> None:
        """Another owner takes over, after a clean stop or without one; the reader's mapping stays."""
        if clean:
            self.owner.close()
        keys = len(self.model.entries)
        del self.owner
        self.owner = self.regions.attach()
        assert self.owner.recovery["clean"] == clean
        assert self.owner.recovery["keys"] >= len(self.live()) - (keys - len(self.model.entries))

    @rule()
    def tick(self) -> None:
        self.owner.tick()

    @invariant()
    def stamps_are_in_order(self) -> None:
        """Later writes have larger stamps."""
        known = [self.stamps[stamp] for stamp in sorted(self.stamps)]
        assert known == sorted(set(known))


def shorten(thing: Any) -> str:
    text = repr(thing)
    return text if len(text) < 400 else f"{text[:200]} … {text[-100:]}"


def run(examples: int, steps: int, shrink: bool) -> None:
    # Sleeps for deadlines and other load make a step's time say nothing.
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
        phases=list(Phase) if shrink else [Phase.generate],
    )
    run_state_machine_as_test(Comparison, settings=chosen)


@pytest.mark.timeout(300)
def test_engine_answers_as_the_model():
    """Short: a few thousand steps."""
    run(examples=150, steps=50, shrink=False)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_engine_answers_as_the_model_long():
    """Long: a hundred thousand steps and more."""
    run(examples=1500, steps=100, shrink=True)


def test_keys_of_the_pool_differ():
    """The generators' keys are distinct: a model of fewer keys would test less than it says."""
    assert len(set(KEYS)) == len(KEYS)
