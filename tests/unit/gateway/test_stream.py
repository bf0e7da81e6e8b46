"""What is kept of a stream, and what is answered out of it, one rule at a time."""

from services.gateway.domain.messages import Configuration
from services.gateway.domain.stream import UNANSWERED_MAX, Heard, Stream
from tests.support.gateway_fakes import CLUSTERS, ROUTES, request, response

NOTHING = Configuration()
KEPT = Configuration({CLUSTERS: response("c1", type_url=CLUSTERS), ROUTES: response("r1")})


def test_what_was_taken_is_kept_and_what_was_refused_is_not() -> None:
    stream = Stream()
    assert stream.heard(request(), NOTHING, now_s=0) == Heard()
    first, second = response("r1", "1"), response("r2", "2")
    stream.said(first)
    assert stream.heard(request(version="r1", nonce="1"), NOTHING, now_s=0).taken == first
    stream.said(second)
    assert stream.heard(request(version="r1", nonce="2", refusal="no"), NOTHING, now_s=0).taken is None


def test_an_answer_is_about_the_response_whose_nonce_it_names() -> None:
    stream = Stream()
    stream.heard(request(), NOTHING, now_s=0)
    first, second, third = (response(f"r{n}", str(n)) for n in (1, 2, 3))
    for one in (first, second, third):
        stream.said(one)
    assert stream.heard(request(version="r2", nonce="2"), NOTHING, now_s=0).taken == second
    # About one that is answered already, or was never sent.
    assert stream.heard(request(version="r1", nonce="1"), NOTHING, now_s=0).taken is None
    assert stream.heard(request(version="r2", nonce="9"), NOTHING, now_s=0).taken is None
    assert stream.heard(request(version="r3", nonce="3"), NOTHING, now_s=0).taken == third


def test_a_gateway_that_answers_nothing_fills_no_memory() -> None:
    stream = Stream()
    stream.heard(request(), NOTHING, now_s=0)
    for number in range(UNANSWERED_MAX + 1):
        stream.said(response(f"r{number}", str(number)))
    assert stream.heard(request(version="r0", nonce="0"), NOTHING, now_s=0).taken is None
    assert stream.heard(request(version="r1", nonce="1"), NOTHING, now_s=0).taken == response("r1", "1")


def test_who_has_nothing_gets_what_is_kept_once() -> None:
    stream = Stream()
    stream.heard(request(CLUSTERS), KEPT, now_s=0)
    [(clusters, nonce)] = stream.lacking(KEPT, asked_by_s=0)
    assert clusters == KEPT.responses[CLUSTERS]
    assert stream.heard(request(CLUSTERS, "c1", nonce=nonce), KEPT, now_s=0) == Heard()
    assert stream.lacking(KEPT, asked_by_s=0) == []
    stream.heard(request(ROUTES), KEPT, now_s=0)
    [(routes, other_nonce)] = stream.lacking(KEPT, asked_by_s=0)
    assert routes == KEPT.responses[ROUTES]
    assert other_nonce != nonce


def test_who_has_something_is_told_nothing() -> None:
    stream = Stream()
    assert stream.heard(request(version="r1"), KEPT, now_s=0) == Heard()
    assert not stream.waiting
    assert stream.lacking(KEPT, asked_by_s=0) == []


def test_a_version_that_is_not_kept_must_be_asked_for() -> None:
    assert Stream().heard(request(version="r1"), NOTHING, now_s=0).unknown
    assert Stream().heard(request(version="r2"), KEPT, now_s=0).unknown
    assert not Stream().heard(request(), NOTHING, now_s=0).unknown


def test_what_was_kept_and_refused_is_said_and_not_repeated() -> None:
    stream = Stream()
    stream.heard(request(), KEPT, now_s=0)
    [(_, nonce)] = stream.lacking(KEPT, asked_by_s=0)
    assert stream.heard(request(nonce=nonce, refusal="no such filter"), KEPT, now_s=0) == Heard(
        refused="no such filter"
    )
    assert stream.lacking(KEPT, asked_by_s=0) == []


def test_more_names_are_a_new_question() -> None:
    stream = Stream()
    stream.heard(request(names=("a",)), KEPT, now_s=0)
    [(_, nonce)] = stream.lacking(KEPT, asked_by_s=0)
    stream.heard(request(version="r1", nonce=nonce, names=("a", "b")), KEPT, now_s=1)
    assert stream.waiting
    assert stream.lacking(KEPT, asked_by_s=0) == []
    assert len(stream.lacking(KEPT, asked_by_s=1)) == 1


def test_the_routers_answer_comes_before_ours() -> None:
    stream = Stream()
    stream.heard(request(), KEPT, now_s=0)
    stream.heard(request(CLUSTERS), KEPT, now_s=5)
    stream.said(response("r2", "1"))
    assert stream.waiting
    assert stream.lacking(KEPT, asked_by_s=4) == []
    assert [one.type_url for one, _ in stream.lacking(KEPT, asked_by_s=5)] == [CLUSTERS]
    assert not stream.waiting
