"""A headless Chromium on a pair of pipes, for the tests of the report; no packages needed."""

import base64
import json
import os
import selectors
import shutil
import subprocess
import sys
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
# Chromium reads commands from file descriptor 3 and writes to 4.
_START = (
    "import fcntl, os, sys; "
    "r, w = (fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3]); "
    "os.dup2(r, 3); os.dup2(w, 4); "
    "os.execv(sys.argv[3], sys.argv[3:])"
)


def find() -> str | None:
    """The program, or None."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Page:
    """One page; collects the errors on its console and what it asks of the network."""

    def __init__(self, program: str, profile: Path, width: int = 1200, height: int = 900):
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-c", _START, str(to_browser), str(from_browser), program),
                *FLAGS,
                f"--user-data-dir={profile}",
                f"--window-size={width},{height}",
                "about:blank",
            ],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._read, selectors.EVENT_READ)
        self._buffer, self._number, self._session = b"", 0, None
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._loaded = False
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )

    def open(self, url: str, timeout: float = 60.0) -> None:
        """Load a page and wait for its load event."""
        self._loaded = False
        self.call("Page.navigate", url=url)
        end = time.monotonic() + timeout
        while not self._loaded:
            self._handle(self._message(end))

    def run(self, script: str):
        """The value of a JavaScript expression; promises are awaited."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def screenshot(self, whole: bool = False) -> bytes:
        """A PNG of the window, or of the whole page."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        return base64.b64decode(answer["data"])

    def drag(self, start: tuple[float, float], end: tuple[float, float], steps: int = 8) -> None:
        """Press the left button at one point and let go at another, in window coordinates."""
        self._mouse("mouseMoved", start, 0)
        self._mouse("mousePressed", start, 1)
        for i in range(1, steps + 1):
            at = tuple(a + (b - a) * i / steps for a, b in zip(start, end, strict=True))
            self._mouse("mouseMoved", at, 1)
            time.sleep(0.03)
        self._mouse("mouseReleased", end, 0)

    def move(self, to: tuple[float, float]) -> None:
        """Point somewhere."""
        self._mouse("mouseMoved", to, 0)

    def call(self, method: str, **parameters) -> dict:
        """Send a command and wait for its answer."""
        self._number += 1
        number, message = self._number, {"method": method, "params": parameters}
        message |= {"id": number} | ({"sessionId": self._session} if self._session else {})
        os.write(self._write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + 60.0
        while True:
            answer = self._message(end)
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._handle(answer)

    def close(self) -> None:
        """End the browser."""
        self._session = None
        try:
            self.call("Browser.close")
            self._process.wait(timeout=10)
        except (OSError, RuntimeError, TimeoutError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._selector.close()
        os.close(self._read)
        os.close(self._write)

    def __enter__(self) -> "Page":
        return self

    def __exit__(self, *_exception) -> None:
        self.close()

    def _mouse(self, kind: str, at, buttons: int) -> None:
        button = "left" if buttons or kind == "mouseReleased" else "none"
        self.call(
            "Input.dispatchMouseEvent",
            **{"type": kind, "x": at[0], "y": at[1], "button": button, "buttons": buttons},
            clickCount=1,
        )

    def _message(self, end: float) -> dict:
        while b"\0" not in self._buffer:
            if not self._selector.select(max(0.0, end - time.monotonic())):
                raise TimeoutError("Chromium does not answer")
            part = os.read(self._read, 1 << 20)
            if not part:
                raise RuntimeError("Chromium ended")
            self._buffer += part
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def _handle(self, message: dict) -> None:
        kind, data = message.get("method"), message.get("params", {})
        if kind == "Page.loadEventFired":
            self._loaded = True
        elif kind == "Network.requestWillBeSent":
            self.requests.append(data["request"]["url"])
        elif kind == "Runtime.consoleAPICalled" and data["type"] in ("error", "assert"):
            self.errors.append(" ".join(str(a.get("value", a)) for a in data["args"]))
        elif kind == "Runtime.exceptionThrown":
            self.errors.append(str(data["exceptionDetails"]))
        elif kind == "Log.entryAdded" and data["entry"]["level"] == "error":
            self.errors.append(f"{data['entry']['text']} {data['entry'].get('url', '')}")
