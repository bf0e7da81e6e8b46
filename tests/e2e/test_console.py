"""The console in a real browser over a real mesh: by keyboard, in light and dark, wide and narrow."""

import secrets
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from services.common.clock import SystemClock
from services.supervisor.settings import ROOT
from tests.e2e.driving import NEW, OLD, Rest, deploy, registration
from tests.e2e.showing import Shown, ask, furnish
from tests.support.browser import Page, browser, chromium, violations
from tests.support.mesh import Mesh
from tests.support.waiting import until

PICTURES = ROOT / ".build" / "console"
AXE = ROOT / "console" / "node_modules" / "axe-core" / "axe.min.js"
LOOKS = [(1280, False), (1280, True), (390, False), (390, True)]
"""Widths in pixels, in light and dark."""
pytestmark = pytest.mark.timeout(900)
DRAWN = "document.querySelector('.drift-chart .chart-title')"
BUILD_TIMEOUT_S = 300.0
BACK_WITHIN_S = 300.0


@pytest.fixture(scope="module")
def rest(mesh: Mesh) -> Iterator[Rest]:
    client = Rest(mesh.gateway, mesh.key)
    yield client
    client.close()


@pytest.fixture(scope="module")
def shown(rest: Rest, mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """A model with a bit of everything."""
    return furnish(rest, mesh.samples_dir, tmp_path_factory.mktemp("jobs"))


@pytest.fixture(scope="module")
def model(shown: Shown) -> str:
    return shown.model


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


def choose(page: Page, option: str) -> None:
    """One of a few, by the arrows: Tab comes to the one that is chosen."""
    radio = f"[...document.querySelectorAll('.choice label')].find((one) => one.textContent === {option!r})"
    group = f"{radio}.closest('fieldset').querySelector('input:checked')"
    for _ in range(200):
        page.press("Tab")
        if page.run(f"document.activeElement === {group}"):
            break
    for _ in range(10):
        if page.run(f"{radio}.querySelector('input').checked"):
            return
        page.press("ArrowRight")
    pytest.fail(f"the arrows do not come to {option!r}")


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


def places(shown: Shown) -> dict[str, tuple[str, str]]:
    """Every page: its address, and a text that says that it has read what it shows."""
    at = f"/console/models/{shown.model}"
    return {
        "overview": ("/console", "\u202f/s"),
        "model": (at, "Deployments"),
        "version": (f"{at}/versions/{NEW}", "was made from"),
        "traffic": (f"{at}/traffic", "a first look"),
        "releases": (f"{at}/releases", "The evidence of this stage"),
        "drift": (f"{at}/drift", "Features, the worst first"),
        "log": (f"{at}/log", "Asked by"),
        "jobs": ("/console/jobs", "the holdout"),
        "job": (f"/console/jobs/{shown.job}", "Rows done"),
        "schedules": ("/console/schedules", shown.schedule),
        "alerts": ("/console/alerts", shown.model),
        "rules": ("/console/alerts/rules", shown.rule),
        "channels": ("/console/alerts/channels", shown.channel),
        "silences": ("/console/alerts/silences", "nobody is to be woken"),
        "usage": ("/console/usage", "By team"),
    }


def test_every_page_is_fit_for_everybody_and_fits_its_window(
    page: Page, mesh: Mesh, rest: Rest, shown: Shown, axe: str
) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    end = (SystemClock().now() + timedelta(hours=1)).isoformat()
    silence = {"rule_name": shown.rule, "reason": "nobody is to be woken", "end_time": end}
    silenced = rest.ok("POST", "/v1/silences", json=silence)
    # Evidence of the stage that the canary is in now.
    ask(rest, shown.model)
    enter(page, mesh)
    wrong: dict[str, object] = {}
    for name, (path, text) in places(shown).items():
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
    rest.ok("DELETE", f"/v1/silences/{silenced['silence_id']}")
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


def test_drift_is_drawn_by_feature_and_a_feature_is_chosen_by_keyboard(
    page: Page, mesh: Mesh, rest: Rest, shown: Shown
) -> None:
    report = rest.ok("GET", f"/v1/models/{shown.model}/drift-reports/{shown.report}")
    features = report["features"]
    assert report["severity"] == "high"
    enter(page, mesh, f"/console/models/{shown.model}/drift")
    page.see("The newest report")
    # The worst one is drawn first: both distributions in one picture.
    worst = features[0]
    page.wait(f"{DRAWN}.textContent.startsWith({worst['feature']!r})", what="the worst is drawn")
    outlines = page.run(
        "['.drift-baseline', '.drift-window'].map((one) => document.querySelector(one).getAttribute('d'))"
    )
    assert len(set(outlines)) == 2
    assert all(outline.count("H") >= 2 for outline in outlines), outlines
    listed = page.run("[...document.querySelectorAll('th button.link')].map((one) => one.textContent)")
    assert listed == [one["feature"] for one in features[: len(listed)]], "the worst come first"
    # Categories: outputs that are classes.
    output = next(one for one in features if one["output"] and one["bins"][0].get("low") is None)
    choose(page, "Outputs")
    page.tab_to(output["feature"], steps_max=200)
    page.press("Enter")
    page.wait(f"{DRAWN}.textContent.startsWith({output['feature']!r})", what="the output is drawn")
    page.wait(f"document.querySelectorAll('.category-bars').length === {len(output['bins'])}", what="a bar for each")
    picture(page, "drift-output")
    # The one before, with its own address.
    page.run("[...document.querySelectorAll('a[href*=\"/drift/\"]')].at(-1).focus()")
    page.press("Enter")
    page.see("The report")
    assert shown.report not in page.run("location.pathname")
    assert page.problems == []


def test_the_prediction_log_is_searched_and_one_entry_looked_at(
    page: Page, mesh: Mesh, rest: Rest, shown: Shown
) -> None:
    enter(page, mesh, f"/console/models/{shown.model}/log")
    page.see("Of successful requests 100\u202f% are logged")
    page.tab_to("Request id")
    page.type(shown.request)
    page.press("Enter")
    page.wait("document.querySelectorAll('tbody tr').length === 1", what="one is found")
    page.tab_to(shown.request)
    page.press("Enter")
    page.see("What became of it")
    page.see("clicks 2")
    page.see("probabilities")
    picture(page, "log-entry")
    page.press("Escape")
    page.wait("!document.querySelector('dialog')", what="Escape closes the dialog")
    assert page.focused() == shown.request
    # Those that failed, of the last hour.
    enter(page, mesh, f"/console/models/{shown.model}/log")
    page.see("Asked by")
    choose(page, "Failed only")
    page.tab_to("Search")
    page.press("Enter")
    failed = rest.ok("GET", f"/v1/models/{shown.model}/inference-logs?errors_only=true")["inference_logs"]
    page.wait(f"document.querySelectorAll('tbody tr').length === {len(failed)}", what="the failed ones are found")
    assert "answered" not in page.run("document.querySelector('tbody').textContent")
    assert page.problems == []


def test_alerts_are_silenced_and_a_silence_is_ended(page: Page, mesh: Mesh, rest: Rest, model: str) -> None:
    enter(page, mesh, "/console/alerts")
    page.see(model)
    alert = rest.ok("GET", f"/v1/alerts?model_name={model}")["alerts"][0]
    page.tab_to(f"Silence {alert['rule_name']} {model}")
    page.press("Enter")
    page.see("Silence alerts")
    page.tab_to("Why, for the others")
    why = f"it is known, {secrets.token_hex(4)}"
    page.type(why)
    page.press("Enter")
    page.see(f"Silenced: rule {alert['rule_name']} of model {model}.")

    def silences() -> list[dict[str, str]]:
        found: list[dict[str, str]] = rest.ok("GET", "/v1/silences")["silences"]
        return [one for one in found if one["reason"] == why]

    assert [(one["rule_name"], one["model_name"]) for one in silences()] == [(alert["rule_name"], model)]
    page.open(f"http://{mesh.gateway}/console/alerts/silences")
    page.see(why)
    page.tab_to(f"End the silence of rule {alert['rule_name']} of model {model}")
    page.press("Enter")
    page.see("End the silence")
    page.tab_to("End it")
    page.press("Enter")
    page.see("Ended: the silence of")
    assert silences() == []
    assert page.problems == []


def test_rules_are_switched_channels_tried_and_schedules_paused(
    page: Page, mesh: Mesh, rest: Rest, shown: Shown
) -> None:
    enter(page, mesh, "/console/alerts/rules")
    page.see("error rate above 90\u202f% over 5\u202fmin")
    page.tab_to(f"Switch off {shown.rule}", steps_max=200)
    page.press("Enter")
    page.tab_to("Switch off")
    page.press("Enter")
    page.see(f"{shown.rule} is off now.")
    rule = rest.ok("GET", f"/v1/alert-rules/{shown.rule}")
    assert (rule["enabled"], rule["threshold"]["threshold"], rule["severity"]) == (False, 0.9, "critical")

    page.open(f"http://{mesh.gateway}/console/alerts/channels")
    page.tab_to(f"Send a test over {shown.channel}", steps_max=200)
    page.press("Enter")
    page.tab_to("Send")
    page.press("Enter")
    page.see(f"{shown.channel} was not reached")

    page.open(f"http://{mesh.gateway}/console/schedules")
    page.see(shown.schedule)
    for deed, paused in (("Pause", True), ("Resume", False)):
        page.tab_to(f"{deed} {shown.schedule}", steps_max=200)
        page.press("Enter")
        page.tab_to(deed)
        page.press("Enter")
        page.see(f"{shown.schedule} is {'paused' if paused else 'at work again'}.")
        found = rest.ok("GET", "/v1/batch/schedules")["schedules"]
        assert [one["paused"] for one in found if one["schedule_name"] == shown.schedule] == [paused]
    assert page.problems == []


def test_the_page_is_there_with_every_service_dead(mesh: Mesh) -> None:
    services = ("registry", "router", "deployer", "batch", "monitor")
    with mesh.held_down(*services):
        answer = httpx.get(f"http://{mesh.gateway}/console/models/digits", timeout=10, trust_env=False)
        assert answer.status_code == 200
        assert '<div id="app">' in answer.text
    # Others share the mesh.
    until(lambda: set(services) <= mesh.pids().keys(), within_s=BACK_WITHIN_S, what="the services are back")
