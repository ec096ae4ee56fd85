"""What the user writes after --relay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshobs.collector.hubble.target import DEFAULT_PORT, Target, Tls, parse
from meshobs.errors import InputError

MINE = Tls(server_name="x")


@pytest.mark.parametrize(
    ("text", "tls", "expected"),
    [
        ("west=10.0.0.1:80", None, Target("west", "10.0.0.1", 80)),
        ("west=10.0.0.1", None, Target("west", "10.0.0.1", DEFAULT_PORT)),
        ("10.0.0.1", None, Target("10.0.0.1", "10.0.0.1", 4245)),
        ("relay.example:443", MINE, Target("relay.example", "relay.example", 443, MINE)),
        ("west=tls://relay:443", None, Target("west", "relay", 443, Tls())),
        ("tls://relay", MINE, Target("relay", "relay", 4245, MINE)),
        ("west=[fd00::1]:443", None, Target("west", "fd00::1", 443)),
        ("west=tls://[fd00::1]", None, Target("west", "fd00::1", 4245, Tls())),
        ("fd00::1", None, Target("fd00::1", "fd00::1", 4245)),
        ("west=fe80::1%eth0", None, Target("west", "fe80::1%eth0", 4245)),
    ],
)
def test_addresses(text: str, tls: Tls | None, expected: Target) -> None:
    """A name, an address of either family, a port, and whether TLS is spoken."""
    assert parse(text, tls) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "=", "west = relay:80", "west=", "=relay", "west=:80", "west=relay:", "west=relay:0", "west=relay:65536", "west=relay:http",
        "west=relay:-1", "west=relay:\uff18\uff10", "west=relay:²", "west=[fd00::1", "west=[fd00::1]x", "west=[]:80",
        "west=[fd00::1]80", "west=[fd00::1]:", "west=http://relay:80", "west=relay:80/path", "west=re lay",
        "west=tls://", "west=tls://tls://relay", "west=a=b", "west=fd00::1]:80", "west=[relay]:80", "west=a:b:c", "west=::%=",
    ],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    """It is refused with an example, before anything is dialled."""
    with pytest.raises(InputError, match="write it as west="):
        parse(text, None)


NAMES = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", fullmatch=True)
HOSTS = st.one_of(NAMES, st.ip_addresses().map(str))


@given(NAMES, HOSTS, st.integers(1, 2**16 - 1))
def test_what_is_written_is_read_again(name: str, host: str, port: int) -> None:
    """`address` is what `parse` reads."""
    target = Target(name, host, port)

    assert parse(f"{name}={target.address}", None) == target
    assert parse(f"{name}=tls://{target.address}", MINE) == Target(name, host, port, MINE)


@given(st.text("ab1=:[]/%. \uff18", max_size=12))
def test_any_text(text: str) -> None:
    """It is a target that can be dialled or a mistake of the user's."""
    try:
        target = parse(text, None)
    except InputError:
        return

    assert target.name
    assert target.host
    assert 0 < target.port < 2**16
    assert not set(target.host) & set("[]/= ")
