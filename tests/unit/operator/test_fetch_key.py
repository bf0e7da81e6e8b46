"""When a team gets another key to fetch by, and what its namespace has of it."""

import base64
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.body import Body, table, text
from services.operator.domain.fetch_key import KEY_DIGEST, KEY_ENDS_AT, FetchKey, key_in, may_make, secret_manifest
from services.operator.domain.fetch_key import why_another as why
from services.operator.domain.manifests.team import Team

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
LIFE = timedelta(days=7)
VISION = Team("vision", "vision-models")
KEY = FetchKey("k-1", "eyJ.a.b", NOW + LIFE)


def nothing_revoked(_key_id: str) -> bool:
    return False


def test_a_secret_has_the_key_and_says_which_it_is_without_giving_it_away() -> None:
    made = secret_manifest(VISION, KEY, authorities="PEM")
    assert (made["type"], text(made, "metadata", "namespace")) == ("Opaque", "vision-models")
    assert table(made, "data") == {
        "api-key": base64.b64encode(b"eyJ.a.b").decode(),
        "ca.crt": base64.b64encode(b"PEM").decode(),
    }
    labels = table(made, "metadata", "labels")
    assert labels["infermesh.dev/team"] == "vision"
    assert labels["app.kubernetes.io/managed-by"] == "infermesh-operator"
    assert "eyJ" not in str(made["metadata"])
    assert "eyJ" not in repr(KEY)
    assert key_in(made, VISION) == KEY
    assert "ca.crt" not in table(secret_manifest(VISION, KEY), "data")


def changed(**change: Mapping[str, object]) -> Body:
    made = secret_manifest(VISION, KEY)
    metadata = {
        **table(made, "metadata"),
        "annotations": {**table(made, "metadata", "annotations"), **change.get("annotations", {})},
        "labels": {**table(made, "metadata", "labels"), **change.get("labels", {})},
    }
    return {**made, "metadata": metadata, "data": {**table(made, "data"), **change.get("data", {})}}


@pytest.mark.parametrize(
    "secret",
    [
        None,
        {},
        changed(data={"api-key": ""}),
        changed(data={"api-key": "no base64"}),
        changed(data={"api-key": base64.b64encode(b"\xff").decode()}),
        changed(data={"api-key": base64.b64encode(b"another").decode()}),
        changed(annotations={KEY_ENDS_AT: "soon"}),
        changed(annotations={KEY_ENDS_AT: "2026-06-01T12:00:00"}),
        changed(annotations={KEY_DIGEST: "0" * 20}),
        changed(labels={"infermesh.dev/team": "search"}),
    ],
)
def test_what_somebody_changed_is_no_key(secret: Body | None) -> None:
    assert key_in(secret, VISION) is None
    assert why(key_in(secret, VISION), now=NOW, life=LIFE, revoked=nothing_revoked)


def test_a_key_is_renewed_after_half_of_its_life_and_once_it_is_revoked() -> None:
    assert not why(KEY, now=NOW, life=LIFE, revoked=nothing_revoked)
    assert not why(KEY, now=NOW + LIFE / 2, life=LIFE, revoked=nothing_revoked)
    assert "ends soon" in why(KEY, now=NOW + LIFE / 2 + timedelta(seconds=1), life=LIFE, revoked=nothing_revoked)
    assert "revoked" in why(KEY, now=NOW, life=LIFE, revoked={"k-1"}.__contains__)
    assert not why(KEY, now=NOW, life=LIFE, revoked={"k-2"}.__contains__)
    assert why(replace(KEY, ends_at=NOW), now=NOW, life=LIFE, revoked=nothing_revoked)


@given(st.lists(st.floats(0, 600), min_size=1, max_size=60))
def test_however_often_it_goes_no_hour_sees_more_than_five(gaps_s: list[float]) -> None:
    made_at_s: list[float] = []
    now_s = 0.0
    for gap_s in gaps_s:
        now_s += gap_s
        if may_make(made_at_s, now_s):
            made_at_s.append(now_s)
    for at_s in made_at_s:
        assert sum(at_s <= other < at_s + 3600 for other in made_at_s) <= 5
    assert may_make(made_at_s, now_s + 3600)
