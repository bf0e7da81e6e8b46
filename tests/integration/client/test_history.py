"""Changes, lineage and removals, through the client and the command."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from infermesh.client import Client, InfermeshError

from tests.integration.client.histories import change
from tests.integration.client.scripted import Scripted


def test_the_log_is_listed_newest_first_over_all_pages(client: Client, scripted: Scripted) -> None:
    scripted.registry.changes = [change(number, "iris") for number in range(1, 6)]
    assert [one.cursor for one in client.changes.list()] == ["5", "4", "3", "2", "1"]
    few = list(client.changes.list(limit=3, start=datetime(2026, 2, 1, tzinfo=UTC)))
    assert [one.cursor for one in few] == ["5", "4", "3"]
    assert scripted.registry.listed[-1].start_time.seconds == 1_769_904_000
    assert not scripted.registry.listed[-1].HasField("end_time")


def test_a_watch_that_breaks_goes_on_where_it_was(client: Client, scripted: Scripted) -> None:
    scripted.registry.changes = [change(number, "iris") for number in range(1, 5)]
    scripted.registry.breaks_after = 2
    seen: list[str] = []
    with pytest.raises(InfermeshError, match="the test is over"):
        seen.extend(one.cursor for one in client.changes.watch(cursor="0", resource_types=["model"], model="iris"))
    watched = scripted.registry.watched
    assert [request.cursor for request in watched] == ["0", "2"]
    assert [request.model_name for request in watched] == ["iris", "iris"]
    assert seen == ["1", "2", "3", "4"]


def test_the_audit_shows_who_changed_what(scripted: Scripted, artifact: Path) -> None:
    scripted.run("register", "iris", "v1.0.0", str(artifact))
    moved = change(3, "iris@v1.0.0", "stage", reason="proven")
    moved.before.update({"stage": "draft", "etag": "a"})
    moved.after.update({"stage": "active", "etag": "b"})
    scripted.registry.changes = [change(1, "iris", "created"), change(2, "iris@v1.0.0", "created"), moved]
    shown = scripted.run("audit", "--actor", "ann", "--since", "2026-02-01").stdout
    assert "stage draft → active" in shown
    assert "proven" in shown
    asked = scripted.registry.listed[-1]
    assert (asked.actor, asked.HasField("start_time")) == ("ann", True)
    listed = json.loads(scripted.run("models", "changes", "iris", "--json").stdout)["changes"]
    assert [one["cursor"] for one in listed] == ["3", "2", "1"]
    lines = scripted.run("models", "watch", "--cursor", "0", "--json", code=2).stdout.splitlines()
    assert [json.loads(line)["resource_name"] for line in lines] == ["iris", "iris@v1.0.0", "iris@v1.0.0"]


def test_lineage_is_a_tree_in_both_directions(scripted: Scripted) -> None:
    shown = scripted.run("models", "lineage", "iris", "v2.0.0").stdout
    assert [line.rstrip() for line in shown.splitlines()] == [
        "version:iris@v2.0.0 was made from",
        "└── iris@v1.0.0",
        "    └── data set flowers",
        "version:iris@v2.0.0 became part of",
        "└── rose@v1.0.0",
    ]
    scripted.run("models", "lineage", "--node", "dataset:flowers", "--direction", "descendants", "--depth", "3")
    asked = scripted.registry.traced[-1]
    assert (asked.model_name, asked.node_id) == ("", "dataset:flowers")
    assert (asked.direction, asked.depth_max) == ("descendants", 3)
    assert "MODEL" in scripted.run("models", "lineage", code=2).stderr


def test_nothing_is_removed_without_a_word(scripted: Scripted) -> None:
    assert "--yes" in scripted.run("models", "delete", "iris", "v1.0.0", code=2).stderr
    assert scripted.registry.removed == []
    assert "removed v1.0.0 of iris" in scripted.run("models", "delete", "iris", "v1.0.0", "--yes").stdout
    scripted.run("models", "delete", "iris", "--yes", "--json")
    assert scripted.registry.removed == ["iris@v1.0.0", "iris"]
    scripted.registry.in_use = "iris@v2.0.0"
    result = scripted.run("models", "delete", "iris", "v2.0.0", "-y", code=5)
    assert "is deployed as" in result.stderr


def test_a_search_may_ask_for_everything(scripted: Scripted, artifact: Path) -> None:
    scripted.run("register", "iris", "v1.0.0", str(artifact))
    scripted.run(
        *("models", "search", "--prefix", "ir", "--team", "vision", "--alias", "champion"),
        *("--from", "dataset:flowers", "--from", "person:ann"),
    )
    asked = scripted.registry.searches[-1]
    assert (asked.name_prefix, asked.team, asked.alias) == ("ir", "vision", "champion")
    assert list(asked.lineage) == ["dataset:flowers", "person:ann"]
