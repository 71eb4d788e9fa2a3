"""A captioner behind an OpenAI-compatible address: chat completions, with frames as base64 images."""

from __future__ import annotations

import base64
import email.utils
import json
import os
import re
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Literal

from kinema.curate.captioner import CaptionsSpent, Pictures
from kinema.errors import CaptionError, ConfigError
from kinema.video.writer import image_bytes

_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 529}
_REFUSED = {401, 403, 404, 405}
_MOST_BYTES = 4 << 20
_THOUGHTS = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class EndpointConfig:
    """`url` ends before /chat/completions. The key is read from the environment variable `key_env` and is
    written nowhere. A request is tried `retries` times more, after `backoff_s`, twice that, and so on, or
    when the server says (Retry-After), if that is within `max_wait_s`. `max_requests` caps what one run may
    send, every try counted."""

    kind: Literal["endpoint"] = "endpoint"
    url: str = "http://127.0.0.1:8000/v1"
    model: str = ""
    key_env: str = "OPENAI_API_KEY"
    concurrency: int = 8
    timeout_s: float = 120.0
    retries: int = 5
    backoff_s: float = 1.0
    max_wait_s: float = 120.0
    max_requests: int | None = None
    max_tokens: int = 300
    temperature: float = 0.0

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url must begin with http:// or https://, got {self.url!r}")
        for name in ("concurrency", "timeout_s", "max_tokens"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if min(self.retries, self.backoff_s, self.max_wait_s, self.max_requests or 0) < 0:
            raise ValueError("retries, backoff_s, max_wait_s and max_requests must not be negative")


class Endpoint:
    """Asks from many threads; all of them wait when the server asks one to."""

    def __init__(self, config: EndpointConfig) -> None:
        self.concurrency = config.concurrency
        self.requests = 0
        self._config = config
        self._key = os.environ.get(config.key_env, "") if config.key_env else ""
        self._lock = threading.Lock()
        self._not_before = 0.0
        self._opener = urllib.request.build_opener(_NoRedirect)

    def answer(self, model: str, prompt: str, pictures: Pictures | None) -> str:
        """One answer; see `Captioner`."""
        body = self._body(model, prompt, pictures)
        fault = ""
        for attempt in range(self._config.retries + 1):
            self._spend()
            try:
                return _text(self._send(body))
            except urllib.error.HTTPError as error:
                with error:
                    fault, wait_s = self._fault(error), _retry_after(error.headers.get("Retry-After"))
                self._check(error.code, fault)
            except (OSError, HTTPException) as error:
                fault, wait_s = f"no answer from {self._config.url}: {_told(error)}", None
            except _MalformedError as error:
                fault, wait_s = str(error), None
            if attempt < self._config.retries:
                self._hold(attempt, wait_s, fault)
        raise CaptionError(f"{self._clean(fault)} (tried {self._config.retries + 1} times)")

    def _body(self, model: str, prompt: str, pictures: Pictures | None) -> bytes:
        content: list[dict[str, Any]] = [{"type": "text", "text": prompt}]
        for picture in pictures if pictures is not None else ():
            encoded = base64.b64encode(image_bytes(picture, ".jpg")).decode("ascii")
            content.append({"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{encoded}"}})
        message = {"role": "user", "content": content if pictures is not None else prompt}
        settings = {"max_tokens": self._config.max_tokens, "temperature": self._config.temperature}
        return json.dumps({"model": model, "messages": [message], **settings}).encode()

    def _send(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        url = self._config.url.rstrip("/") + "/chat/completions"
        request = urllib.request.Request(url, data=body, headers=headers, method="POST")
        with self._opener.open(request, timeout=self._config.timeout_s) as response:
            content: bytes = response.read(_MOST_BYTES)
        return content

    def _spend(self) -> None:
        """Wait for our turn, then count the request; the cap is never passed, whatever the threads do."""
        while (wait_s := self._not_before - time.monotonic()) > 0:
            time.sleep(wait_s)
        with self._lock:
            if self._config.max_requests is not None and self.requests >= self._config.max_requests:
                raise CaptionsSpent
            self.requests += 1

    def _check(self, code: int, fault: str) -> None:
        if code in _REFUSED:
            mend = "check backend.url and backend.model"
            if code in {401, 403}:
                mend = f"put the key in the environment variable {self._config.key_env}"
            raise ConfigError(f"{self._config.url}: {fault}; {mend}")
        if code not in _AGAIN:
            raise CaptionError(fault)

    def _hold(self, attempt: int, wait_s: float | None, fault: str) -> None:
        """The server's word holds for all threads, a guess only for this one."""
        if wait_s is None:
            time.sleep(min(self._config.backoff_s * 2**attempt, self._config.max_wait_s))
            return
        if wait_s > self._config.max_wait_s:
            raise CaptionError(f"{fault}; asks to wait {wait_s:.0f} s, longer than max_wait_s")
        with self._lock:
            self._not_before = max(self._not_before, time.monotonic() + wait_s)

    def _fault(self, error: urllib.error.HTTPError) -> str:
        try:
            told = " ".join(error.read(2000).decode("utf-8", "replace").split())[:200]
        except (OSError, HTTPException):
            told = ""
        return self._clean(f"HTTP {error.code} {error.reason}{': ' if told else ''}{told}")

    def _clean(self, text: str) -> str:
        """A server may repeat the key in its complaint."""
        return text.replace(self._key, "***") if self._key else text


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Frames and key go where they were sent, nowhere else."""

    def redirect_request(self, *_: object, **__: object) -> None:
        """No other address."""


class _MalformedError(Exception):
    """An answer that is not a chat completion with text in it."""


def _text(content: bytes) -> str:
    try:
        said = json.loads(content)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        raise _MalformedError("the answer is not a chat completion") from None
    if isinstance(said, list):
        said = " ".join(str(part.get("text", "")) for part in said if isinstance(part, dict))
    tidy = " ".join(_THOUGHTS.sub("", str(said or "")).split())
    if not tidy:
        raise _MalformedError("the answer is empty")
    return tidy


def _told(error: Exception) -> str:
    """Why nothing came; urllib wraps the system's error, whose number tells nobody anything."""
    cause = getattr(error, "reason", None) or error
    return str(getattr(cause, "strerror", None) or cause)


def _retry_after(value: str | None) -> float | None:
    """Seconds from now; the header holds seconds or a date."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
