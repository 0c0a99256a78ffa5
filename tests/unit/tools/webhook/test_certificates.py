"""When are keys made, and is there ever a moment at which an API server cannot check what is served?"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from drainproxy.tools.webhook.certificates import (
    AUTHORITY_LIFE,
    LEAF_LIFE,
    SETTLE,
    Material,
    as_secret,
    current,
    read_secret,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ("hook.drainproxy.svc", "hook.drainproxy.svc.cluster.local")


def trusted(bundle: tuple[bytes, ...], certificate: bytes, now: datetime, name: str = NAMES[0]) -> None:
    """Raises unless who trusts the bundle trusts the certificate for this name, then."""
    store = Store([x509.load_pem_x509_certificate(each) for each in bundle])
    leaf = x509.load_pem_x509_certificate(certificate)
    PolicyBuilder().store(store).time(now).build_server_verifier(x509.DNSName(name)).verify(leaf, [])


def test_the_first_is_trusted_at_once_for_every_name() -> None:
    made = current(None, NAMES, START)
    for name in NAMES:
        trusted(made.authorities, made.certificate, START, name)
    with pytest.raises(x509.verification.VerificationError):
        trusted(made.authorities, made.certificate, START, "elsewhere.svc")


def test_what_is_good_stays_the_same() -> None:
    made = current(None, NAMES, START)
    assert current(made, NAMES, START + timedelta(days=30)) is made


def test_a_replica_that_is_an_hour_behind_still_trusts_what_the_others_serve() -> None:
    """Ten years in steps of half an hour: at each, the bundle of two steps before checks what is served now."""
    step, now = timedelta(minutes=30), START
    before = here = current(None, NAMES, now)
    renewed = authorities = 0
    last = here
    while now < START + timedelta(days=3650):
        # Between changes nothing happens: a day at a time is enough there.
        now += step if here != before else timedelta(days=1) - step
        before, last = last, here
        here = current(here, NAMES, now)
        renewed += here.certificate != last.certificate
        authorities += here.authorities[-1] != last.authorities[-1]
        trusted(here.authorities, here.certificate, now)
        trusted(before.authorities, here.certificate, now)
        trusted(here.authorities, before.certificate, now)
        assert here.expires - now > LEAF_LIFE / 4
        assert len(here.authorities) <= 3
    assert renewed > 40
    assert authorities >= 3


def test_a_new_authority_signs_nothing_before_it_has_settled() -> None:
    due = START + AUTHORITY_LIFE * 2 / 3
    made = current(None, NAMES, START)
    now = START
    while now < due - timedelta(days=2):
        now += timedelta(days=1)
        made = current(made, NAMES, now)
    published = current(made, NAMES, due)
    assert len(published.authorities) == 2
    assert published.certificate == made.certificate
    assert current(published, ("other.svc",), due + SETTLE / 2) is published, "not even for another name"
    settled = current(published, ("other.svc",), due + 2 * SETTLE)
    trusted(published.authorities[-1:], settled.certificate, due + 2 * SETTLE, "other.svc")


def test_a_secret_brings_back_what_was_put_in() -> None:
    made = current(None, NAMES, START)
    assert read_secret(as_secret(made)) == made


@pytest.mark.parametrize("broken", [{}, {"ca.crt": "%"}, {"tls.crt": "AAAA"}, {"ca.key": "AAAA"}])
def test_a_secret_that_holds_nothing_usable_is_made_anew(broken: dict[str, str]) -> None:
    made = current(None, NAMES, START)
    data = {**as_secret(made), **broken} if broken else {}
    anew = current(read_secret(data), NAMES, START)
    trusted(anew.authorities, anew.certificate, START)


def test_keys_of_something_else_are_replaced() -> None:
    made, other = current(None, NAMES, START), current(None, NAMES, START + timedelta(days=1))
    for mixed in (replace(made, key=other.key), replace(made, authority_key=other.authority_key)):
        anew: Material = current(mixed, NAMES, START)
        assert anew is not mixed
        trusted(anew.authorities, anew.certificate, START)


def test_after_a_long_sleep_it_starts_afresh() -> None:
    made, later = current(None, NAMES, START), START + timedelta(days=9999)
    anew = current(made, NAMES, later)
    trusted(anew.authorities, anew.certificate, later)
