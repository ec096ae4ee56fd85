"""One parser for times and durations, of the command line and of Python alike."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from meshobs.errors import InputError
from meshobs.times import SECOND, Moment, instant, seconds

MARCH = 1_772_359_200 * SECOND  # 2026-03-01T10:00:00Z
TOLERANCE = 60 * SECOND


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-03-01T10:00:00Z", MARCH),
        ("2026-03-01 10:00:00", MARCH),
        ("2026-03-01T12:00:00.000000001+02:00", MARCH + 1),
        ("2026-03-01", MARCH - 10 * 3600 * SECOND),
        (datetime(2026, 3, 1, 10, tzinfo=UTC), MARCH),
        (datetime(2026, 3, 1, 10), MARCH),  # noqa: DTZ001 - no zone is UTC
        (datetime(2026, 3, 1, 12, 0, 0, 1, timezone(timedelta(hours=2))), MARCH + 1000),
        (datetime(1900, 1, 1, 0, 0, 0, 1, UTC), -2_208_988_800 * SECOND + 1000),
    ],
)
def test_a_time(value: Moment, expected: int) -> None:
    """Texts and datetimes, UTC where they name no zone, to the last digit they have."""
    assert instant(value) == expected


@pytest.mark.parametrize("value", ["1h30m", "5400s", timedelta(minutes=90)])
def test_how_long_ago(value: Moment) -> None:
    """It is counted back from now."""
    expected = int(datetime.now(tz=UTC).timestamp()) * SECOND - 5400 * SECOND

    assert abs(instant(value) - expected) < TOLERANCE


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("yesterday", "'yesterday' is neither a time"),
        ("", "'' is neither a time"),
        ("2026-13-01T00:00:00Z", "is neither a time"),
        ("1677-12-31", "'1677-12-31' is no time of a flow: give one from 1678 to 2261"),
        (datetime(2262, 1, 1, tzinfo=UTC), "is no time of a flow"),
        (timedelta(seconds=-1), "is neither a time"),
        ("36501d", "the duration '36501d' is too long"),
        (timedelta(days=36501), "is too long"),
        (5, "5 is neither a time"),
    ],
)
def test_what_is_no_time(value: Moment, words: str) -> None:
    """It is refused in words that show a time."""
    with pytest.raises(InputError) as told:
        instant(value)

    assert words in str(told.value)


def test_lengths() -> None:
    """Texts, timedeltas and seconds; nothing, less than nothing, and what is no number are refused."""
    assert [seconds(value) for value in ("1m30s", timedelta(seconds=90), 90, 90.0)] == [90.0] * 4
    for wrong in ("soon", "0s", 0, -1, float("nan"), float("inf"), timedelta()):
        with pytest.raises(InputError, match="is no duration: write 90s"):
            seconds(wrong)
