"""The `drainproxy` command, and `python -m drainproxy`."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run a verb. The long-lived ones hold signals back before anything else is loaded: see process.signals."""
    if sys.argv[1:2] in (["serve"], ["run"]):
        from drainproxy.process.signals import hold  # noqa: PLC0415 - only these two verbs need it

        hold()
    from drainproxy.cli import main as run  # noqa: PLC0415 - takes time, and must come after the line above

    run()


if __name__ == "__main__":
    main()
