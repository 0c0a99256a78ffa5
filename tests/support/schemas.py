"""Does Kubernetes know every field of an object? Asked of the schemas that it publishes for each version."""

from __future__ import annotations

import json
from typing import Any


def validate(data: dict[str, Any], version: str) -> None:
    """Raise kubernetes_validate's ValidationError where the object is wrong in that version, as in "1.36"."""
    import kubernetes_validate  # noqa: PLC0415 - it takes seconds, and each process that collects tests would pay them

    kubernetes_validate.validate(json.loads(json.dumps(data)), version, strict=True)
