from __future__ import annotations

import base64
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from kinema.cli import main
from kinema.curate.captioner import CaptionsSpent
from kinema.curate.endpoint import Endpoint, EndpointConfig
from kinema.curate.pipeline import CurateConfig, curate
from kinema.errors import CaptionError, ConfigError
from kinema.manifest import read_clips

Reply = tuple[int, dict[str, str], bytes]
HANG: Reply = (0, {}, b"")
PICTURES = np.full((2, 24, 32, 3), 200, np.uint8)


def chat(text: str | None) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


class ChatServer:
    """Speaks the protocol; `reply` decides on each request from its number and its body."""

    def __init__(self) -> None:
        self.bodies: list[dict] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.reply: Callable[[int, dict], Reply] = lambda number, body: (200, {}, chat(f"answer {number}"))
        self.done = threading.Event()
        lock, server = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    number = len(server.bodies)
                    server.bodies.append(body)
                    server.headers.append(dict(self.headers))
                    server.times.append(time.monotonic())
                code, headers, content = server.reply(number, body)
                if code == 0:  # hang
                    server.done.wait(5)
                    return
                self.send_response(code)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # a client that gave up

        self._server = Quiet(("127.0.0.1", 0), Handler)  # any free port
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()

    def close(self) -> None:
        self.done.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    running = ChatServer()
    yield running
    running.close()


def endpoint(server: ChatServer, **settings: object) -> Endpoint:
    return Endpoint(EndpointConfig(url=server.url, **{"backoff_s": 0.01, "timeout_s": 5.0, **settings}))


def test_frames_and_words_are_sent_as_the_protocol_has_it(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sesame")
    asked = endpoint(server, key_env="MY_KEY", max_tokens=50)
    assert asked.answer("llava", "What is this?", PICTURES) == "answer 0"
    (body,) = server.bodies
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("llava", 50, 0.0)
    (message,) = body["messages"]
    assert message["content"][0] == {"type": "text", "text": "What is this?"}
    assert [part["type"] for part in message["content"][1:]] == ["image_url"] * 2
    head, _, encoded = message["content"][1]["image_url"]["url"].partition(",")
    assert head == "data:image/jpeg;base64"
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(encoded), np.uint8), cv2.IMREAD_COLOR)
    assert (picture.shape, abs(int(picture.mean()) - 200) < 3) == ((24, 32, 3), True)
    assert server.headers[0]["Authorization"] == "Bearer sesame"
    asked.answer("zephyr", "Merge", None)
    assert server.bodies[1]["messages"] == [{"role": "user", "content": "Merge"}]


@pytest.mark.parametrize(
    "bad",
    [
        (500, {}, b"oops"),
        (429, {}, b"slow down"),
        (200, {}, b"{not json"),
        (200, {}, b'{"choices": []}'),
        (200, {}, chat("  ")),
        (200, {}, chat(None)),
    ],
)
def test_a_passing_fault_is_tried_again(server: ChatServer, bad: Reply) -> None:
    server.reply = lambda number, body: bad if number < 2 else (200, {}, chat("a  dog\nruns"))
    assert endpoint(server).answer("m", "p", PICTURES) == "a dog runs"
    assert len(server.bodies) == 3


def test_a_server_that_hangs_is_given_up_on(server: ChatServer) -> None:
    server.reply = lambda number, body: HANG if number == 0 else (200, {}, chat("late"))
    assert endpoint(server, timeout_s=0.2).answer("m", "p", None) == "late"


def test_in_the_end_the_fault_is_told(server: ChatServer) -> None:
    server.reply = lambda number, body: (503, {}, b"overloaded")
    with pytest.raises(CaptionError, match=r"HTTP 503 .*: overloaded \(tried 3 times\)"):
        endpoint(server, retries=2).answer("m", "p", None)
    assert len(server.bodies) == 3


def test_nobody_there_is_a_fault_of_the_clip() -> None:
    nobody = Endpoint(EndpointConfig(url="http://127.0.0.1:9/v1", retries=1, backoff_s=0, key_env=""))
    with pytest.raises(
        CaptionError, match=r"no answer from http://127.0.0.1:9/v1: Connection refused \(tried"
    ):
        nobody.answer("m", "p", None)


def test_waits_as_long_as_the_server_says_and_lets_the_others_wait_too(server: ChatServer) -> None:
    server.reply = lambda number, body: (
        (429, {"Retry-After": "0.5"}, b"") if number == 0 else (200, {}, chat("x"))
    )
    asked = endpoint(server)
    first = threading.Thread(target=asked.answer, args=("m", "p", None))
    first.start()
    while not asked._not_before:
        time.sleep(0.01)
    asked.answer("m", "p", None)
    first.join()
    assert len(server.times) == 3
    assert min(server.times[1:]) - server.times[0] >= 0.5


def test_too_long_a_wait_is_not_waited(server: ChatServer) -> None:
    server.reply = lambda number, body: (429, {"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"}, b"")
    with pytest.raises(CaptionError, match="longer than max_wait_s"):
        endpoint(server).answer("m", "p", None)


def test_a_request_that_cannot_succeed_is_not_tried_again(server: ChatServer) -> None:
    server.reply = lambda number, body: (400, {}, b"too many images")
    with pytest.raises(CaptionError, match=r"HTTP 400 .*too many images"):
        endpoint(server).answer("m", "p", None)
    assert len(server.bodies) == 1


def test_a_refused_key_ends_the_run_and_is_never_told(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sesame")
    server.reply = lambda number, body: (401, {}, b"Incorrect API key provided: sesame")
    with pytest.raises(ConfigError, match="environment variable OPENAI_API_KEY") as caught:
        endpoint(server).answer("m", "p", None)
    assert "sesame" not in str(caught.value)


def test_a_redirect_is_not_followed(server: ChatServer) -> None:
    server.reply = lambda number, body: (302, {"Location": "http://127.0.0.1:9/"}, b"")
    with pytest.raises(CaptionError, match="HTTP 302"):
        endpoint(server).answer("m", "p", None)


def test_the_cap_counts_every_try(server: ChatServer) -> None:
    server.reply = lambda number, body: (500, {}, b"")
    asked = endpoint(server, max_requests=3, retries=9)
    with pytest.raises(CaptionsSpent):
        asked.answer("m", "p", None)
    assert (len(server.bodies), asked.requests) == (3, 3)


def test_thoughts_are_no_caption(server: ChatServer) -> None:
    server.reply = lambda number, body: (200, {}, chat("<think>a dog?\n</think>\n\nA dog."))
    assert endpoint(server).answer("m", "p", None) == "A dog."


def test_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="http"):
        EndpointConfig(url="localhost:8000")
    with pytest.raises(ValueError, match="concurrency must be above 0"):
        EndpointConfig(concurrency=0)


def test_a_dataset_is_captioned_through_a_server_that_sometimes_fails(
    server: ChatServer, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every third request fails, each time in another way."""
    faults: list[Reply] = [(500, {}, b""), (429, {"Retry-After": "0.05"}, b""), (200, {}, b"<html>"), HANG]
    server.reply = lambda number, body: (
        faults[number // 3 % 4] if number % 3 == 0 else (200, {}, chat(f"by {body['model']}"))
    )
    folder = tmp_path / "dataset"
    curate([made], folder, CurateConfig(workers=0))
    words = ["caption", str(folder), "--backend", "endpoint", "--url", server.url, "--model", "llava"]
    for key in ("merge_model=zephyr", "backend.backoff_s=0.01", "backend.timeout_s=0.5"):
        words += ["--set", key]
    assert main([*words, "--json", "--set", "backend.max_requests=4"]) == 1
    first = json.loads(capsys.readouterr().out)
    assert (first["requests"], len(server.bodies)) == (4, 4)
    assert first["left"] > 0
    assert main([*words, "--json"]) == 0
    second = json.loads(capsys.readouterr().out)
    made_in_all = Counter(first["captions"]) + Counter(second["captions"])
    assert made_in_all == {"image": 3, "video": 2, "merged": 2}
    captions = [
        [(item.kind, item.text) for item in clip.captions if item.model] for clip in read_clips(folder)
    ]
    all_three = [("image", "by llava"), ("merged", "by zephyr"), ("video", "by llava")]
    assert sorted(captions) == [[], all_three[:1], all_three, all_three]
    answered = sum(number % 3 != 0 for number in range(len(server.bodies)))
    assert answered == 7  # what was answered is not asked again
