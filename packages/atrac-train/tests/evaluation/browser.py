"""A headless Chromium to drive pages with: keys, clicks, JavaScript and screenshots, over its debugging pipe."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome") if sys.platform != "win32" else ()
PROGRAM = next(filter(None, map(shutil.which, _NAMES)), None)
"""Its path; None if it is not installed, or cannot be given a pipe."""
PATIENCE = 60.0
"""Seconds to wait for an answer."""


_LAUNCH = """
import fcntl, os, sys
for number, end in enumerate([fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3]], 3):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""A browser reads commands from 3 and writes answers to 4."""
_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--mute-audio",
    "--remote-debugging-pipe",
    "--window-size=1280,900",
)


class Browser:
    """A page in a browser of its own, while its context lasts; what goes wrong is a RuntimeError.

    Args:
        page: HTML file.
    """

    def __init__(self, page: Path) -> None:
        self._page = page
        self._session: dict[str, str] = {}
        self._numbers, self._buffer = itertools.count(1), b""

    def __enter__(self) -> Self:
        assert PROGRAM is not None
        with ExitStack() as stack:
            home = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            (theirs_in, self._out), (self._in, theirs_out) = os.pipe(), os.pipe()
            for mine in (self._in, self._out):
                stack.callback(os.close, mine)
            ends = [str(end) for end in (theirs_in, theirs_out)]
            process = subprocess.Popen(
                [sys.executable, "-c", _LAUNCH, *ends, PROGRAM, *_OPTIONS, f"--user-data-dir={home}"],
                pass_fds=(theirs_in, theirs_out),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            for theirs in (theirs_in, theirs_out):
                os.close(theirs)
            target = self._call("Target.createTarget", url="about:blank")["targetId"]
            found = self._call("Target.attachToTarget", targetId=target, flatten=True)
            self._session = {"sessionId": found["sessionId"]}
            self._call("Page.navigate", url=self._page.as_uri())
            self.run(
                "new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', done))"
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def run(self, script: str) -> Any:
        """Return the value of an expression; a promise is awaited."""
        answer = self._call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"].get("description", answer["exceptionDetails"]))
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until an expression is true."""
        ended = time.monotonic() + PATIENCE
        while not self.run(condition):
            if time.monotonic() > ended:
                raise RuntimeError(f"still not: {condition}")
            time.sleep(0.02)

    def press(self, key: str) -> None:
        """Press a key; a capital letter goes with shift."""
        shift = 8 * (len(key) == 1 and key.isupper())
        about = {"key": key, "modifiers": shift} | ({"text": key} if len(key) == 1 else {})
        self._call("Input.dispatchKeyEvent", type="keyDown", **about)
        self._call("Input.dispatchKeyEvent", type="keyUp", key=key, modifiers=shift)

    def screenshot(self, picture: Path) -> None:
        """Write the visible page as PNG."""
        picture.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))

    def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": arguments, **self._session}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        ended = time.monotonic() + PATIENCE
        while True:
            while b"\0" not in self._buffer:
                ready, _, _ = select.select([self._in], [], [], max(0.0, ended - time.monotonic()))
                found = os.read(self._in, 1 << 16) if ready else b""
                if not found:
                    raise RuntimeError(f"{method}: no answer")
                self._buffer += found
            line, _, self._buffer = self._buffer.partition(b"\0")
            answer = json.loads(line)
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return dict(answer["result"])
