"""The order of verdicts: what counts of several, and what `--fail-on` lets through."""

from itertools import permutations

import pytest

from meshobs.verdict import Verdict, worst

OK, INSUFFICIENT, VIOLATION = Verdict.OK, Verdict.INSUFFICIENT, Verdict.VIOLATION


@pytest.mark.parametrize("order", list(permutations(Verdict)))
def test_a_violation_counts_before_what_is_not_known(order: tuple[Verdict, ...]) -> None:
    """The worst is the same in any order, and `ok` only where all are."""
    assert worst(order) is VIOLATION
    assert worst(one for one in order if one is not VIOLATION) is INSUFFICIENT
    assert worst([OK, OK]) is OK


def test_nothing_seen_is_insufficient() -> None:
    """Absence of rows is no proof."""
    assert worst([]) is INSUFFICIENT


def test_at_least() -> None:
    """Each verdict reaches itself and what is better."""
    found = {(one.value, other.value) for one in Verdict for other in Verdict if one.at_least(other)}

    assert found == {
        ("ok", "ok"),
        ("insufficient", "ok"),
        ("insufficient", "insufficient"),
        ("violation", "ok"),
        ("violation", "insufficient"),
        ("violation", "violation"),
    }
