"""The app of the search, as a program: `python -m tests.upgrade.app PORT`. It dies at once on SIGTERM."""

from __future__ import annotations

import asyncio
import sys

from tests.search.app import App


async def main() -> None:
    app = App(keep_alive_s=60)
    app.port = int(sys.argv[1])
    await app.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
