"""What is kept of a stream, and what is answered out of it, one rule at a time."""

from services.gateway.domain.messages import Configuration
from services.gateway.domain.stream import UNANSWERED_MAX, Heard, Stream
from tests.support.gateway_fakes import CLUSTERS, ROUTES, kept, request, response

NOTHING = Configuration()
KEPT = kept(clusters="c1", routes="r1")
PARTS = NOTHING.with_taken(response("r1", names=("a", "b", "c")), by_name=True)


def taken(stream: Stream, version: str, nonce: str, *, refusal: str = "", before: Configuration = NOTHING) -> str:
    """The version that is kept after an answer of the gateway; empty: nothing changed."""
    heard = stream.heard(request(version=version, nonce=nonce, refusal=refusal), before, now_s=0)
    return heard.kept.version(ROUTES) if heard.kept is not None else ""


def test_what_was_taken_is_kept_and_what_was_refused_is_not() -> None:
    stream = Stream()
    assert stream.heard(request(), NOTHING, now_s=0) == Heard()
    stream.said(response("r1", "1"))
    assert taken(stream, "r1", "1") == "r1"
    stream.said(response("r2", "2"))
    assert taken(stream, "r1", "2", refusal="no") == ""


def test_an_answer_is_about_the_response_whose_nonce_it_names() -> None:
    stream = Stream()
    stream.heard(request(), NOTHING, now_s=0)
    for number in (1, 2, 3):
        stream.said(response(f"r{number}", str(number)))
    assert taken(stream, "r2", "2") == "r2"
    # About one that is answered already, or was never sent.
    assert taken(stream, "r1", "1") == ""
    assert taken(stream, "r2", "9") == ""
    assert taken(stream, "r3", "3") == "r3"


def test_a_gateway_that_answers_nothing_fills_no_memory() -> None:
    stream = Stream()
    stream.heard(request(), NOTHING, now_s=0)
    for number in range(UNANSWERED_MAX + 1):
        stream.said(response(f"r{number}", str(number)))
    assert taken(stream, "r0", "0") == ""
    assert taken(stream, "r1", "1") == "r1"


def test_all_of_a_type_replaces_what_was_and_some_by_name_do_not() -> None:
    for names, expected in (((), {"b": b"b r2"}), (("a", "b", "c"), {"a": b"a r1", "b": b"b r2", "c": b"c r1"})):
        stream = Stream()
        stream.heard(request(version="r1", names=names), PARTS, now_s=0)
        stream.said(response("r2", "1", names=("b",)))
        heard = stream.heard(request(version="r2", nonce="1", names=names), PARTS, now_s=0)
        assert heard.kept is not None
        assert heard.kept.types[ROUTES].resources == expected
        assert heard.kept.version(ROUTES) == "r2"


def test_who_has_nothing_gets_what_is_kept_once() -> None:
    stream = Stream()
    stream.heard(request(CLUSTERS), KEPT, now_s=0)
    [clusters] = stream.lacking(KEPT, asked_by_s=0)
    assert (clusters.version, clusters.resources) == ("c1", KEPT.types[CLUSTERS].resources)
    assert stream.heard(request(CLUSTERS, "c1", nonce=clusters.nonce), KEPT, now_s=0) == Heard()
    assert stream.lacking(KEPT, asked_by_s=0) == []
    stream.heard(request(ROUTES), KEPT, now_s=0)
    [routes] = stream.lacking(KEPT, asked_by_s=0)
    assert routes.resources == KEPT.types[ROUTES].resources
    assert routes.nonce != clusters.nonce


def test_names_that_come_bit_by_bit_are_answered_once_each_and_the_version_says_when_all_are_there() -> None:
    stream = Stream()
    stream.heard(request(names=("a",)), PARTS, now_s=0)
    [first] = stream.lacking(PARTS, asked_by_s=0)
    assert list(first.resources) == ["a"]
    assert first.version == "r1~1"
    stream.heard(request(version="r1~1", nonce=first.nonce, names=("a", "b", "c", "d")), PARTS, now_s=1)
    assert stream.lacking(PARTS, asked_by_s=0) == []
    [rest] = stream.lacking(PARTS, asked_by_s=1)
    assert list(rest.resources) == ["b", "c"]
    assert rest.version == "r1"
    assert stream.lacking(PARTS, asked_by_s=1) == []
    assert stream.waiting  # for d, which is not kept


def test_who_has_something_is_told_nothing() -> None:
    for names in ((), ("a", "b")):
        stream = Stream()
        assert stream.heard(request(version="r1", names=names), KEPT, now_s=0) == Heard()
        assert not stream.waiting
        assert stream.lacking(KEPT, asked_by_s=0) == []


def test_who_has_some_parts_only_gets_all_that_are_kept() -> None:
    stream = Stream()
    assert stream.heard(request(version="r1~7", names=("a", "b", "c")), PARTS, now_s=0).unknown
    [response] = stream.lacking(PARTS, asked_by_s=0)
    assert list(response.resources) == ["a", "b", "c"]
    assert response.version == "r1"


def test_a_version_that_is_not_kept_must_be_asked_for() -> None:
    assert Stream().heard(request(version="r1"), NOTHING, now_s=0).unknown
    assert Stream().heard(request(version="r2"), KEPT, now_s=0).unknown
    assert not Stream().heard(request(), NOTHING, now_s=0).unknown


def test_what_was_kept_and_refused_is_said_and_not_repeated() -> None:
    stream = Stream()
    stream.heard(request(), KEPT, now_s=0)
    [sent] = stream.lacking(KEPT, asked_by_s=0)
    refusal = request(nonce=sent.nonce, refusal="no such filter")
    assert stream.heard(refusal, KEPT, now_s=0) == Heard(refused="no such filter")
    assert stream.lacking(KEPT, asked_by_s=0) == []


def test_the_routers_answer_comes_before_ours() -> None:
    stream = Stream()
    stream.heard(request(), KEPT, now_s=0)
    stream.heard(request(CLUSTERS), KEPT, now_s=5)
    stream.said(response("r2", "1"))
    assert stream.waiting
    assert stream.lacking(KEPT, asked_by_s=4) == []
    assert [one.type_url for one in stream.lacking(KEPT, asked_by_s=5)] == [CLUSTERS]
    assert not stream.waiting
