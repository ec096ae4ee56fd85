"""Our filter flags mean what the real hubble CLI's do."""

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from meshobs.cli.collect import FILTERS
from meshobs.collector.hubble import filters
from meshobs.collector.hubble.filters import FilterFlag
from meshobs.errors import InputError
from meshobs.pb.flow.flow_pb2 import FlowFilter, Verdict

Lists = tuple[list[str], list[str]]
# Whatever is given, on either command line; every flag is in at least one, and alone.
SAME = [
    "--namespace shop",
    "--namespace shop --namespace bank",
    "--namespace=",
    "--pod shop/front",
    "--pod front --pod back",
    "--pod=",
    "--ip 10.0.0.1",
    "--ip 10.0.0.0/8 --ip fd00::1",
    "--port 80",
    "--port 80 --port 443",
    "--service shop/front",
    "--service front --service back",
    "--cluster west",
    "--cluster west --cluster ea*",
    "--from-cluster west",
    "--from-cluster west --from-cluster east",
    "--to-cluster east",
    "--from-cluster west --to-cluster east",
    "--cluster west --from-cluster east",
    "--cluster west --to-cluster east --port 80",
    "--protocol tcp",
    "--protocol tcp --protocol http",
    "--verdict DROPPED",
    "--verdict DROPPED --verdict FORWARDED",
    "--node-name west/k8s1",
    "--node-name k8s* --node-name east/",
    "--namespace shop --pod front",
    "--namespace shop --namespace bank --pod front --pod back",
    "--namespace shop --pod shop/front",
    "--namespace shop --pod shop/front --pod back",
    "--namespace shop --service front",
    "--namespace shop --service front --pod back",
    "--pod shop/front --service shop/front",
    "--pod front --service shop/front",
    "--ip 10.0.0.1 --service front",
    "--namespace shop --port 80 --protocol tcp --verdict DROPPED --node-name west/",
    "--pod front --port 80 --cluster west --from-cluster west",
    "--protocol tcp --verdict DROPPED --to-cluster east",
    "--not --pod front",
    "--not --port 80 --not --port 443",
    "--not --namespace shop --not --verdict DROPPED",
    "--not --namespace shop --pod bank/front",
    "--not --ip 10.0.0.1 --pod front",
    "--not --from-cluster west --cluster west",
    "--pod front --not --pod back --port 80 --not --protocol udp",
    """--allowlist {"source_pod":["a"]}""",
    """--allowlist {"source_pod":["a"]}{"verdict":["DROPPED","AUDIT"]} --pod front""",
    """--denylist {"destinationPort":["80"],"verdict":[2],"source_identity":[1,2]} --not --port 443""",
    """--denylist {"http_header":[{"key":"a","value":"b"}],"tcp_flags":[{"SYN":true}]}""",
    """--allowlist {} --port 80""",
]
# What neither takes.
REFUSED = [
    "--ip 10.0.0.1 --pod front",
    "--ip 10.0.0.1 --namespace shop",
    "--not --ip 10.0.0.1 --not --pod front",
    "--namespace shop --pod bank/front",
    "--namespace shop --namespace bank --pod bank/front",
    "--namespace shop --service bank/front",
    "--pod shop/front --service bank/front",
    "--pod shop/front --service front",
    "--verdict MAYBE",
    "--allowlist {",
    """--allowlist {"bogus":1}""",
    """--denylist []""",
]
# What they take differently, and why.
OURS_ALONE = {
    "--verdict dropped": "a verdict in lower case is as clear",
}
HUBBLES_ALONE = {
    "--port http": "Hubble's nodes refuse it later, and a collection that runs for days had better not begin",
    "--port 65536": "the same",
    "--verdict VERDICT_UNKNOWN": "it is protobuf's default; no flow carries it",
}


def parsed(arguments: Sequence[str]) -> Lists:
    """Return allow- and denylist that our flags make, in canonical JSON."""
    found: list[FilterFlag] = []
    raw: dict[str, list[str]] = {"allowlist": [], "denylist": []}
    negated = False
    rest = iter([part for one in arguments for part in (one.split("=", 1) if one.startswith("--") else [one])])
    for argument in rest:
        flag = argument.removeprefix("--")
        if flag == "not":
            negated = True
        elif flag in raw:
            raw[flag].append(next(rest))
        else:
            found.append(FilterFlag(flag, next(rest), negated))
            negated = False
    allow, deny = filters.build(found, raw["allowlist"], raw["denylist"])
    return canonical(allow), canonical(deny)


def canonical(made: Sequence[FlowFilter]) -> list[str]:
    """Return filters as JSON, alternatives in one order: it means nothing."""
    return sorted(json.dumps(_ordered(json_format.MessageToDict(one)), sort_keys=True) for one in made)


def _ordered(value: dict[str, Any]) -> dict[str, Any]:
    return {key: sorted(part, key=json.dumps) if isinstance(part, list) else part for key, part in value.items()}


def hubble(binary: Path, arguments: Sequence[str]) -> Lists | None:
    """Return allow- and denylist that the hubble CLI would send; None if it refuses."""
    command = [str(binary), "observe", "--print-raw-filters", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if result.returncode:
        return None
    printed: dict[str, list[str]] = yaml.safe_load(result.stdout)
    allow, deny = (
        canonical([json_format.Parse(one, FlowFilter()) for one in printed.get(name, [])])
        for name in ("allowlist", "denylist")
    )
    return allow, deny


@pytest.mark.parametrize("line", SAME)
def test_the_hubble_cli_asks_for_the_same(line: str, program: Callable[[str], Path]) -> None:
    """The same flags make the same filters."""
    expected = hubble(program("hubble"), line.split(" "))

    assert expected is not None
    assert sum(map(len, expected)) > 0
    assert parsed(line.split(" ")) == expected


@pytest.mark.parametrize("line", REFUSED)
def test_the_hubble_cli_refuses_the_same(line: str, program: Callable[[str], Path]) -> None:
    """What contradicts itself is refused before anything is asked."""
    theirs = hubble(program("hubble"), line.split(" "))

    assert theirs is None
    with pytest.raises(InputError):
        parsed(line.split(" "))


@pytest.mark.parametrize("line", [*OURS_ALONE, *HUBBLES_ALONE])
def test_where_we_differ(line: str, program: Callable[[str], Path]) -> None:
    """The differences are those that are meant; a hubble CLI that changes its mind is noticed."""
    theirs = hubble(program("hubble"), line.split(" "))

    if line in OURS_ALONE:
        assert (theirs, parsed(line.split(" "))) == (
            None,
            parsed(line.upper().replace("--VERDICT", "--verdict").split(" ")),
        )
    else:
        assert theirs is not None
        with pytest.raises(InputError):
            parsed(line.split(" "))


def test_every_flag_is_hubbles_and_compared() -> None:
    """No flag is left out above, and the command line has all of them."""
    alone = {line.split(" ")[0].partition("=")[0].removeprefix("--") for line in SAME if line.count("--") == 1}

    assert set(filters.FLAGS) <= alone
    assert set(filters.FLAGS) == set(FILTERS)


TEXTS = st.text("ab1/*.:-=é \"'{", max_size=8)
VALUES = {
    "verdict": st.sampled_from(list(Verdict.keys())[1:]),
    "port": st.integers(1, 2**16 - 1).map(str),
}
GIVEN = st.sampled_from(filters.FLAGS).flatmap(
    lambda flag: st.builds(FilterFlag, st.just(flag), VALUES.get(flag, TEXTS), st.booleans())
)


@given(st.lists(GIVEN, max_size=8))
def test_filters_go_round(flags: list[FilterFlag]) -> None:
    """What is accepted is the same again when it is read from the record, and as --allowlist."""
    try:
        allow, deny = filters.build(flags, [], [])
    except InputError:
        return  # contradictions; whether these are the right ones is tested against hubble

    texts = [json_format.MessageToJson(one, indent=None) for one in allow]
    again = [json_format.ParseDict(one, FlowFilter()) for one in json.loads(filters.text(deny) or "[]")]

    assert (len(allow) <= 2, len(deny) <= 2) == (True, True)
    assert bool(allow) == any(not one.negated for one in flags)
    assert filters.build([], texts, []) == (allow, [])
    assert again == deny
    assert filters.text([]) == ""


@given(st.one_of(TEXTS, st.recursive(st.none() | st.integers() | TEXTS, st.lists).map(json.dumps)))
def test_any_text_as_a_raw_filter(text: str) -> None:
    """None of these is a filter: a mistake of the user's, never a traceback."""
    if text.strip():
        with pytest.raises(InputError, match=r"^`allowlist`: "):
            filters.build([], [text], [])
