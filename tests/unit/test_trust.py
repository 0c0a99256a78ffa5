"""Whose certificates do our clients believe?"""

from __future__ import annotations

import ssl

from drainproxy.trust import as_others, trusting


def test_name_and_authority_are_checked_and_no_more_than_curl_and_go_check() -> None:
    context = trusting()
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT


def test_a_context_that_others_have_made_strict_is_strict_no_more() -> None:
    context = ssl.create_default_context()
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python does by itself from 3.13 on
    as_others(context)
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
