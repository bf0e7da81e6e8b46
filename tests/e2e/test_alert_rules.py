"""A rule on a running mesh: bad requests, an alert at a receiver, a silence, and the end."""

import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from services.common.clock import SystemClock
from tests.e2e.driving import NEW, Rest, deploy, registration
from tests.support.mesh import Mesh
from tests.support.waiting import until

WITHIN_S = 60.0


class Receiver(HTTPServer):
    """Takes webhooks."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        super().__init__(("127.0.0.1", 0), Taking)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}/hook"

    def statuses(self, rule: str) -> list[str]:
        """What came of a rule, in order."""
        return [body["status"] for body in self.bodies if body["rule_name"] == rule]


class Taking(BaseHTTPRequestHandler):
    """One webhook."""

    def do_POST(self) -> None:
        """Takes it."""
        assert isinstance(self.server, Receiver)
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.serve_forever, name="receiver")
    thread.start()
    try:
        yield receiver
    finally:
        receiver.shutdown()
        thread.join()
        receiver.server_close()


@pytest.fixture
def rest(mesh: Mesh) -> Iterator[Rest]:
    client = Rest(mesh.gateway, mesh.key)
    yield client
    client.close()


def soon() -> str:
    return (SystemClock().now() + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_bad_requests_raise_an_alert_that_arrives_is_silenced_and_ends(mesh: Mesh, rest: Rest) -> None:
    name = f"alerted-{secrets.token_hex(4)}"
    rest.ok("POST", "/v1/models", json=registration(name, NEW))
    deploy(rest, name, NEW, "only")
    rules = [f"{name}-{word}" for word in ("loud", "quiet")]
    with receiving() as receiver:
        channel = {"name": name, "webhook": {"url": receiver.url, "signing_secret": "secret"}}
        made = rest.ok("POST", "/v1/notification-channels", json=channel)
        assert made["webhook"] == {"url": receiver.url, "signing_secret": ""}
        assert rest.ok("POST", f"/v1/notification-channels/{name}:test", json={})["status"] == "sent"
        silence = rest.ok("POST", "/v1/silences", json={"rule_name": rules[1], "reason": "known", "end_time": soon()})
        for rule in rules:
            condition = {"metric": "error_rate", "comparison": ">", "threshold": 0.5, "min_requests": 5}
            body = {"name": rule, "model_name": name, "threshold": condition, "severity": "warning", "enabled": True}
            rest.ok("POST", "/v1/alert-rules", json={**body, "notification_channels": [name]})
        for _ in range(10):
            bad = {"version": NEW, "instances": [{"X": [1]}]}
            rest.refused(400, "POST", f"/v1/models/{name}/predict", json=bad)
        until(lambda: receiver.statuses(rules[0]) == ["firing"], within_s=WITHIN_S, what="the alert arrives")
        (arrived,) = [body for body in receiver.bodies if body["rule_name"] == rules[0]]
        assert (arrived["model_name"], arrived["version"], arrived["value"]) == (name, NEW, 1)
        # Nobody moved its traffic yet.
        assert "the model was created" in arrived["probable_cause"]

        def alerts() -> dict[str, dict[str, Any]]:
            found = rest.ok("GET", "/v1/alerts", params={"model_name": name})["alerts"]
            return {alert["rule_name"]: alert for alert in found}

        until(lambda: set(rules) <= set(alerts()), within_s=WITHIN_S, what="both rules fire")
        assert (alerts()[rules[0]]["silenced"], alerts()[rules[1]]["silenced"]) == (False, True)
        assert receiver.statuses(rules[1]) == []
        rest.ok("DELETE", f"/v1/silences/{silence['silence_id']}")
        until(lambda: receiver.statuses(rules[1]) == ["firing"], within_s=WITHIN_S, what="it is told after the silence")
        until(
            lambda: [one["status"] for one in alerts()[rules[1]]["notifications"]] == ["sent"],
            within_s=WITHIN_S,
            what="the alert says who was told",
        )
        rest.refused(412, "DELETE", f"/v1/notification-channels/{name}")
        for rule in rules:
            rest.ok("DELETE", f"/v1/alert-rules/{rule}")
        until(
            lambda: all(receiver.statuses(rule) == ["firing", "resolved"] for rule in rules),
            within_s=WITHIN_S,
            what="their end is told",
        )
        rest.ok("DELETE", f"/v1/notification-channels/{name}")
        assert {alert["status"] for alert in alerts().values()} == {"resolved"}
