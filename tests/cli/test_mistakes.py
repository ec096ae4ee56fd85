"""What a new user gets wrong: one line that says what to do, whether or not anything is dialled or opened."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.command_line import Outcome
from support.relay_nodes import free_port

from meshobs.collector.options import CollectOptions
from meshobs.errors import InputError


@pytest.fixture
def collect(tmp_path: Path, meshobs: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that collects in an empty folder, and the one line that it says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))

    def call(*flags: object) -> str:
        result = meshobs("collect", *flags)
        lines = [line for line in result.err.splitlines() if not line.startswith("meshobs: clusters of the config")]
        assert (result.code, len(lines), "Traceback" in result.err) == (2, 1, False), result.err
        return lines[0]

    return call


def test_a_relay_without_an_address(collect: Callable[..., str], tmp_path: Path) -> None:
    """An empty --relay, as an unset variable of a shell makes it, and an empty `relay` of the configuration."""
    assert collect("--relay", "") == "meshobs: --relay names no Relay: write HOST:PORT, as in west=10.0.0.1:4245"
    (tmp_path / "meshobs.toml").write_text("[clusters.west]\nrelay = ''\n")
    assert collect().startswith("meshobs: [clusters.west] of the configuration names no Relay: write HOST:PORT")


def test_two_relays_of_one_name_that_are_not_there(collect: Callable[..., str]) -> None:
    """The name is the mistake, whether or not anything listens there."""
    relays = [f"west=127.0.0.1:{free_port()}" for _ in range(2)]
    assert "two Relays are called west: give each a name of its own" in collect(
        "--relay", relays[0], "--relay", relays[1]
    )


@pytest.mark.parametrize("content", ["text\n", "", "- a\n", "{]"])
def test_a_file_that_is_no_kubeconfig(collect: Callable[..., str], tmp_path: Path, content: str) -> None:
    """What the parser says helps nobody: the way out stands beside it."""
    path = tmp_path / "config"
    path.write_text(content)
    told = collect("--context", "west", "--kubeconfig", path)
    assert f"kubeconfig {path} cannot be read" in told
    assert "`kubectl config view` must work with it, or name another with KUBECONFIG, or --kubeconfig" in told


def test_a_kubeconfig_that_is_a_folder(collect: Callable[..., str], tmp_path: Path) -> None:
    """The same line."""
    assert "`kubectl config view` must work with it" in collect("--context", "west", "--kubeconfig", tmp_path)


@pytest.mark.parametrize(
    ("since", "until", "last", "words"),
    [
        (2, 1, 0, "`until` is not later than `since`"),
        (2, 2, 0, "`until` is not later than `since`"),
        (0, -1, 0, "`until` is not later than `since`"),
        (0, 0, 2**64, "`last` 18446744073709551616 is more than Hubble can be asked for"),
    ],
)
def test_what_no_relay_can_be_asked(since: int, until: int, last: int, words: str) -> None:
    """It is refused before anything is written."""
    with pytest.raises(InputError, match=words):
        CollectOptions(since=since, until=until, last=last)


def test_what_relays_can_be_asked() -> None:
    """A start without an end, an end without a start, and both; the most flows that a request can name."""
    for options in (
        CollectOptions(since=5),
        CollectOptions(until=5),
        CollectOptions(since=4, until=5),
        CollectOptions(last=2**64 - 1),
    ):
        assert options


LONG = ["99999999999999d", "99999999d", "9999999d", "36501d", "1d876000h", "9" * 5000 + "d"]


@pytest.mark.parametrize("length", LONG, ids=range(len(LONG)))
@pytest.mark.parametrize(
    "command",
    [
        ("report", "nat", "--since"),
        ("report", "nat", "--until"),
        ("collect", "--since"),
        ("collect", "--duration"),
        ("prune", "--older-than"),
    ],
    ids=" ".join,
)
def test_a_duration_beyond_all_times(meshobs: Callable[..., Outcome], command: tuple[str, ...], length: str) -> None:
    """No date lies so far back, and Python counts no further either."""
    result = meshobs(*command, length)
    shown = length if len(length) <= 40 else "9" * 40 + "..."
    assert (result.code, result.out) == (2, "")
    assert result.err == f"meshobs: the duration '{shown}' is too long: give at most 36500d\n"


@pytest.mark.parametrize(
    "moment",
    ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "0027-01-01", "1677-12-31", "2262-01-01"],
)
def test_a_time_that_no_flow_has(meshobs: Callable[..., Outcome], moment: str) -> None:
    """The database counts nanoseconds in 64 bits."""
    result = meshobs("report", "nat", "--since", moment)
    assert (result.code, result.out) == (2, "")
    assert f"'--since': '{moment}' is no time of a flow: give one from 1678 to 2261" in result.err


@pytest.mark.parametrize(
    "window",
    [
        ("--since", "1678-01-01"),
        ("--until", "2261-12-31"),
        ("--since", "36500d"),
        ("--since", "36500d", "--until", "0s"),
    ],
    ids=" ".join,
)
def test_the_widest_windows(
    recorded: Callable[[str], Path], meshobs: Callable[..., Outcome], window: tuple[str, ...]
) -> None:
    """What is not refused is answered, or holds no flow."""
    result = meshobs("--db", recorded("icmp"), "report", "nat", *window)
    assert result.code == 0 or "meshobs: no flow since" in result.err, result.err


@pytest.mark.parametrize(
    "statement", ["drop table flows", "create table x (a int)", "delete from flows", "insert into flows from flows"]
)
def test_a_change_by_a_query(recorded: Callable[[str], Path], meshobs: Callable[..., Outcome], statement: str) -> None:
    """Permissions have nothing to do with it: `sql` only reads."""
    db = recorded("icmp")
    result = meshobs("--db", db, "sql", statement)
    assert (result.code, result.out) == (2, "")
    assert result.err == f"meshobs: {db} is opened read only: to change it use `meshobs shell --write`\n"


@pytest.mark.parametrize("command", [("status",), ("report", "nat"), ("sql", "from flows")], ids=" ".join)
def test_a_database_that_is_not_there(meshobs: Callable[..., Outcome], command: tuple[str, ...]) -> None:
    """All that brings one is named, in one line."""
    result = meshobs("--db", "none.duckdb", *command)
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "meshobs: none.duckdb does not exist: `meshobs collect` or `meshobs import` makes it (without a mesh of yours,"
        " first `meshobs lab up`), or choose another file with --db\n"
    )


@pytest.mark.parametrize(
    ("window", "words"),
    [
        (("--all", "--since", "5m"), "--all is the whole database: leave it out, or leave out --since and --until"),
        (("--all", "--until", "5m"), "--all is the whole database: leave it out, or leave out --since and --until"),
        (("--since", "5m", "--until", "10m"), "--until is not later than --since: nothing lies between them"),
        (("--since", "2026-03-01", "--until", "2026-03-01T01:00:00+01:00"), "--until is not later than --since"),
        (("--since", "2026-03-02", "--until", "2026-03-01"), "--until is not later than --since"),
    ],
)
def test_windows_that_contradict_themselves(
    meshobs: Callable[..., Outcome], window: tuple[str, ...], words: str
) -> None:
    """They are refused as such, before any database is opened."""
    result = meshobs("report", "nat", *window)
    assert (result.code, result.out, len(result.err.splitlines())) == (2, "", 1)
    assert result.err.startswith(f"meshobs: {words}")
