"""Does only a sibling pass for a sibling, and is a question told from everything else?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainproxy.protocol.hello import (
    FIRST,
    MAX_ANSWER,
    MAX_QUESTION,
    Identity,
    Purpose,
    ask,
    read_answer,
    read_question,
    workload_of,
)

NONCE = b"0123456789abcdef" * 2
US = Identity(b"a" * 16, b"shop/web")
SIBLING = Identity(b"b" * 16, b"shop/web")
OTHER = Identity(b"c" * 16, b"shop/cart")


def answered(by: Identity, purpose: Purpose = Purpose.ASK, standing: bytes = b"ready") -> bytes:
    question = read_question(ask(NONCE, purpose, "web:80"))
    assert question is not None
    return by.answer(question, standing)


@pytest.mark.parametrize("purpose", Purpose)
def test_a_question_is_read_as_it_was_asked_and_so_is_its_answer(purpose: Purpose) -> None:
    data = ask(NONCE, purpose, "web:80")
    question = read_question(data + b"rest")
    assert question is not None
    assert (question.nonce, question.purpose, question.end) == (NONCE, purpose, len(data))
    assert len(data) < MAX_QUESTION
    said = answered(SIBLING, purpose)
    reply = read_answer(said + b"rest")
    assert reply is not None
    assert (reply.instance, reply.standing, reply.end) == (SIBLING.instance, b"ready", len(said))
    assert len(said) < MAX_ANSWER


def test_only_who_knows_the_workload_is_a_sibling_and_only_we_are_ourselves() -> None:
    for identity, siblings, ours in ((US, True, True), (SIBLING, True, False), (OTHER, False, False)):
        reply = read_answer(answered(identity))
        assert reply is not None
        assert (US.is_siblings(reply, NONCE), US.is_ours(reply)) == (siblings, ours)


def test_an_answer_to_another_question_is_no_siblings() -> None:
    reply = read_answer(answered(SIBLING))
    assert reply is not None
    assert not US.is_siblings(reply, NONCE[::-1])


@pytest.mark.parametrize("standing", [b"serving", b"gone"])
def test_what_a_sibling_says_of_itself_cannot_be_changed_on_the_way(standing: bytes) -> None:
    reply = read_answer(answered(SIBLING, standing=standing).replace(standing, b"ready"))
    assert reply is not None
    assert not US.is_siblings(reply, NONCE)


def test_neither_the_question_nor_the_answer_names_the_workload() -> None:
    assert b"shop" not in ask(NONCE, Purpose.ASK, "10.0.0.1:80") + answered(SIBLING)


@pytest.mark.parametrize(
    "data",
    [
        ask(NONCE, Purpose.ASK, "web:80").replace(b"X-Drainproxy-Hop: 1\r\n", b""),
        ask(NONCE, Purpose.ASK, "web:80").replace(b"OPTIONS", b"GET"),
        ask(NONCE, Purpose.ASK, "web:80").replace(b" ask", b" all"),
        ask(NONCE[:-1], Purpose.ASK, "web:80"),
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_what_is_not_quite_a_question_is_none(data: bytes) -> None:
    assert read_question(data) is None


@given(st.integers(min_value=0, max_value=len(ask(NONCE, Purpose.CONNECTION, "web:80")) - 1))
def test_part_of_a_question_is_none(end: int) -> None:
    data = ask(NONCE, Purpose.CONNECTION, "web:80")[:end]
    assert read_question(data) is None
    assert data.startswith(FIRST) or FIRST.startswith(data)


def test_an_answer_may_have_passed_a_proxy_that_adds_fields() -> None:
    said = answered(SIBLING).replace(b"X-Drainproxy-Hello", b"date: today\r\nx-drainproxy-hello")
    reply = read_answer(said[:-2] + b"server: envoy\r\n\r\n")
    assert reply is not None
    assert US.is_siblings(reply, NONCE)


@pytest.mark.parametrize(
    ("host_name", "workload"),
    [
        ("shop-web-6f5d8c7b9-x2x4k", "shop-web"),
        ("shop-web-5d9f8b7c66-7bq8z", "shop-web"),
        ("db-0", "db"),
        ("db-replica-12", "db-replica"),
        ("agent-x7q9d", "agent"),
        ("ip-10-0-0-1.eu-west-1.compute.internal", ""),
        ("laptop", ""),
        ("", ""),
    ],
)
def test_the_pods_of_one_workload_are_told_by_their_names(host_name: str, workload: str) -> None:
    assert workload_of(host_name) == workload
