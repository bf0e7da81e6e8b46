"""The console in a real browser over a real mesh: by keyboard, in light and dark, wide and narrow."""

import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.supervisor.settings import ROOT
from tests.e2e.driving import NEW, OLD, Rest, deploy, holdout, registration
from tests.support.browser import Page, browser, chromium, violations
from tests.support.mesh import Mesh
from tests.support.waiting import until

PICTURES = ROOT / ".build" / "console"
AXE = ROOT / "console" / "node_modules" / "axe-core" / "axe.min.js"
LOOKS = [(1280, False), (1280, True), (390, False), (390, True)]
"""Widths in pixels, in light and dark."""
ASKED = 60
BUILD_TIMEOUT_S = 300.0
BACK_WITHIN_S = 150.0


@pytest.fixture(scope="module")
def rest(mesh: Mesh) -> Iterator[Rest]:
    client = Rest(mesh.gateway, mesh.key)
    yield client
    client.close()


@pytest.fixture(scope="module")
def model(rest: Rest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model with a bit of everything: two versions, a test that ended, a canary, a job, traffic that was changed."""
    name = f"shown-{secrets.token_hex(3)}"
    path = f"/v1/models/{name}"
    for version in (OLD, NEW):
        parent = {"lineage": {"parent_version": OLD}} if version == NEW else {}
        rest.ok("POST", "/v1/models", json={**registration(name, version), **parent})
        deploy(rest, name, version, f"at-{version.replace('.', '-')}")
    rest.ok("PATCH", f"{path}/traffic", json={"traffic_split": {OLD: 70, NEW: 30}, "reason": "a first look"})
    test = {"name": "forest", "versions": {OLD: 50, NEW: 50}, "duration_days": 7, "metrics": ["latency", "error_rate"]}
    rest.ok("POST", f"{path}/ab-tests", json=test)
    # What comes in the second in which it begins may not count yet.
    until(lambda: ask(rest, name) and seen(rest, path) >= ASKED, every_s=1.0, what="the test has seen its requests")
    rest.ok("POST", f"{path}/ab-tests/forest:stop", json={"reason": "seen enough"})
    rest.ok("PATCH", f"{path}/traffic", json={"traffic_split": {OLD: 100}})
    # One that cannot pass, so that an alert fires, and one that goes on.
    canary(rest, path, {"latency_p95_max_ms": 0.001, "requests_min": 20})
    until(
        lambda: ask(rest, name) and rest.ok("GET", f"{path}/canary")["status"] == "rolled_back",
        within_s=90.0,
        every_s=1.0,
        what="the first canary is rolled back",
    )
    canary(rest, path, {"error_rate_max": 0.01, "latency_p95_ratio_max": 2.0, "requests_min": 20})
    ask(rest, name)
    submit(rest, name, tmp_path_factory.mktemp("job") / "predictions.csv")
    return name


def canary(rest: Rest, path: str, criteria: dict[str, float]) -> None:
    stages = [{"percent": 50, "duration_minutes": 30}, {"percent": 100, "duration_minutes": 0}]
    config = {"enabled": True, "stages": stages, "success_criteria": criteria}
    rest.ok("PATCH", f"{path}/deployments/at-{NEW.replace('.', '-')}/traffic", json={"canary_config": config})


def ask(rest: Rest, model: str) -> bool:
    for place, row in enumerate(holdout(ASKED)):
        rest.predict({"instances": [{"X": row["X"]}]}, model=model, headers={"x-user-id": str(place)})
    return True


def seen(rest: Rest, path: str) -> float:
    arms = rest.ok("GET", f"{path}/ab-tests/forest")["results"]["arms"]
    return float(sum(arm["request_count"] for arm in arms))


def submit(rest: Rest, model: str, output: Path) -> None:
    source = ROOT / ".build" / "digits" / "holdout.jsonl"
    body = {"model_name": model, "input_uri": source.as_uri(), "output_uri": output.as_uri(), "job_name": "the holdout"}
    rest.ok("POST", "/v1/batch/predict", json={**body, "input": {"key_column": "id"}})


@pytest.fixture(scope="module")
def program() -> Path:
    return chromium()


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe-core, which comes with the packages that the console is built with."""
    fetched = subprocess.run(
        ["sh", str(ROOT / "tools" / "console.sh"), "--check"],
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT_S,
        check=False,
    )
    if not AXE.exists():
        pytest.skip(fetched.stderr.strip())
    return AXE.read_text()


@pytest.fixture
def page(program: Path, tmp_path: Path) -> Iterator[Page]:
    with browser(program, tmp_path) as tab:
        tab.look(width=1280)
        yield tab


def enter(page: Page, mesh: Mesh, path: str = "/console") -> None:
    """Opens a page with the operator's key, as if typed in before in this tab."""
    page.open(f"http://{mesh.gateway}/console/assets/nothing")
    page.run(f"sessionStorage.setItem('infermesh.key', {mesh.key!r})")
    page.open(f"http://{mesh.gateway}{path}")
    page.problems.clear()


def test_the_page_asks_for_a_key_and_keeps_it_where_nobody_finds_it(page: Page, mesh: Mesh) -> None:
    page.open(f"http://{mesh.gateway}/console")
    page.see("This mesh asks callers for an API key")
    page.tab_to("Skip to the content", steps_max=1)
    page.tab_to("Key")
    page.press("Enter")
    page.wait("document.activeElement.type === 'password'", what="the field has the focus")
    page.type("nonsense")
    page.press("Enter")
    page.see("This mesh asks callers for an API key")
    page.tab_to("Key")
    page.press("Enter")
    page.wait("document.activeElement.type === 'password'", what="the field has the focus")
    page.type(mesh.key)
    page.press("Enter")
    page.see("digits")
    assert "This mesh asks callers" not in page.text()
    kept = page.run(
        "({session: {...sessionStorage}, local: {...localStorage}, cookie: document.cookie, at: location.href})"
    )
    assert kept == {
        "session": {"infermesh.key": mesh.key},
        "local": {},
        "cookie": "",
        "at": f"http://{mesh.gateway}/console",
    }


def test_it_is_there_within_a_second(page: Page, mesh: Mesh, capsys: pytest.CaptureFixture[str]) -> None:
    enter(page, mesh)
    page.ask("Network.clearBrowserCache")
    page.open(f"http://{mesh.gateway}/console")
    drawn = "new Promise((done) => requestAnimationFrame(() => done(performance.now())))"
    page.wait("document.querySelector('h1')", what="the frame is drawn")
    frame_ms = page.run(drawn)
    page.see("digits")
    whole_ms = page.run(drawn)
    entry = page.run("performance.getEntriesByType('navigation')[0].toJSON()")
    weight = page.run("performance.getEntriesByType('resource').reduce((sum, one) => sum + one.encodedBodySize, 0)")
    with capsys.disabled():
        print(
            f"\nconsole: loaded after {entry['loadEventEnd']:.0f} ms, drawn after {frame_ms:.0f} ms, "
            f"models after {whole_ms:.0f} ms; {weight / 1000:.0f} kB"
        )
    assert page.problems == []


def test_traffic_is_planned_changed_and_undone_by_keyboard(page: Page, mesh: Mesh, rest: Rest) -> None:
    name = f"steered-{secrets.token_hex(3)}"
    path = f"/v1/models/{name}"
    for version in (OLD, NEW):
        rest.ok("POST", "/v1/models", json=registration(name, version))
        deploy(rest, name, version, f"at-{version.replace('.', '-')}")
    rest.ok("PATCH", f"{path}/traffic", json={"traffic_split": {OLD: 100}})
    enter(page, mesh, f"/console/models/{name}/traffic")
    page.see("Change the shares")

    page.tab_to(f"Share of {OLD}")
    page.run("document.activeElement.select()")
    page.type("60")
    page.see("The shares add up to 60; 40 are missing to 100.")
    page.tab_to(f"Share of {NEW}")
    page.run("document.activeElement.select()")
    page.type("40")
    page.see("The shares add up to 100.")
    page.tab_to("Why")
    page.type("by hand")
    page.press("Enter")
    page.see("The plan: nothing has changed yet")
    assert page.focused().startswith("The plan")
    assert "40\u202f% of the traffic would get another version than now." in page.text()
    assert rest.ok("GET", f"{path}/traffic")["traffic_split"] == {OLD: 100}
    picture(page, "plan")

    page.tab_to("Make this change")
    page.press("Enter")
    page.see(f"Done: {OLD} 60\u202f%, {NEW} 40\u202f%.")
    changed = rest.ok("GET", f"{path}/traffic")
    assert changed["traffic_split"] == {OLD: 60, NEW: 40}
    assert changed["reason"] == "by hand"

    page.see("by hand")
    undo(page)
    picture(page, "undo")
    page.press("Escape")
    page.wait("!document.querySelector('dialog')", what="Escape closes the dialog")
    assert page.focused() == "Undo the last change"
    assert rest.ok("GET", f"{path}/traffic")["traffic_split"] == {OLD: 60, NEW: 40}
    page.press("Shift+Tab")
    undo(page)
    page.tab_to("Undo")
    page.press("Enter")
    page.see(f"Undone: {OLD} 100\u202f%.")
    assert rest.ok("GET", f"{path}/traffic")["traffic_split"] == {OLD: 100}
    assert page.problems == []


def picture(page: Page, name: str) -> None:
    """What is shown now, in light, wide; the dialog and the plan are on no page by themselves."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(PICTURES / f"{name}.png")


def undo(page: Page) -> None:
    page.tab_to("Undo the last change")
    page.press("Enter")
    page.wait("document.querySelector('dialog[open]')", what="the dialog is open")
    page.see("It brings back all that held before the change")


def test_a_change_that_somebody_else_made_meanwhile_is_shown_and_not_overwritten(
    page: Page, mesh: Mesh, rest: Rest, model: str
) -> None:
    # While a canary decides, the API refuses: its own words and the next step are shown.
    enter(page, mesh, f"/console/models/{model}/traffic")
    page.see("decides the shares at the moment")
    page.tab_to("Undo the last change")
    page.press("Enter")
    page.see("It brings back all that held before the change")
    page.tab_to("Undo")
    page.press("Enter")
    page.see("ROLLOUT_IN_PROGRESS")
    page.see("End the canary or the A/B test first, under Releases.")
    refused = rest.refused(412, "POST", f"/v1/models/{model}/traffic:undo", json={})
    assert refused["message"].split(";")[0] in page.text()


def test_what_is_not_there_says_what_the_api_says(page: Page, mesh: Mesh, rest: Rest) -> None:
    enter(page, mesh, "/console/models/nobody")
    page.see(rest.refused(404, "GET", "/v1/models/nobody")["message"])
    page.open(f"http://{mesh.gateway}/console/nowhere")
    page.see("There is no page at")


def test_a_canary_is_paused_and_taken_up_again(page: Page, mesh: Mesh, rest: Rest, model: str) -> None:
    enter(page, mesh, f"/console/models/{model}/releases")
    page.see("The evidence of this stage")
    for deed, status in (("Pause", "paused"), ("Resume", "running")):
        page.tab_to(deed)
        page.press("Enter")
        page.see(f"{deed} the canary")
        page.type("a test")
        page.press("Enter")
        page.wait("!document.querySelector('dialog')", what="the dialog is closed")
        until(
            lambda wanted=status: rest.ok("GET", f"/v1/models/{model}/canary")["status"] == wanted,  # type: ignore[misc]
            what=f"the canary is {status}",
        )
        page.see("Resume" if deed == "Pause" else "Pause")


def places(model: str, job: str) -> dict[str, tuple[str, str]]:
    """Every page: its address, and a text that says that it has read what it shows."""
    return {
        "overview": ("/console", "\u202f/s"),
        "model": (f"/console/models/{model}", "Deployments"),
        "version": (f"/console/models/{model}/versions/{NEW}", "was made from"),
        "traffic": (f"/console/models/{model}/traffic", "a first look"),
        "releases": (f"/console/models/{model}/releases", "The evidence of this stage"),
        "jobs": ("/console/jobs", "the holdout"),
        "job": (f"/console/jobs/{job}", "Rows done"),
        "alerts": ("/console/alerts", model),
        "usage": ("/console/usage", "By team"),
    }


@pytest.mark.timeout(600)
def test_every_page_is_fit_for_everybody_and_fits_its_window(
    page: Page, mesh: Mesh, rest: Rest, model: str, axe: str
) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    jobs: list[dict[str, Any]] = rest.ok("GET", f"/v1/batch/jobs?model_name={model}")["jobs"]
    # Evidence of the stage that the canary is in now.
    ask(rest, model)
    enter(page, mesh)
    wrong: dict[str, object] = {}
    for name, (path, text) in places(model, jobs[0]["job_id"]).items():
        page.open(f"http://{mesh.gateway}{path}")
        page.see(text)
        page.wait("!document.body.innerText.includes('Reading…')", what=f"{name} has read everything")
        for width, dark in LOOKS:
            page.look(width=width, dark=dark)
            scheme = "dark" if dark else "light"
            page.wait("true")
            if found := violations(page, axe):
                wrong[f"{name} {width} {scheme}"] = found
            too_wide = page.run("document.documentElement.scrollWidth - innerWidth")
            if too_wide > 0:
                wrong[f"{name} {width} {scheme} width"] = too_wide
            page.screenshot(PICTURES / f"{name}-{width}-{scheme}.png")
    assert wrong == {}
    assert page.problems == []


def test_an_alert_is_acknowledged(page: Page, mesh: Mesh, rest: Rest, model: str) -> None:
    enter(page, mesh, "/console/alerts")
    page.see(model)
    alerts = rest.ok("GET", f"/v1/alerts?model_name={model}&status=firing")["alerts"]
    page.tab_to(f"Acknowledge {alerts[0]['rule_name']} {model}")
    page.press("Enter")
    page.see("Acknowledge the alert")
    note = f"it was to be so, {secrets.token_hex(4)}"
    page.type(note)
    page.press("Enter")
    page.see(note)
    acknowledged = rest.ok("GET", f"/v1/alerts/{alerts[0]['alert_id']}")
    assert acknowledged["status"] == "acknowledged"
    assert acknowledged["acknowledgement_note"] == note


def test_the_page_is_there_with_every_service_dead(mesh: Mesh) -> None:
    services = ("registry", "router", "deployer", "batch", "monitor")
    with mesh.held_down(*services):
        answer = httpx.get(f"http://{mesh.gateway}/console/models/digits", timeout=10, trust_env=False)
        assert answer.status_code == 200
        assert '<div id="app">' in answer.text
    # Others share the mesh.
    until(lambda: set(services) <= mesh.pids().keys(), within_s=BACK_WITHIN_S, what="the services are back")
