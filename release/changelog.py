"""What changed in a version? The sections of CHANGELOG.md (Keep a Changelog)."""

from __future__ import annotations

import re

UNRELEASED = "Unreleased"
_HEAD = re.compile(r"^## (?P<name>\S+)(?: - (?P<date>\d{4}-\d{2}-\d{2}))?$", re.MULTILINE)


def notes(changelog: str, version: str) -> str:
    """The text of a version's section. Raises LookupError if there is none, or if it has no date."""
    heads = list(_HEAD.finditer(changelog))
    for place, head in enumerate(heads):
        if head["name"] == version:
            if head["date"] is None:
                raise LookupError(f"the section {version} has no date: ## {version} - YYYY-MM-DD")
            end = heads[place + 1].start() if place + 1 < len(heads) else len(changelog)
            return changelog[head.end() : end].strip() + "\n"
    raise LookupError(f"CHANGELOG.md has no section {version}: `python -m release prepare NUMBER` makes one")


def released(changelog: str, version: str, date: str) -> str:
    """What was unreleased becomes the section of `version`; an empty one stands above it. Raises LookupError."""
    head = f"## {UNRELEASED}\n"
    if changelog.count(head) != 1:
        raise LookupError(f"CHANGELOG.md has no section {UNRELEASED}")
    return changelog.replace(head, f"{head}\n## {version} - {date}\n")
