from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from kinema.cli import main
from kinema.studio import serve


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that only says that it answers, and listens to nobody but this machine."""
    listen = serve._listen

    def here(config):
        from dataclasses import replace

        return listen(replace(config, host="127.0.0.1"))

    def run(self, sockets):
        self._told()
        for item in sockets:
            item.close()

    monkeypatch.setattr(serve, "_listen", here)
    monkeypatch.setattr(serve._Telling, "run", run)


def started(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[dict[str, object], str]:
    assert main(["studio", *arguments, "--port", "0", "--json"]) == 0
    told = capsys.readouterr()
    return json.loads(told.out.splitlines()[-1]), told.err


def test_loopback_goes_without_a_token(
    answering: None, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told, _ = started(capsys, str(copied), "--out", str(tmp_path / "made"))
    assert told["token"] is None
    assert str(told["url"]).startswith("http://127.0.0.1:")
    assert told["enter"] == told["url"]


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7"])
def test_another_address_has_a_token_that_is_told_once(
    answering: None, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], host: str
) -> None:
    out = tmp_path / "made"
    tokens = set()
    for _ in range(2):
        told, words = started(capsys, str(copied), "--out", str(out), "--host", host)
        assert str(told["enter"]).endswith(f"/enter?token={told['token']}")
        assert "shown only here" in words
        tokens.add(told["token"])
    assert len(tokens) == 2
    assert all(len(str(token)) >= 32 for token in tokens)
    kept = "".join(path.read_text("latin1") for path in out.rglob("*") if path.is_file())
    assert not any(str(token) in kept for token in tokens)


def test_what_cannot_be_opened_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = {
        (str(tmp_path),): "holds no dataset, run, model or arena",
        (str(tmp_path / "gone"),): "is not a folder",
        (str(tmp_path), "--token", "short"): "at least 16 characters",
        (str(tmp_path), "--port", "99999"): "port must be from 0 to 65535",
    }
    for arguments, words in cases.items():
        assert main(["studio", *arguments, "--out", str(tmp_path / "made")]) == 2
        told = capsys.readouterr().err
        assert words in told
        assert told.count("\n") == 1


def test_a_port_that_is_taken_is_said(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert main(["studio", str(copied), "--port", port, "--out", str(tmp_path / "made")]) == 2
    assert "choose another --port" in capsys.readouterr().err


def test_nothing_is_written_where_footage_lies(
    footage: Path, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["studio", str(copied), "--out", str(footage / "made")]) == 2
    assert "where footage is" in capsys.readouterr().err
    assert not (footage / "made").exists()


@pytest.fixture
def copied(dataset: Path, tmp_path: Path) -> Path:
    import shutil

    shutil.copytree(dataset, tmp_path / "dataset")
    return tmp_path / "dataset"
