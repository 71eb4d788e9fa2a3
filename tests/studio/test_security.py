from __future__ import annotations

from pathlib import Path

import pytest

from kinema.studio.config import Limits, StudioConfig
from kinema.studio.security import HEADERS, Buckets

from .conftest import Opener, concrete, form_token, place_id, routes

TOKEN = "a-token-for-these-tests"
OPEN_TO_ALL = {"/", "/enter"}


def test_nothing_is_shown_without_the_token(studio: Opener, copied: Path) -> None:
    client = studio(copied, token=TOKEN)
    asked = [(method, path) for method, path in routes(client) if path not in OPEN_TO_ALL]
    assert len(asked) > 8
    for method, path in asked:
        assert client.request(method, concrete(path)).status_code in (401, 403), (method, path)
    door = client.get("/")
    assert door.status_code == 401
    assert copied.name not in door.text


def test_the_token_becomes_a_cookie_that_scripts_cannot_read(studio: Opener, copied: Path) -> None:
    client = studio(copied, token=TOKEN)
    assert client.get("/enter?token=wrong-token-entirely").status_code == 401
    answer = client.get(f"/enter?token={TOKEN}", follow_redirects=False)
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert client.get("/").status_code == 200
    assert TOKEN not in client.get("/").text


def test_a_forged_or_foreign_cookie_is_none(studio: Opener, copied: Path, tmp_path: Path) -> None:
    client = studio(copied, token=TOKEN)
    client.get(f"/enter?token={TOKEN}")
    name, value = next(iter(client.cookies.items()))
    for forged in (value[:-1] + ("0" if value[-1] != "0" else "1"), "a.b.c.d", "x", value.replace(".", "!")):
        client.cookies.clear()
        client.cookies.set(name, forged, domain="127.0.0.1")
        assert client.get("/data").status_code == 401
    other = studio(copied, token="another-token-altogether")
    other.cookies.set(name, value, domain="127.0.0.1")
    assert other.get("/data").status_code == 401


@pytest.mark.parametrize("where", ["//evil.example", "https://evil.example", "/\\evil.example", "/a\r\nb: c"])
def test_the_front_door_never_leads_elsewhere(studio: Opener, copied: Path, where: str) -> None:
    answer = studio(copied).get("/enter", params={"to": where}, follow_redirects=False)
    assert answer.headers["location"] == "/"


def test_a_change_needs_the_token_of_its_form(studio: Opener, copied: Path) -> None:
    client = studio(copied)
    base = f"/data/{place_id(client, 'dataset')}"
    clip = next((copied / "thumbnails").iterdir()).stem
    token, form = form_token(client), {"verdict": "drop"}
    address = f"{base}/clip/{clip}/verdict"
    assert client.post(address, data=form).status_code == 403
    assert client.post(address, data=form | {"csrf": "0" * 64}).status_code == 403
    foreign = {"sec-fetch-site": "cross-site"}
    assert client.post(address, data=form | {"csrf": token}, headers=foreign).status_code == 403
    assert not (copied / "verdicts.jsonl").exists()
    assert client.post(address, data=form, headers={"x-csrf-token": token}).status_code == 200


def test_every_change_is_checked(studio: Opener, copied: Path) -> None:
    client = studio(copied)
    changes = [path for method, path in routes(client) if method == "POST"]
    assert len(changes) >= 5
    for path in changes:
        assert client.post(concrete(path), data={"x": "y"}).status_code in (403, 401), path


@pytest.mark.parametrize(
    "path",
    [
        "/data/{id}/media/..%2f..%2fdataset.toml",
        "/data/{id}/media/%2e%2e/%2e%2e/dataset.toml",
        "/data/{id}/media//etc/passwd",
        "/data/{id}/media/....mp4",
        "/data/..%2f..%2fetc/clip/passwd",
        "/static/..%2f..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/static//etc/passwd",
        "/data/{id}/media/%00.mp4",
    ],
)
def test_no_path_of_a_visitor_is_opened(studio: Opener, copied: Path, path: str) -> None:
    client = studio(copied)
    answer = client.get(path.replace("{id}", place_id(client, "dataset")))
    assert answer.status_code in (404, 405)
    assert "root:" not in answer.text
    assert "import" not in answer.text


def test_every_answer_has_the_headers(studio: Opener, copied: Path) -> None:
    client = studio(copied)
    for path in ("/", "/data", "/static/studio.css", "/nothing"):
        answer = client.get(path)
        for name, value in HEADERS.items():
            assert answer.headers[name] == value, (path, name)
    policy = HEADERS["content-security-policy"]
    assert "unsafe" not in policy
    assert "script-src 'self'" in policy


def test_pages_hold_no_inline_script_or_style() -> None:
    from importlib.resources import files

    for template in files("kinema.studio").joinpath("templates").iterdir():
        text = template.read_text("utf-8")
        assert " style=" not in text, template.name
        assert " onclick=" not in text, template.name
        assert " hx-on" not in text, template.name
        assert text.count("<script") == text.count("<script src="), template.name
        assert "http://" not in text, template.name
        assert "https://" not in text, template.name


def test_another_name_for_the_address_is_refused(studio: Opener, copied: Path) -> None:
    client = studio(copied)
    assert client.get("/", headers={"host": "evil.example"}).status_code == 421
    assert client.get("/", headers={"host": "localhost:8600"}).status_code == 200


def test_a_body_that_is_too_long_is_refused(studio: Opener, copied: Path) -> None:
    client = studio(copied, limits=Limits(form_kb=4))
    assert client.post("/data/x/filters/apply", content=b"x" * 5000).status_code == 413

    def endless():
        for _ in range(64):
            yield b"x" * 1024

    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert client.post("/data/x/filters/apply", content=endless(), headers=headers).status_code == 413


def test_who_asks_too_often_waits(studio: Opener, copied: Path) -> None:
    client = studio(copied, token=TOKEN, limits=Limits(entries=3))
    answers = [client.get("/enter?token=guess-number-one").status_code for _ in range(5)]
    assert answers == [401, 401, 401, 429, 429]
    client = studio(copied, limits=Limits(requests=20))
    assert [client.get("/keys").status_code for _ in range(30)].count(429) >= 8


def test_the_memory_of_visitors_is_bounded() -> None:
    buckets = Buckets(2)
    for number in range(10_000):
        buckets.take(str(number))
    assert len(buckets._left) <= 4096


def test_only_loopback_goes_without_a_token() -> None:
    for host in ("127.0.0.1", "localhost", "::1", "[::1]", "127.8.8.8"):
        assert StudioConfig(host=host).loopback
    for host in ("0.0.0.0", "::", "192.168.1.4", "example.org", ""):
        assert not StudioConfig(host=host).loopback
