"""What does a scraper see to the end? /metrics of one address at an interval, until nobody answers for a while.

The last exposition that came is printed, and how many there were on stderr.
"""

from __future__ import annotations

import sys
import time
import urllib.request

GIVE_UP_AFTER = 4


def main(url: str, interval_s: float) -> None:
    last, count, failures = "", 0, 0
    while failures < GIVE_UP_AFTER:
        try:
            with urllib.request.urlopen(url, timeout=interval_s) as answer:
                last, count, failures = answer.read().decode(), count + 1, 0
        except OSError:
            failures += 1
        time.sleep(interval_s)
    sys.stdout.write(last)
    sys.stderr.write(f"{count} scrapes\n")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
