"""Which part of which cluster is looked at?"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scope:
    """Where to look: as kubectl's options of the same names say."""

    namespace: str | None = None
    all_namespaces: bool = False
    selector: str | None = None
    context: str | None = None

    def words(self) -> list[str]:
        """These options on kubectl's command line, without the selector."""
        words = ["--context", self.context] if self.context else []
        if self.all_namespaces:
            return [*words, "--all-namespaces"]
        return [*words, "--namespace", self.namespace] if self.namespace else words
