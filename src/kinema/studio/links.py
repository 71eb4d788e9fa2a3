"""Voters' links: each opens one arena for voting, and can be taken back. Only their hashes are kept."""

from __future__ import annotations

import json
import secrets
import threading
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from kinema.files import append_line, read_rows
from kinema.studio.sessions import fingerprint

_FILE = "links.jsonl"


@dataclass(frozen=True, kw_only=True)
class Link:
    """`id` is the hash of its token. A voter is asked at most `questions`."""

    id: str
    place_id: str
    label: str
    questions: int
    made_at: str
    revoked: bool = False


class Links:
    """All links of a studio, in its own folder."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / _FILE
        self._lock = threading.Lock()
        self._links = {row["id"]: Link(**row) for row in read_rows(self._file)}

    def make(self, place_id: str, label: str, questions: int) -> tuple[Link, str]:
        """A new link and its token, which is told only here."""
        token = secrets.token_urlsafe(18)
        link = Link(
            id=fingerprint(token),
            place_id=place_id,
            label=" ".join(label.split())[:80] or "voters",
            questions=questions,
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self._keep(link)
        return link, token

    def revoke(self, link_id: str) -> None:
        """From now on it opens nothing."""
        if (link := self._links.get(link_id)) is not None:
            self._keep(replace(link, revoked=True))

    def of_token(self, token: str) -> Link | None:
        """The link of a token, if it still opens something."""
        return self.get(fingerprint(token))

    def get(self, link_id: str) -> Link | None:
        """A link that still opens something."""
        link = self._links.get(link_id)
        return None if link is None or link.revoked else link

    def of_place(self, place_id: str) -> list[Link]:
        """The links to an arena that are open, the newest first."""
        found = [link for link in self._links.values() if link.place_id == place_id and not link.revoked]
        return sorted(found, key=lambda link: link.made_at, reverse=True)

    def _keep(self, link: Link) -> None:
        with self._lock:
            append_line(self._file, json.dumps(asdict(link)))
            self._links[link.id] = link
