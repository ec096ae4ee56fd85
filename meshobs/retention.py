"""How long what layer of a database is kept."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum
from itertools import pairwise
from typing import Self

from meshobs.errors import InputError
from meshobs.times import duration

LAYERS: tuple[str, ...] = ("flows", "events", "connections")
# How long flows that decide are kept beside the events made of them: so late they may come, or come twice.
_BESIDE_EVENTS = timedelta(hours=1)
# What a minute may still change of what came before it has to be there.
_SHORTEST = timedelta(minutes=5)


class Keep(Enum):
    """Which flows a collection stores: all, or those that decide; of others, how many there were."""

    FLOWS = "flows"
    EVENTS = "events"


@dataclass(frozen=True)
class Retention:
    """How long each layer is kept; None: for ever, or as long as what is made of it.

    Attributes:
        flows: all of them; reports do not need those that are made into events.
        events: the flows that decide, and how many there were: reports rest on them.
        connections: what was made of them, for SQL; and the history of services and nodes.
    """

    flows: timedelta | None = None
    events: timedelta | None = None
    connections: timedelta | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            InputError: a layer is to be kept longer than what is made of it.
        """
        for (layer, age), (made, longer) in pairwise(self._given()):
            if age > longer:
                raise InputError(f"{layer} kept for longer than {made} serve nothing: keep them for as long at most")

    @classmethod
    def of(cls, texts: Mapping[str, object]) -> Self:
        """Return what texts such as `{"flows": "2d"}` say.

        Raises:
            InputError: a name is no layer's, or a text is no age.
        """
        ages: dict[str, timedelta] = {}
        for layer, text in texts.items():
            if layer not in LAYERS:
                raise InputError(f"there is no layer {layer}: one of {', '.join(LAYERS)}")
            age = duration(text) if isinstance(text, str) else None
            if age is None:
                raise InputError(f"{layer} {text!r} is no age: write it as 12h or 7d")
            ages[layer] = age
        return cls(**ages)

    def __bool__(self) -> bool:
        """Tell whether anything is ever forgotten."""
        return bool(self._given())

    def keeping(self, keep: Keep) -> "Retention":
        """Return the same for a collection that stores these flows."""
        if keep is Keep.FLOWS:
            return self
        return replace(self, flows=min(self.flows or _BESIDE_EVENTS, _BESIDE_EVENTS))

    def check_for_collecting(self) -> None:
        """Refuse ages that flows which are still on their way may have.

        Raises:
            InputError: one is too short.
        """
        for layer, age in self._given():
            if age < _SHORTEST:
                raise InputError(f"{layer} are kept for {_SHORTEST.seconds // 60}m at least while flows come in")

    def _given(self) -> list[tuple[str, timedelta]]:
        """Return the layers that have an age, with it, as each is made of the one before."""
        ages = zip(LAYERS, (self.flows, self.events, self.connections), strict=True)
        return [(layer, age) for layer, age in ages if age is not None]
