"""What a service must hold, as far as its answers told: for each id the states it may be in.

An operation that was acknowledged has happened, one that was not may have. Operations on one id that overlap may have
happened in any order. What is observed while nothing is under way settles what was open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations, permutations
from typing import Literal

from index_sidecar.archive.content import ContentType

Outcome = Literal["done", "refused", "unknown"]
_MOST_ORDERED = 5  # operations of which all orders are tried; of more, anything they can lead to is allowed


@dataclass(frozen=True)
class State:
    """What is stored under an id."""

    type: ContentType
    user: str | None
    data: bytes


Maybe = State | None
Effect = Callable[[Maybe], Maybe]


@dataclass(eq=False)
class Operation:
    """A change of some ids, from its request to its answer."""

    ids: Sequence[str]
    effect: Effect
    outcome: Outcome | None = None


@dataclass
class _Group:
    """Operations on one id that overlap."""

    before: frozenset[Maybe]
    operations: list[Operation] = field(default_factory=list)

    def after(self) -> frozenset[Maybe]:
        """The states their id may be in when all have ended, or would end now."""
        operations = [each for each in self.operations if each.outcome != "refused"]
        reached = _closure(self.before, operations)
        operations = [each for each in operations if any(each.effect(state) != state for state in reached)]
        done = [each for each in operations if each.outcome == "done"]
        open_ = [each for each in operations if each.outcome != "done"]
        if len(operations) > _MOST_ORDERED:
            return reached
        states: set[Maybe] = set()
        for some in (each for count in range(len(open_) + 1) for each in combinations(open_, count)):
            for order in permutations((*done, *some)):
                for state in self.before:
                    for operation in order:
                        state = operation.effect(state)
                    states.add(state)
        return frozenset(states)


def _closure(states: Iterable[Maybe], operations: Sequence[Operation]) -> frozenset[Maybe]:
    reached, fresh = set(states), set(states)
    while fresh:
        fresh = {operation.effect(state) for operation in operations for state in fresh} - reached
        reached |= fresh
    return frozenset(reached)


class Ledger:
    """The states of a fixed set of ids, all absent at first."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = ids
        self.ever: set[tuple[ContentType, bytes]] = set()
        """All that was ever sent to be stored."""
        self.acknowledged = 0
        self._possible: dict[str, frozenset[Maybe]] = dict.fromkeys(ids, frozenset([None]))
        self._open: dict[str, _Group] = {}
        self._versions = dict.fromkeys(ids, 0)

    def put(self, content_id: str, state: State) -> Operation:
        """An add is sent."""
        self.ever.add((state.type, state.data))
        return self._begin(Operation([content_id], lambda _: state))

    def delete(self, content_id: str) -> Operation:
        """A delete is sent."""
        return self._begin(Operation([content_id], lambda _: None))

    def delete_user(self, user: str) -> Operation:
        """A delete of all of a user's is sent; what is added for the user meanwhile may come before or after."""
        return self._begin(
            Operation(self.ids, lambda state: None if state is not None and state.user == user else state)
        )

    def _begin(self, operation: Operation) -> Operation:
        for content_id in operation.ids:
            group = self._open.setdefault(content_id, _Group(self._possible[content_id]))
            group.operations.append(operation)
            self._touch(content_id, operation)
        return operation

    def end(self, operation: Operation, outcome: Outcome) -> None:
        """An answer has come (`done`, `refused`), or none ever will."""
        operation.outcome = outcome
        self.acknowledged += outcome == "done"
        for content_id in operation.ids:
            self._touch(content_id, operation)
            group = self._open[content_id]
            if all(each.outcome is not None for each in group.operations):
                self._possible[content_id] = group.after()
                del self._open[content_id]

    def _touch(self, content_id: str, operation: Operation) -> None:
        if any(operation.effect(state) != state for state in self._reached(content_id)):
            self._versions[content_id] += 1

    def _reached(self, content_id: str) -> frozenset[Maybe]:
        group = self._open.get(content_id)
        return self._possible[content_id] if group is None else _closure(group.before, group.operations)

    def version(self, content_id: str) -> int:
        """Changes whenever the content's state may have."""
        return self._versions[content_id]

    def possible(self, content_id: str) -> frozenset[Maybe]:
        """The states an id may be in now."""
        return self._reached(content_id) if content_id in self._open else self._possible[content_id]

    def certain(self, content_id: str) -> bool:
        """Whether there is one only."""
        return len(self.possible(content_id)) == 1

    def observed(self, content_id: str, state: Maybe) -> None:
        """What an id was seen to hold while nothing was under way."""
        assert not self._open
        self._possible[content_id] = frozenset([state])
