"""What is no request gets Redis' error and a closed connection; others do not notice."""

import pytest

BROKEN = [
    (b"*x\r\n", b"invalid multibulk length"),
    (b"*+2\r\n", b"invalid multibulk length"),
    (b"*99999999999\r\n", b"invalid multibulk length"),
    (b"*2\r\n$-1\r\n", b"invalid bulk length"),
    (b"*1\r\n$999999999999\r\n", b"invalid bulk length"),
    (b"*2\r\n$3\r\nGET\r\n$01\r\na\r\n", b"invalid bulk length"),
    (b"*3\r\n$3\r\nSET\r\n+a\r\n", b"expected '$', got '+'"),
    (b"*1\r\n*1\r\n$4\r\nPING\r\n", b"expected '$', got '*'"),
    (b"*1\r\n\r\n", b"expected '$', got ' '"),
    (b'set "a\r\n', b"unbalanced quotes in request"),
    (b"set 'a'b\r\n", b"unbalanced quotes in request"),
    (b"a" * 70_000, b"too big inline request"),
    (b"*1\r\n$" + b"1" * 70_000, b"too big bulk count string"),
    (b"*" + b"1" * 70_000, b"too big mbulk count string"),
]


@pytest.mark.parametrize(("data", "text"), BROKEN, ids=[text.decode() + str(n) for n, (_, text) in enumerate(BROKEN)])
def test_error_and_end(wire, data, text):
    other = wire()
    other.ask(b"PING\r\n", b"+PONG\r\n")
    # What came before it is answered.
    assert wire().send(b"*1\r\n$4\r\nPING\r\n" + data).rest() == b"+PONG\r\n-ERR Protocol error: " + text + b"\r\n"
    other.ask(b"PING\r\n", b"+PONG\r\n")


def test_nothing_at_all_is_no_command(wire):
    wire().ask(b"*0\r\n*-1\r\n\r\n\r\n\n*1\r\n$4\r\nping\r\n", b"+PONG\r\n")


def test_inline_commands(wire):
    one = wire()
    one.ask(b'SET inline "a b\\x43"\r\nGET inline\n', b"+OK\r\n$4\r\na bC\r\n")
    one.ask(b"foo 'a b' c\r\n", b"-ERR unknown command 'foo', with args beginning with: 'a b' 'c' \r\n")


def test_a_command_byte_by_byte(wire):
    one = wire()
    for byte in b"*2\r\n$4\r\nECHO\r\n$2\r\n\r\n\r\n":
        one.send(bytes((byte,)))
    assert one.read(8) == b"$2\r\n\r\n\r\n"


ERRORS = [
    (b"get", b"ERR wrong number of arguments for 'get' command"),
    (b"config get", b"ERR wrong number of arguments for 'config|get' command"),
    (b"config foo", b"ERR unknown subcommand 'foo'. Try CONFIG HELP."),
    (b"config set foo bar", b"ERR Unknown option or number of arguments for CONFIG SET - 'foo'"),
    (b"client foo", b"ERR unknown subcommand 'foo'. Try CLIENT HELP."),
    (b"hello 4", b"NOPROTO unsupported protocol version"),
    (b"select 99", b"ERR DB index is out of range"),
    (b"select x", b"ERR value is not an integer or out of range"),
    (b"auth b c", b"WRONGPASS invalid username-password pair or user is disabled."),
    (b"slowlog get -2", b"ERR count should be greater than or equal to -1"),
    (b"exec", b"ERR EXEC without MULTI"),
    (b"discard", b"ERR DISCARD without MULTI"),
    (b"incrby inline2 x", b"ERR value is not an integer or out of range"),
]


@pytest.mark.parametrize(("command", "error"), ERRORS, ids=[command.decode() for command, _ in ERRORS])
def test_errors_are_those_of_redis(wire, command, error):
    wire().ask(command + b"\r\n", b"-" + error + b"\r\n")
