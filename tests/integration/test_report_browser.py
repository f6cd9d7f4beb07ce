"""The page in a real browser: Debian's Chromium, headless, over its own protocol."""

import base64
import contextlib
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

websocket = pytest.importorskip("websocket")
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")]
DESKTOP, PHONE = (1280, 900), (390, 844)


class Browser:
    """One tab. `events` is whatever the browser reported since the last page was opened."""

    def __init__(self, folder):
        command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run",
                   "--remote-allow-origins=*", f"--user-data-dir={folder}", "about:blank"]  # fmt: skip
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port = self._port(Path(folder) / "DevToolsActivePort")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as response:
            tab = next(one for one in json.load(response) if one["type"] == "page")
        self._socket = websocket.create_connection(tab["webSocketDebuggerUrl"], timeout=60)
        self._n, self.events = 0, []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def _port(self, file):
        deadline = time.monotonic() + 60
        while not (file.exists() and file.read_text().strip()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        return file.read_text().split()[0]

    def ask(self, method, **params):
        self._n += 1
        self._socket.send(json.dumps({"id": self._n, "method": method, "params": params}))
        while True:
            said = json.loads(self._socket.recv())
            if said.get("id") == self._n:
                assert "error" not in said, said
                return said["result"]
            self.events.append(said)

    def run(self, script):
        """What `script`, an expression or a promise, comes to."""
        found = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, script, patience_s=20):
        deadline = time.monotonic() + patience_s
        while not self.run(script):
            assert time.monotonic() < deadline, script
            time.sleep(0.05)

    def open(self, path, size=DESKTOP, scheme="light"):
        self.size(size)
        self.ask("Emulation.setEmulatedMedia", media="", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events.clear()
        self.ask("Page.navigate", url=path.as_uri())
        self.until("document.readyState === 'complete'")

    def size(self, size):
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=size[0],
            height=size[1],
            deviceScaleFactor=1,
            mobile=size == PHONE,
        )

    def press(self, key):
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def move(self, x, y):
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def screenshot(self, path):
        found = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        Path(path).write_bytes(base64.b64decode(found["data"]))

    def complaints(self):
        """Errors and warnings of the console, and exceptions."""
        kinds = {"Runtime.exceptionThrown", "Log.entryAdded"}
        said = [one for one in self.events if one["method"] in kinds]
        calls = [one for one in self.events if one["method"] == "Runtime.consoleAPICalled"]
        return said + [one for one in calls if one["params"]["type"] in {"error", "warning", "assert"}]

    def requests(self):
        sent = [one["params"]["request"]["url"] for one in self.events if one["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith("data:")]

    def close(self):
        with contextlib.suppress(Exception):
            self.ask("Browser.close")
        with contextlib.suppress(Exception):
            self._socket.close()
        self._process.terminate()
        self._process.wait(20)
