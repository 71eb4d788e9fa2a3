"""A real browser on a real server: Debian's Chromium through Playwright, where there is one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT_MS = 60_000
SERIOUS = ("serious", "critical")


@dataclass
class Server:
    """`kinema studio` as a process; it can be killed and started again on the same port."""

    folders: tuple[Path, ...]
    out: Path
    cache: Path
    port: int
    process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "kinema", "studio", *map(str, self.folders)]
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port), "--out", str(self.out), "--json"],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"XDG_CACHE_HOME": str(self.cache)},
            start_new_session=True,
        )
        assert self.process.stdout is not None
        told = json.loads(self.process.stdout.readline())
        assert told["url"] == f"{self.url}/"

    def kill(self) -> None:
        """At once, without a word, as the machine would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()


@contextmanager
def serving(tmp_path: Path, *folders: Path) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Server(folders, tmp_path / "made", tmp_path / "cache", port)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser, or a skip that says why there is none."""
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS, headless=True)
        except playwright.Error as error:
            pytest.skip(f"chromium does not start here: {str(error).splitlines()[0]}")
        yield browser
        with suppress(playwright.Error):
            browser.close()


class Visitor:
    """One person at a browser of their own; what the browser complains of is kept in `faults`."""

    def __init__(self, browser: Any, server: Server, **options: Any) -> None:
        self.context = browser.new_context(**({"viewport": {"width": 1280, "height": 860}} | options))
        self.page = self.context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.server = server
        self.faults: list[str] = []
        self.outage = False  # whether the server is killed on purpose
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", self._heard)

    def _heard(self, message: Any) -> None:
        # Requests that a newer one replaces are told as errors by htmx.
        # A server that is killed refuses, or leaves a video half sent.
        cut = "ERR_CONNECTION" in message.text or "ERR_CONTENT_LENGTH_MISMATCH" in message.text
        outage = self.outage and cut
        if message.type == "error" and "htmx:" not in message.text and not outage:
            self.faults.append(f"{message.text} {message.location.get('url')}")

    def go(self, path: str) -> Any:
        self.page.goto(f"{self.server.url}{path}", wait_until="domcontentloaded")
        return self.page

    def until(self, expression: str) -> None:
        """Wait for an expression to be true. (Playwright's own way needs eval, which our policy forbids.)"""
        deadline = time.monotonic() + WAIT_MS / 1000
        while not self.page.evaluate(expression):
            assert time.monotonic() < deadline, expression
            self.page.wait_for_timeout(50)

    def look(self, name: str, *, whole: bool = False) -> None:
        """A screenshot, kept in the test's folder or $KINEMA_SCREENSHOTS; and what is not accessible.

        `whole`: all of the page, not only what is in the window.
        """
        folder = Path(os.environ.get("KINEMA_SCREENSHOTS") or self.server.out.parent / "screenshots")
        folder.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=str(folder / f"{name}.png"), full_page=whole)
        found = serious(self.page)
        assert not found, "\n".join([name, *found])

    def close(self) -> None:
        self.context.close()
        assert not self.faults, self.faults


def serious(page: Any) -> list[str]:
    """What axe-core finds that is serious or critical."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{item['id']}: {node['html'][:160]} {node['failureSummary'][:200]}"
        for item in found
        if item["impact"] in SERIOUS
        for node in item["nodes"]
    ]
