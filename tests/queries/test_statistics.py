"""The statistics in the database against values known by hand or from a textbook."""

from collections.abc import Iterator
from fractions import Fraction
from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshobs.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Return an empty database."""
    with Store.open(tmp_path_factory.mktemp("statistics") / "x.duckdb", write=True) as opened:
        yield opened


def number(store: Store, sql: str, *parameters: object) -> float:
    """Return one number that the database computes."""
    value = store.value(f"select {sql}", parameters)
    assert isinstance(value, int | float)
    return float(value)


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (60, 100, 0.5020, 0.6906)],
)
def test_wilson_interval(store: Store, hits: int, n: int, low: float, high: float) -> None:
    """Values as in Newcombe, Statistics in Medicine 17 (1998), method 3."""
    assert number(store, "wilson_low(?, ?)", hits, n) == pytest.approx(low, abs=5e-5)
    assert number(store, "wilson_high(?, ?)", hits, n) == pytest.approx(high, abs=5e-5)


def test_no_trials_have_no_interval(store: Store) -> None:
    """Nothing seen says nothing."""
    assert store.value("select wilson_low(0, 0)") is None


def below(k: int, n: int, p: Fraction) -> Fraction:
    """Return P(X <= k) exactly."""
    terms = (comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))
    return sum(terms, Fraction(0))


@settings(max_examples=150, deadline=None)
@given(n=st.integers(1, 120), data=st.data())
def test_binomial_is_exact(n: int, data: st.DataObject, store: Store) -> None:
    """The tail of a binomial distribution equals exact fractions."""
    k = data.draw(st.integers(-1, n))
    p = Fraction(data.draw(st.integers(0, 12)), 12)

    found = number(store, "binomial_below(?, ?, ?)", k, n, float(p))

    assert found == pytest.approx(float(below(k, n, p)), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("k", "n", "p"), [(4800, 10_001, 0.5), (4_400, 10_002, 0.5), (0, 20_000, 0.001)])
def test_large_samples_are_never_overstated(store: Store, k: int, n: int, p: float) -> None:
    """Above 10,000 trials the bound is not below the truth: no violation by approximation."""
    exact = below(k, n, Fraction(p).limit_denominator(1000))

    found = number(store, "binomial_below(?, ?, ?)", k, n, p)

    assert float(exact) * (1 - 1e-9) <= found <= 1


def test_hundred_requests_of_the_walkthrough_are_no_violation(store: Store) -> None:
    """S10: 31 + 29 to one cluster and 23 + 17 to the other is well inside chance."""
    assert number(store, "binomial_test(60, 100, 0.5)") == pytest.approx(0.0569, abs=5e-4)


@pytest.mark.parametrize(
    ("older", "newer"), [("1.9.9", "1.10.0"), ("1.17.6", "1.19.4"), ("1.19.4", "1.19.6"), ("1.19", "1.19.1")]
)
def test_versions_sort_by_number(store: Store, older: str, newer: str) -> None:
    """1.9 comes before 1.10."""
    assert number(store, "version_rank(?)", older) < number(store, "version_rank(?)", newer)


def test_uuid_is_shown_as_the_start_of_its_text(store: Store) -> None:
    """The stored 64 bits find the flow in Hubble's own output."""
    assert store.value("select uuid_text(('0x' || '6f1c2a9e0b7d4c55')::ubigint)") == "6f1c2a9e-0b7d-4c55"
