"""How a command and the process of a running lab talk."""

from meshobs.lab.remote.wire import ControlServer


def test_a_server_may_be_closed_before_it_starts() -> None:
    """What went wrong before its start is what the user is told of, not its end."""
    server = ControlServer({})

    server.close()

    assert server.address == ""
