"""Captions as Stable Video Diffusion had them: of the middle frame, of the video, and both merged."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from kinema.curate.caption_frames import ClipFrames, FrameSource
from kinema.curate.captioner import Captioner, CaptionsSpent
from kinema.curate.endpoint import Endpoint, EndpointConfig
from kinema.curate.made_captions import MadeCaption, MadeCaptions
from kinema.curate.measured import MODEL, measured_caption
from kinema.curate.report import refresh_report
from kinema.errors import CaptionError, ConfigError
from kinema.manifest import Clip, read_clips
from kinema.progress import Progress, Silent

Kind = Literal["image", "video", "merged"]
_ORDER: tuple[Kind, ...] = ("image", "video", "merged")
_PART_ROWS = 32
_PART_S = 5.0


@dataclass(frozen=True, kw_only=True)
class TransformersConfig:
    """A vision-language model that runs here. `model` is a folder, or a name on the Hugging Face hub;
    `device` "" takes the first GPU, else the processor."""

    kind: Literal["transformers"] = "transformers"
    model: str = ""
    device: str = ""
    max_tokens: int = 300


@dataclass(frozen=True, kw_only=True)
class MeasuredConfig:
    """No model: what curation measured, as words, of the kind "measured"."""

    kind: Literal["measured"] = "measured"


@dataclass(frozen=True, kw_only=True)
class PromptConfig:
    """What is asked. In `merged`, {image} and {video} stand for the two captions."""

    image: str = (
        "Describe this picture in one or two sentences: the subject, what surrounds it, colours and light. "
        "Say only what can be seen. Begin with the subject."
    )
    video: str = (
        "These are frames of one video, in order. Describe in one or two sentences what happens: who or what "
        "moves, how, and what the camera does. Say only what can be seen. Do not mention frames."
    )
    merged: str = (
        "Two captions of the same video follow. One describes its middle frame, the other the whole video. "
        "Merge them into one caption of at most three sentences that keeps every detail once, and leaves out "
        "what they disagree on. Answer with the caption only.\nPicture: {image}\nVideo: {video}"
    )


@dataclass(frozen=True, kw_only=True)
class CaptioningConfig:
    """`kinds` are the captions to make; "merged" needs the other two. `image_model`, `video_model` and
    `merge_model` take the place of `backend.model` where they are set. `frames` go to the video captioner,
    the longer side at most `width` pixels. `dropped` asks about clips that the filters dropped, too.
    `most_failures` clips without an answer, one after the other, end the run."""

    backend: EndpointConfig | TransformersConfig | MeasuredConfig = field(default_factory=MeasuredConfig)
    kinds: tuple[Kind, ...] = _ORDER
    image_model: str = ""
    video_model: str = ""
    merge_model: str = ""
    prompts: PromptConfig = field(default_factory=PromptConfig)
    frames: int = 9
    width: int = 512
    dropped: bool = False
    most_failures: int = 20

    def __post_init__(self) -> None:
        if "merged" in self.kinds and not {"image", "video"} <= set(self.kinds):
            raise ValueError("kinds: merged needs image and video")
        if not self.kinds or self.frames < 2 or self.width < 32 or self.most_failures < 1:
            raise ValueError("kinds must not be empty; frames >= 2, width >= 32, most_failures >= 1")

    def model_of(self, kind: Kind) -> str:
        """Who makes this kind of caption."""
        own = {"image": self.image_model, "video": self.video_model, "merged": self.merge_model}[kind]
        return own or getattr(self.backend, "model", "")

    def key_of(self, kind: Kind) -> str:
        """Names the way of asking: captions made in another way are made again."""
        parts: list[Any] = [getattr(self.prompts, kind), self.width]
        parts += [self.frames] if kind == "video" else []
        parts += [[self.key_of("image"), self.key_of("video")]] if kind == "merged" else []
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


@dataclass(kw_only=True)
class CaptioningSummary:
    """`captions` counts by kind what this run made; `decoded` names the sources that were decoded a second
    time because curation had kept too few frames of them; `left` clips wait for another run."""

    clips: int
    captions: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    left: int = 0
    requests: int = 0
    decoded: list[str] = field(default_factory=list)
    stopped: str = ""
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self) | {"seconds": round(self.seconds, 3)}


def caption_dataset(
    folder: Path, config: CaptioningConfig, progress: Progress | None = None
) -> CaptioningSummary:
    """Caption the clips of a dataset folder; the same call again asks only for what is missing."""
    began, progress = time.monotonic(), progress or Silent()
    clips = [clip for clip in read_clips(folder) if clip.kept or config.dropped]
    made, summary = MadeCaptions(folder), CaptioningSummary(clips=len(clips))
    progress.stage("caption", total=len(clips))
    try:
        if isinstance(config.backend, MeasuredConfig):
            _measure(clips, made, summary)
        else:
            _Run(folder, config, made, summary, progress).go(clips)
    finally:
        made.apply(folder)
    refresh_report(folder)
    summary.seconds = time.monotonic() - began
    return summary


def _measure(clips: Sequence[Clip], made: MadeCaptions, summary: CaptioningSummary) -> None:
    texts = {clip.clip_id: measured_caption(clip) for clip in clips}
    rows = [
        MadeCaption(clip_id=name, kind="measured", model=MODEL, key=text, text=text)
        for name, text in texts.items()
        if made.text(name, "measured", MODEL, text) is None
    ]
    made.write(rows)
    summary.captions = {"measured": len(rows)}


def _captioner(config: CaptioningConfig) -> Captioner:
    missing = [kind for kind in config.kinds if not config.model_of(kind)]
    if missing:
        raise ConfigError(f"no model is named for {', '.join(missing)} captions; give one with --model")
    match config.backend:
        case EndpointConfig():
            return Endpoint(config.backend)
        case TransformersConfig(device=device, max_tokens=max_tokens):
            from kinema.encoders.vision_language import VisionLanguage

            return VisionLanguage(device, max_tokens)
        case MeasuredConfig():
            raise TypeError("what was measured needs no captioner")


@dataclass
class _Outcome:
    """What came of one clip: rows are kept even if a later kind failed."""

    clip: Clip
    rows: list[MadeCaption]
    fault: str = ""
    spent: bool = False


class _Run:
    """One pass over the clips: frames are decoded here, answers come from threads, parts are written here."""

    def __init__(
        self,
        folder: Path,
        config: CaptioningConfig,
        made: MadeCaptions,
        summary: CaptioningSummary,
        progress: Progress,
    ) -> None:
        self._config, self._made, self._summary, self._progress = config, made, summary, progress
        self._captioner = _captioner(config)
        video = "video" in config.kinds
        self._frames = FrameSource(folder, config.frames if video else 1, config.width)
        self._running: set[Future[_Outcome]] = set()
        self._rows: list[MadeCaption] = []
        self._written_s = time.monotonic()
        self._in_a_row = 0

    def go(self, clips: Sequence[Clip]) -> None:
        todo = [clip for clip in clips if self._missing(clip)]
        self._progress.advance(len(clips) - len(todo))
        self._summary.left = len(todo)
        pool = ThreadPoolExecutor(self._captioner.concurrency)
        try:
            for outcome in self._outcomes(pool, todo):
                self._settle(outcome)
                if self._summary.stopped:
                    break
        finally:
            pool.shutdown(cancel_futures=True)
            for future in self._running:  # answers that came too late to be looked at are paid for
                if not future.cancelled() and future.exception() is None:
                    self._keep(future.result().rows)
            self._flush()
            self._summary.requests = getattr(self._captioner, "requests", 0)
            self._summary.decoded = self._frames.decoded

    def _outcomes(self, pool: ThreadPoolExecutor, todo: Sequence[Clip]) -> Iterator[_Outcome]:
        """As they come; few clips wait with their frames in memory."""
        for item in self._frames.frames(todo):
            self._running.add(pool.submit(self._caption, item))
            while len(self._running) >= 2 * self._captioner.concurrency:
                yield from self._finished()
        while self._running:
            yield from self._finished()

    def _finished(self) -> Iterator[_Outcome]:
        for future in wait(self._running, return_when=FIRST_COMPLETED).done:
            self._running.remove(future)
            yield future.result()

    def _settle(self, outcome: _Outcome) -> None:
        summary = self._summary
        self._keep(outcome.rows)
        if len(self._rows) >= _PART_ROWS or time.monotonic() - self._written_s > _PART_S:
            self._flush()
        if outcome.spent:
            summary.stopped = "the cap on requests (backend.max_requests) is reached"
            return
        self._progress.advance(1, note=Path(outcome.clip.source_path).name)
        self._in_a_row = self._in_a_row + 1 if outcome.fault else 0
        if outcome.fault:
            summary.failed[outcome.clip.clip_id] = outcome.fault
        else:
            summary.left -= 1
        if self._in_a_row >= self._config.most_failures:
            summary.stopped = f"{self._in_a_row} clips in a row without an answer; the last: {outcome.fault}"

    def _keep(self, rows: Sequence[MadeCaption]) -> None:
        for row in rows:
            self._summary.captions[row.kind] = self._summary.captions.get(row.kind, 0) + 1
        self._rows += rows

    def _flush(self) -> None:
        self._made.write(self._rows)
        self._rows, self._written_s = [], time.monotonic()

    def _missing(self, clip: Clip) -> list[Kind]:
        return [kind for kind in self._kinds(clip) if self._known(clip, kind) is None]

    def _kinds(self, clip: Clip) -> list[Kind]:
        """In the order in which they need one another; a still picture is no video."""
        wanted = [kind for kind in _ORDER if kind in self._config.kinds]
        return [kind for kind in wanted if kind == "image"] if clip.frames == 1 and clip.fps == 0 else wanted

    def _known(self, clip: Clip, kind: Kind) -> str | None:
        return self._made.text(clip.clip_id, kind, self._config.model_of(kind), self._config.key_of(kind))

    def _caption(self, item: ClipFrames) -> _Outcome:
        """In a thread of the pool."""
        outcome = _Outcome(item.clip, [], item.fault)
        if item.pictures is None:
            return outcome
        texts: dict[str, str] = {}
        try:
            for kind in self._kinds(item.clip):
                known = self._known(item.clip, kind)
                texts[kind] = known if known is not None else self._ask(kind, item, texts)
                if known is None:
                    outcome.rows.append(self._row(item.clip, kind, texts[kind]))
        except CaptionError as error:
            outcome.fault = str(error)
        except CaptionsSpent:
            outcome.spent = True
        return outcome

    def _ask(self, kind: Kind, item: ClipFrames, texts: dict[str, str]) -> str:
        model, prompt = self._config.model_of(kind), getattr(self._config.prompts, kind)
        match kind:
            case "image":
                return self._captioner.answer(model, prompt, item.middle())
            case "video":
                return self._captioner.answer(model, prompt, item.pictures)
            case "merged":
                both = prompt.replace("{image}", texts["image"]).replace("{video}", texts["video"])
                return self._captioner.answer(model, both, None)

    def _row(self, clip: Clip, kind: Kind, text: str) -> MadeCaption:
        config = self._config
        return MadeCaption(
            clip_id=clip.clip_id, kind=kind, model=config.model_of(kind), key=config.key_of(kind), text=text
        )
