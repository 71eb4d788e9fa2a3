"""What the studio is told: where it listens, where it writes, and what a visitor may cost."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path

from kinema.errors import ConfigError


def default_cache() -> Path:
    """Where cut clips lie: the user's cache, never beside the footage."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "kinema" / "studio"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Uploads: bytes, pixels a frame, seconds of video and seconds of decoding. Rates are a minute, by
    visitor: `requests` of any kind, `changes` to anything, `entries` with a token."""

    upload_mb: int = 200
    form_kb: int = 256
    pixels: int = 2**25
    video_s: float = 60.0
    decode_s: float = 180.0
    memory_mb: int = 1500
    requests: int = 6000
    changes: int = 240
    entries: int = 10
    cache_gb: float = 5.0
    jobs: int = 200

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ValueError(f"{name} must be positive, got {value}")


@dataclass(frozen=True, kw_only=True)
class StudioConfig:
    """`token` None: none is asked for on loopback, and one is made for any other address. Port 0: a free one.

    `out` holds what is made here: videos, uploads, voters' links.
    """

    host: str = "127.0.0.1"
    port: int = 8600
    token: str | None = None
    out: Path = Path("studio")
    cache: Path = field(default_factory=default_cache)
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise ConfigError(f"port must be from 0 to 65535, got {self.port}")
        if self.token is not None and len(self.token) < 16:
            raise ConfigError("token must have at least 16 characters; leave it out and one is made")

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False
