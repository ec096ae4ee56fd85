"""How long to wait before the next attempt: about 0.5, 1, 2 ... seconds, at most half a minute."""

from collections.abc import Iterator

import tenacity

_WAIT = tenacity.wait_random_exponential(multiplier=0.5, max=30)


def backoff_seconds() -> Iterator[float]:
    """Yield seconds, without end."""
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    while True:
        yield _WAIT(state)
        state.attempt_number += 1
