"""A headless Chromium as a reader uses it: pages, keys, looks. Spoken to over two pipes, by the DevTools protocol."""

import base64
import itertools
import json
import os
import select
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from services.supervisor.settings import ROOT

NAME = "chromium-headless-shell"
FETCH_TIMEOUT_S = 300.0
ANSWER_TIMEOUT_S = 60.0
_KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowRight": 39, "ArrowLeft": 37, "Backspace": 8}
_FOCUSABLE = "a, button, input, select, textarea, summary, [tabindex]"
_NAMED = "one => (one.labels?.[0] ?? one).textContent.trim() || one.getAttribute('aria-label') || one.tagName"
"""What a screen reader would call an element."""


def chromium() -> Path:
    """The program. Skips the test with a sentence where there is none and none can be had."""
    fetch = ["sh", str(ROOT / "tools" / "debian.sh"), NAME, NAME]
    fetched = subprocess.run(fetch, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=False)
    if fetched.returncode:
        pytest.skip(fetched.stderr.strip() or "there is no Chromium")
    return Path(fetched.stdout.strip())


class Page:
    """One tab."""

    def __init__(self, program: Path, folder: Path) -> None:
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        # Chromium reads commands from descriptor 3 and answers on 4.
        starts = 'exec 3<&"$1" 4>&"$2"; shift 2; exec "$@"'
        flags = ("--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run")
        told = ("bash", "-c", starts, "bash", str(to_browser), str(from_browser), str(program), *flags)
        with (folder / "chromium.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*told, f"--user-data-dir={folder / 'profile'}", "about:blank"],
                pass_fds=(to_browser, from_browser),
                stdout=log,
                stderr=log,
            )
        os.close(to_browser)
        os.close(from_browser)
        self._ids = itertools.count(1)
        self._buffer = b""
        self._session = ""
        self.problems: list[str] = []
        """What the page threw, or wrote to its console as an error."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def close(self) -> None:
        """Ends the browser."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol. Fails where the browser refuses it."""
        number = next(self._ids)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        until_s = time.monotonic() + ANSWER_TIMEOUT_S
        while True:
            answer = self._next(until_s)
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, url: str) -> None:
        """Goes there."""
        self.ask("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'", what=f"{url} is loaded")

    def run(self, expression: str) -> Any:
        """What an expression of JavaScript gives; promises are awaited."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, f"{expression[:200]}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def wait(self, condition: str, *, what: str = "", within_s: float = 30.0) -> None:
        """Waits until the page itself sees that a condition holds: it looks at every change of what is shown."""
        milliseconds = int(within_s * 1000)
        seen = self.run(
            f"""new Promise((done) => {{
              const holds = () => {{ try {{ return !!({condition}); }} catch {{ return false; }} }};
              if (holds()) return done(true);
              const watch = new MutationObserver(() => holds() && end(true));
              const end = (value) => {{ watch.disconnect(); clearInterval(again); clearTimeout(late); done(value); }};
              const again = setInterval(() => holds() && end(true), 50);
              const late = setTimeout(() => end(false), {milliseconds});
              watch.observe(document, {{ subtree: true, childList: true, attributes: true, characterData: true }});
            }})"""
        )
        assert seen, f"{what or condition} did not come within {within_s:.0f} s; shown is: {self.text()[:3000]}"

    def see(self, text: str, *, within_s: float = 30.0) -> None:
        """Waits until a text is shown."""
        self.wait(f"document.body.innerText.includes({json.dumps(text)})", what=f"“{text}”", within_s=within_s)

    def text(self) -> str:
        """All that is shown."""
        return str(self.run("document.body.innerText"))

    def press(self, *keys: str) -> None:
        """Presses keys one after the other, "Shift+Tab" among them."""
        for key in keys:
            shift, _, name = key.rpartition("+")
            code = {"key": name, "code": name, "windowsVirtualKeyCode": _KEYS[name], "modifiers": 8 if shift else 0}
            typed = {"text": "\r"} if name == "Enter" else {}
            self.ask("Input.dispatchKeyEvent", type="keyDown", **code, **typed)
            self.ask("Input.dispatchKeyEvent", type="keyUp", **code)

    def type(self, text: str) -> None:
        """Types a text into what has the focus."""
        self.ask("Input.insertText", text=text)

    def focused(self) -> str:
        """What has the focus, as a screen reader would name it."""
        return str(self.run(f"({_NAMED})(document.activeElement)"))

    def tab_to(self, name: str, *, steps_max: int = 80) -> None:
        """Presses Tab until what is called so has the focus; waits for it to be shown before."""
        named = f"[...document.querySelectorAll('{_FOCUSABLE}')].some(one => ({_NAMED})(one).startsWith(text))"
        self.wait(f"(text => {named})({json.dumps(name)})", what=f"something to use that is called “{name}”")
        passed = []
        for _ in range(steps_max):
            self.press("Tab")
            passed.append(self.focused())
            if passed[-1].startswith(name):
                return
        pytest.fail(f"Tab does not come to “{name}”; it passed {passed}")

    def look(self, *, width: int, height: int = 900, dark: bool = False) -> None:
        """How the page is looked at: its width in pixels, light or dark."""
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme, {"name": "prefers-reduced-motion", "value": "reduce"}])

    def screenshot(self, path: Path) -> None:
        """The whole page as a picture."""
        picture = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(picture["data"]))

    def _next(self, until_s: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            left_s = until_s - time.monotonic()
            assert left_s > 0, "the browser does not answer"
            if select.select([self._read], [], [], left_s)[0]:
                piece = os.read(self._read, 1 << 20)
                assert piece, "the browser has ended"
                self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(line)
        self._hear(answer)
        return answer

    def _hear(self, event: dict[str, Any]) -> None:
        match event.get("method"):
            case "Runtime.exceptionThrown":
                self.problems.append(str(event["params"]["exceptionDetails"]))
            case "Log.entryAdded" if event["params"]["entry"]["level"] == "error":
                self.problems.append(str(event["params"]["entry"]))
            case _:
                pass


@contextmanager
def browser(program: Path, folder: Path) -> Iterator[Page]:
    """A browser with one empty tab."""
    page = Page(program, folder)
    try:
        yield page
    finally:
        page.close()


def violations(page: Page, axe: str, *, serious: Sequence[str] = ("serious", "critical")) -> list[str]:
    """What axe-core finds wrong with what is shown. `axe`: its source."""
    page.run(f"{axe}; undefined")
    found = page.run("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']} ({one['impact']}): {one['help']}: {[node['html'][:200] for node in one['nodes'][:3]]}"
        for one in found["violations"]
        if one["impact"] in serious
    ]
