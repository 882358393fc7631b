"""Lists: the engine answers as a real redis-server, errors included, for small lists and large ones."""

import random

import pytest

from tests.support.differential import Differential, near

KEYS = (b"a", b"b", b"c", b"none")
LARGE = 200
"""Elements that make a list large."""

PICKED = {
    "push": """LPUSH a|LPUSH a 1 2 3|LRANGE a 0 -1|RPUSH a 4 5|LRANGE a 0 -1|LPUSHX none 1|RPUSHX none 1 2|EXISTS none|LPUSHX a x y|RPUSHX a z|LRANGE a 0 -1|LLEN a|LLEN none|LLEN
        |SET s 1|LPUSH s 1|RPUSHX s 1|LLEN s|LRANGE s 0 1|LINDEX s 0|LINDEX s x|LPOP s|LPOP s 1|LPOP s -1|LSET s 0 1|LINSERT s BEFORE a b|LREM s 0 a|LTRIM s 0 1|LPOS s a|LMOVE s a LEFT LEFT|LMOVE a s LEFT LEFT|LMOVE none s LEFT LEFT|RPOPLPUSH a s|LMPOP 1 s LEFT|BLPOP s 0.01|LRANGE a 0 -1""",
    "pop": """RPUSH a 1 2 3 4 5 6 7|LPOP a|RPOP a|LPOP a 2|RPOP a 2|LPOP a 0|LPOP a -1|LPOP a x|LPOP a 1 2|RPOP a 9223372036854775808|LPOP none 0|LPOP none 5|LPOP none|LPOP a 100|EXISTS a|LPOP a|RPOP a|RPOP""",
    "index": """RPUSH a 1 2 3|LINDEX a 0|LINDEX a -1|LINDEX a 3|LINDEX a -4|LINDEX a x|LINDEX none x|LINDEX a 9223372036854775807|LINDEX a -9223372036854775808|LSET a 0 x|LSET a -1 z|LSET a 3 q|LSET a -4 q|LSET a x q|LSET none x q|LSET none 0 q|LRANGE a 0 -1|LRANGE a x 1|LRANGE a 0 y|LRANGE none x 1|LRANGE a -2 -1|LRANGE a 2 1
        |LRANGE a -9223372036854775808 9223372036854775807|LRANGE a 5 10""",
    "insert": """LINSERT none BEFORE a b|LINSERT none FOO a b|RPUSH a 1 2 3 2|LINSERT a before 2 x|LINSERT a AFTER 2 y|LINSERT a AFTER nope y|LINSERT a FOO 1 2|LINSERT a AFTER 1|LRANGE a 0 -1|LINSERT a BEFORE 1 first|LINSERT a AFTER 3 z|LRANGE a 0 -1|LREM a 1 2|LREM a -1 2|LREM a 0 nope|LREM a x y|LREM none 0 y|LREM none x y
        |LREM a -9223372036854775808 x|LREM a -9223372036854775807 x|LRANGE a 0 -1|RPUSH b x x y x x|LREM b 2 x|LRANGE b 0 -1|LREM b -1 x|LRANGE b 0 -1|LREM b 0 x|LREM b 0 y|EXISTS b""",
    "trim": """RPUSH a 1 2 3 4 5|LTRIM a 1 3|LRANGE a 0 -1|LTRIM a x 1|LTRIM a 0 x|LTRIM none 0 1|LTRIM a 0 -1|LTRIM a -2 -1|LRANGE a 0 -1|EXPIRE a 100|LTRIM a 0 0|TTL a|LTRIM a 5 3|EXISTS a""",
    "pos": """RPUSH a a b c 1 2 3 c c|LPOS a c|LPOS a c RANK 2|LPOS a c RANK -1|LPOS a c COUNT 2|LPOS a c COUNT 0|LPOS a c RANK -1 COUNT 2|LPOS a c RANK 0|LPOS a c RANK x|LPOS a c RANK -9223372036854775807|LPOS a c COUNT -1|LPOS a c COUNT x|LPOS a c MAXLEN -1|LPOS a c MAXLEN x|LPOS a c MAXLEN 3|LPOS a c MAXLEN 2|LPOS a c RANK -1 MAXLEN 1|LPOS a c MAXLEN 7 COUNT 0
        |LPOS a x|LPOS a x COUNT 1|LPOS none x|LPOS none x COUNT 1|LPOS a c RANK|LPOS a c FOO 1|LPOS a c RANK 9223372036854775807 COUNT 0|LPOS a|LPOS a c RANK -2 COUNT 0 MAXLEN 2|LPOS a c rank 2 count 5 maxlen 0|LPOS a c COUNT 1 COUNT 2""",
    "move": """LMOVE none a LEFT RIGHT|LMOVE a b LEFT|LMOVE a b FOO LEFT|LMOVE a b LEFT FOO|RPUSH a 1 2 3|LMOVE a b LEFT RIGHT|LMOVE a b right left|LRANGE a 0 -1|LRANGE b 0 -1|LMOVE a b LEFT LEFT|EXISTS a|RPUSH a 1 2 3|LMOVE a a LEFT RIGHT|LRANGE a 0 -1|LMOVE a a RIGHT LEFT|LMOVE a a LEFT LEFT|LMOVE a a RIGHT RIGHT|LRANGE a 0 -1|RPOPLPUSH a a|RPOPLPUSH a b|RPOPLPUSH none b|RPOPLPUSH a|RPOPLPUSH none s
        |RPUSH c x|EXPIRE c 100|LMOVE c c LEFT RIGHT|TTL c|LMOVE c a LEFT RIGHT|TTL a""",
    "mpop": """LMPOP|LMPOP 1 a|LMPOP 0 a LEFT|LMPOP -1 a LEFT|LMPOP x a LEFT|LMPOP 2 a LEFT|LMPOP 1 a FOO|LMPOP 1 a LEFT COUNT|LMPOP 1 a LEFT COUNT 0|LMPOP 1 a LEFT COUNT x|LMPOP 1 a LEFT COUNT 1 COUNT 1|LMPOP 1 a LEFT FOO 1|LMPOP 1 a LEFT|RPUSH b 1 2 3 4|LMPOP 2 a b LEFT|LMPOP 2 a b RIGHT COUNT 2|LMPOP 2 a b right count 100|LMPOP 2 a b LEFT|SET s 1|LMPOP 2 a s LEFT|RPUSH a 1|LMPOP 2 a s LEFT|LMPOP 9223372036854775807 a LEFT""",
    "blocking": """BLPOP a|BLPOP a x|BLPOP a -1|BLPOP a inf|BLPOP a nan|BLPOP a 1e400|BLPOP a 9223372036854775807|BLPOP a 0.01|BRPOP a b 0.01|RPUSH b 1 2 3|BLPOP a b 0|BRPOP a b 0|SET s 1|BLPOP s b 0|BLPOP b s 0.01|BLPOP s x|BLMOVE a b LEFT RIGHT x|BLMOVE a b FOO RIGHT x|BLMOVE a b LEFT RIGHT -1|BLMOVE a b LEFT RIGHT 0.01|RPUSH a 1 2|BLMOVE a b LEFT RIGHT 0|BLMOVE a s LEFT RIGHT 0|LRANGE b 0 -1
        |BRPOPLPUSH a b x|BRPOPLPUSH a b 0|BRPOPLPUSH a b 0.01|BRPOPLPUSH s b 0.01|BLMPOP x 1 a LEFT|BLMPOP -1 1 a LEFT|BLMPOP 0.01 1 a LEFT|BLMPOP 0.01 0 a LEFT|BLMPOP 0.01 2 a LEFT|BLMPOP 0 2 a b LEFT COUNT 2|BLMPOP 0.01 2 a s LEFT|BLMPOP 0.01 1 a LEFT COUNT 0|BLPOP a 1_0""",
    "names": """RPUSH a 1 2 3|EXPIRE a 100|RENAME a b|TTL b|LRANGE b 0 -1|COPY b c|LRANGE c 0 -1|LPUSH c 0|LRANGE b 0 -1|LLEN c|COPY b c|COPY b c REPLACE|RENAMENX b c|DEL c|RENAMENX b c|TYPE c|TOUCH a b c|EXISTS a c|PERSIST c|TTL c|EXPIRE c -1|EXISTS c|GET b|RPUSH a 1|GET a|APPEND a x|SET a x|TYPE a|LPUSH a 1""",
}


def enlarge(both: Differential, *keys: str) -> None:
    """Elements that no test asks for make the lists large."""
    for key in keys:
        both.same("RPUSH", key, *(f"filler{number}" for number in range(LARGE)))


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("name", PICKED)
def test_picked(both: Differential, name: str, large: bool):
    # The real server would wait for ever: these lists must be there.
    both.same("SET", "s", "x")
    both.same("DEL", "s")
    if large and name != "blocking":
        enlarge(both, "a", "b")
    elif large:
        enlarge(both, "b")
    for line in PICKED[name].split("|"):
        words = line.split()
        both.same(*words, by=near(1) if words[0] == "TTL" else lambda theirs, ours: theirs == ours and type(theirs) is type(ours))
    both.same_state(*KEYS, "s")
    both.owner.verify()


def arguments(chooser: random.Random, key: bytes) -> tuple:
    pick = chooser.choice
    near_number = lambda: pick((0, 1, -1, 2, -2, chooser.randrange(-300, 300), chooser.randrange(-300, 300)))  # noqa: E731
    value = lambda: pick((b"%d" % chooser.randrange(8), b"e%d" % chooser.randrange(300), b"x" * chooser.choice((63, 64, 65, 100))))  # noqa: E731
    end = lambda: pick(("LEFT", "RIGHT"))  # noqa: E731
    some = [value() for _ in range(pick((1, 1, 2, 5, 40)))]
    return pick(
        (
            ("LPUSH", key, *some),
            ("RPUSH", key, *some),
            (pick(("LPUSHX", "RPUSHX")), key, *some),
            (pick(("LPOP", "RPOP")), key),
            (pick(("LPOP", "RPOP")), key, pick((0, 1, 2, 5, 30, 150))),
            ("LLEN", key),
            ("LINDEX", key, near_number()),
            ("LRANGE", key, near_number(), near_number()),
            ("LSET", key, near_number(), value()),
            ("LINSERT", key, pick(("BEFORE", "AFTER")), value(), value()),
            ("LINSERT", key, "AFTER", b"3", value()),
            ("LREM", key, pick((0, 1, -1, 3, -3)), value()),
            ("LTRIM", key, pick((0, 0, 1, 2, -100)), pick((-1, -1, -2, 100, 50))),
            ("LPOS", key, value(), *pick(((), ("COUNT", 0), ("RANK", near_number(), "COUNT", pick((0, 1, 3))), ("MAXLEN", 20), ("RANK", -1, "MAXLEN", 50)))),
            ("LMOVE", key, pick(KEYS[:3]), end(), end()),
            ("RPOPLPUSH", key, pick(KEYS[:3])),
            ("LMPOP", 2, key, pick(KEYS[:3]), end(), *pick(((), ("COUNT", pick((1, 5, 60)))))),
            (pick(("RENAME", "COPY")), key, pick(KEYS[:3])),
            ("COPY", key, pick(KEYS[:3]), "REPLACE"),
            pick((("EXPIRE", key, 1000), ("PERSIST", key), ("TYPE", key), ("EXISTS", key), ("DEL", key), ("SET", key, "text"), ("RPUSH", key, *(b"f%d" % number for number in range(130))))),
        )
    )


@pytest.mark.parametrize("seed", range(4))
def test_random(both: Differential, seed: int):
    chooser = random.Random(seed)
    for step in range(2500):
        both.same(*arguments(chooser, chooser.choice(KEYS[:3])))
        if step % 100 == 0:
            both.same_state(*KEYS)
            both.owner.tick()
    both.same_state(*KEYS)
    both.owner.verify()


@pytest.mark.parametrize("seed", range(3))
def test_random_transactions(both: Differential, seed: int):
    chooser = random.Random(1000 + seed)
    for _ in range(150):
        calls = [tuple(arguments(chooser, chooser.choice(KEYS[:3]))) for _ in range(chooser.randrange(1, 8))]
        both.same_transaction(calls)
        both.same_state(*KEYS)
    both.owner.verify()
