"""The HTML report as somebody sees it: a headless Chromium opens the file, without a network, and uses it.

Chromium is driven by its own protocol over a pair of pipes, so that nothing but the browser is needed.
"""

import json
import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from hawk.scenario.journal import (
    Accepted,
    Attempted,
    Delivered,
    Ended,
    FateMet,
    FaultRan,
    Header,
    Journal,
    QueueDepth,
    Sent,
    StateEntered,
    Verdict,
    VerdictRow,
)

pytest.importorskip("altair", reason="the report is drawn by the extra [report]")
pytest.importorskip("vl_convert", reason="the report is drawn by the extra [report]")

from hawk.scenario.report_page import write_page, write_png

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome")
LONGEST_S = 60.0
LANES = ["state", "queue", "latency", "backoff", "fate"]


def outage() -> Journal:
    """Two clients, 100 messages, one outage from 20 s to 40 s, one message dropped, and a name that is no markup."""
    events: list[Any] = []
    for client in ("boat</script><b>1", "boat-2"):
        events += [
            StateEntered(0.0, client, "connecting"),
            StateEntered(0.1, client, "connected"),
            StateEntered(20.0, client, "reconnecting", "reset by peer"),
            Attempted(21.0, client, 0.9, 0.5, 1.0),
            Attempted(40.0, client, 4.0, 2.0, 8.0),
            StateEntered(40.1, client, "connected"),
        ]
        for number in range(50):
            message, at_s = len(events) * 10 + number, number * 2.0
            down = 20 <= at_s < 40
            events.append(Sent(at_s, client, message, "boat/position", 1, 20))
            events.append(Accepted(at_s, client, message))
            events.append(QueueDepth(at_s, client, int(at_s - 19) if down else 1, 100))
            if number == 15:
                events.append(FateMet(at_s, client, message, "dropped", "the outbox is full"))
                continue
            latency_s = 40.1 - at_s if down else 0.02
            events.append(Delivered(at_s + latency_s, client, message, latency_s, 2 if number == 16 else 1))
            events.append(FateMet(at_s + latency_s, client, message, "acknowledged"))
            events.append(QueueDepth(at_s + latency_s, client, 0, 0))
    events.append(FaultRan(20.0, 40.0, "storm", "link.blackhole", {"way": "both"}, 7))
    ordered = sorted(events, key=lambda event: event.at_s)
    rows = (
        VerdictRow("lost == 0", "2", "== 0", None, False, "a position is a position", "messages 216, 217"),
        VerdictRow("queue.depth.max <= 30", "21", "<= 30", 0.3, True),
    )
    header = Header(
        *("storm", "Two <boats> in a storm.", 7, "trio", "virtual", 100.0, ("boat</script><b>1", "boat-2")),
        client={},
        expectations=(),
        queue_limit=30,
        cap_s=8.0,
    )
    return Journal(header, (*ordered, Ended(100.0)), Verdict("storm", 7, "trio", rows))


class Browser:
    """One page in a headless Chromium that can reach no network. `told` is all that the page and the browser said."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._buffer, self._numbers = b"", count(1)
        self._session: str | None = None
        self.told: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self.told.append(answer)

    def open(self, path: Path) -> None:
        self.call("Page.navigate", url=path.as_uri())

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript, awaited."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, expression: str) -> Any:
        """The value as soon as it is true."""
        waiting = (
            f"new Promise(done => {{ const look = () => {{ const value = ({expression});"
            "value ? done(value) : setTimeout(look, 20) }; look() })"
        )
        return self.evaluate(waiting)

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def of(self, method: str) -> list[dict[str, Any]]:
        return [each["params"] for each in self.told if each.get("method") == method]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], LONGEST_S)
            assert ready, "the browser says nothing"
            data = os.read(self._from, 1 << 20)
            assert data, "the browser has gone"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium is installed")
    commands_out, commands_in = os.pipe()
    answers_out, answers_in = os.pipe()
    flags = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
        *("--remote-debugging-pipe", "--window-size=1400,1600", "--disable-background-networking"),
        *("--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}"),
    ]
    # Chromium reads commands from descriptor 3 and writes to 4.
    shell = f'exec "$@" 3<&{commands_out} 4>&{answers_in}'
    with subprocess.Popen(
        ["bash", "-c", shell, "chromium", found, *flags, "about:blank"],
        pass_fds=(commands_out, answers_in),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as child:
        os.close(commands_out)
        os.close(answers_in)
        try:
            yield Browser(commands_in, answers_out)
        finally:
            child.kill()
            os.close(commands_in)
            os.close(answers_out)


CENTRE = """(() => {{
  const marks = [...document.querySelectorAll({selector!r})];
  const box = marks[Math.floor(marks.length / 2)].getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2];
}})()"""


def tooltip_at(browser: Browser, selector: str) -> str:
    """What the page shows when the pointer rests on the middle one of these marks."""
    browser.evaluate("window.scrollTo(0, 0)")
    x, y = browser.evaluate(CENTRE.format(selector=selector))
    browser.mouse("mouseMoved", x - 1, y)
    browser.mouse("mouseMoved", x, y)
    return str(browser.until("document.querySelector('#vg-tooltip-element.visible')?.innerText"))


def test_five_lanes_tooltips_and_zoom_without_a_network_and_without_an_error(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "storm.html"
    write_page(outage(), page)
    head, _, _ = page.read_text().partition("<script")
    assert "http" not in head
    assert "src=" not in head
    browser.open(page)
    browser.until("document.querySelector('#chart svg')")

    lanes = browser.evaluate(
        "[...document.querySelectorAll('#chart svg .role-title-text text')].map(title => title.textContent)"
    )
    assert lanes == LANES
    for lane in LANES:
        assert browser.evaluate(f"document.querySelectorAll('#chart svg .{lane}_marks_marks > *').length") > 0, lane

    told = tooltip_at(browser, "#chart svg .state_marks_marks path")
    assert "client" in told
    assert "connected" in told or "reconnecting" in told
    told = tooltip_at(browser, "#chart svg .latency_marks_marks path")
    assert "boat/position" in told
    assert "published at (s)" in told

    axis = "[...document.querySelectorAll('#chart svg .role-axis-label text')].map(each => each.textContent).join('|')"
    before = browser.evaluate(axis)
    assert "100 s" in before
    x, y = browser.evaluate(CENTRE.format(selector="#chart svg .latency_marks_marks path"))
    for _ in range(3):
        browser.mouse("mouseWheel", x, y, deltaX=0, deltaY=-200)
    browser.until(f"{axis} !== {json.dumps(before)}")

    text = browser.evaluate("document.body.innerText")
    for words in ("storm", "failed", "Two <boats> in a storm.", "lost == 0", "messages 216, 217", "the outbox is full"):
        assert words in text
    assert browser.evaluate("document.querySelectorAll('b').length") == 0, "a name became markup"

    asked = {each["request"]["url"].partition(":")[0] for each in browser.of("Network.requestWillBeSent")}
    assert asked <= {"file", "data", "blob"}
    assert browser.of("Runtime.exceptionThrown") == []
    assert [each for each in browser.of("Runtime.consoleAPICalled") if each["type"] in ("error", "warning")] == []
    assert [each for each in browser.of("Log.entryAdded") if each["entry"]["level"] == "error"] == []


def test_the_picture_is_a_png_that_is_wide_enough(tmp_path: Path) -> None:
    picture = tmp_path / "storm.png"
    write_png(outage(), picture)
    data = picture.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(data[16:20]) > 1800
