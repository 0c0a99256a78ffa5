"""What does a request of our own clients look like? As wrk/small.lua's: path and ten header values differ."""

from __future__ import annotations


def head(number: int, path: str = "") -> bytes:
    """A GET. `number` makes the values; a `path` of its own stays as it is."""
    n = number
    return (
        f"GET {path or f'/item/{n}?page={n % 89}'} HTTP/1.1\r\nHost: shop-{n % 83}.example.com\r\n"
        f"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:{n % 997}.0) Gecko/20100101 Firefox/{n % 997}.0\r\n"
        f"Accept: application/json, text/html;q=0.{n % 79}\r\nAccept-Language: de-DE,de;q=0.{n % 73},en;q=0.3\r\n"
        f"Accept-Encoding: gzip, br;q=0.{n % 71}\r\nReferer: https://shop.example.com/list/{n}\r\n"
        f"Cookie: session={n:032x}; theme=t{n % 1009}\r\nAuthorization: Bearer {n:040d}\r\n"
        f'If-None-Match: "{n}"\r\nTraceparent: 00-{n:032x}-{n:016x}-01\r\n\r\n'
    ).encode()
