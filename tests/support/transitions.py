"""Does a state machine take only the steps of its table? Watched at every assignment, in tests alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def watch(machine: type, tables: Mapping[str, Mapping[Any, frozenset[Any]]]) -> None:
    """From now on a step that is in no table fails, whoever made the machine. `tables`: by the attribute's name."""
    assign: Any = machine.__setattr__

    def checked(self: object, name: str, value: Any) -> None:
        if name in tables:
            before = getattr(self, name, value)  # the first assignment has none
            assert before is value or value in tables[name][before], f"{name}: {before} -> {value}, in {self!r}"
        assign(self, name, value)

    machine.__setattr__ = checked  # type: ignore[assignment, method-assign]  # the point of it
