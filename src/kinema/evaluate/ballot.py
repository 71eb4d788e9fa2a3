"""Who is asked what: questions to voters, drawn so that answers tell most, and each answer counted once.

`asked.jsonl` in the arena folder has a line a question and is only ever added to. A voter who comes back, or
a server that starts again, finds the open question there; the id of its vote is that of the question, and
the vote store counts an id once.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np

from kinema.errors import CheckpointError
from kinema.evaluate.arena import Arena, ArenaVideo, Question
from kinema.evaluate.bradley_terry import Strengths, fit
from kinema.evaluate.planning import next_pairs
from kinema.evaluate.tally import Tally, groups, tally
from kinema.evaluate.votes import Vote, VoteError, scored_votes
from kinema.files import append_line, read_rows

ASKED = "asked.jsonl"
CHECK = "attention check"
Answer = Literal["left", "right", "tie", "both_bad"]
_BLOCK = 8  # one question of so many is a check
_EXPLORE = 0.25
_REFIT_EVERY = 10
_LONGEST_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question as it was put to one voter. `first` and `second` are video ids, those of models a and b;
    a check has no second one: the first is shown beside a spoiled copy of itself."""

    question_id: str
    voter: str
    prompt: str
    first: str
    second: str
    shown_first: Literal["a", "b"]
    asked_at: str

    @property
    def is_check(self) -> bool:
        """Whether the answer is known beforehand."""
        return not self.second

    def model_side(self, answer: Answer) -> str:
        """The outcome of an answer, in terms of models a and b."""
        if answer in ("tie", "both_bad"):
            return answer
        other = "b" if self.shown_first == "a" else "a"
        return self.shown_first if answer == "left" else other

    def on(self, side: Literal["left", "right"]) -> str:
        """The video id shown there; "" is the spoiled copy."""
        return self.first if self.model_side(side) == "a" else self.second


class Ballot:
    """The questions of one arena. One of these in a process; the files may outlive any number of them."""

    def __init__(self, arena: Arena, generator: np.random.Generator) -> None:
        self.arena = arena
        self._generator = generator
        self._lock = threading.Lock()
        self._videos = {video.video_id: video for video in arena.videos}
        self._questions = arena.questions()
        self._store = arena.votes
        self._votes = {vote.vote_id: vote for vote in self._store.read()}
        self._asked: dict[str, list[Asked]] = {}
        self._times: Counter[tuple[str, str]] = Counter()
        for row in read_rows(arena.folder / ASKED):
            self._remember(_asked_of(arena, row))
        self._fitted: dict[str, tuple[int, Tally, Strengths | None]] = {}

    def video(self, video_id: str) -> ArenaVideo | None:
        """A video by its id."""
        return self._videos.get(video_id)

    def question(self, voter: str, question_id: str) -> Asked | None:
        """A question that this voter was asked."""
        return next((item for item in self._asked.get(voter, ()) if item.question_id == question_id), None)

    def axes(self, asked: Asked) -> tuple[str, ...]:
        """What is asked of these two videos; a spoiled copy is worse in quality, whatever the prompt."""
        return self.arena.axes[:1] if asked.is_check else self.arena.axes

    def open_axis(self, asked: Asked) -> str | None:
        """The first axis that is not answered yet."""
        return next((axis for axis in self.axes(asked) if _vote_id(asked, axis) not in self._votes), None)

    def answered(self, voter: str) -> int:
        """Questions that the voter has answered in full."""
        return sum(self.open_axis(asked) is None for asked in self._asked.get(voter, ()))

    def next(self, voter: str, most: int) -> Asked | None:
        """The voter's open question, or a new one; None after `most` questions or when all were seen."""
        with self._lock:
            mine = self._asked.get(voter, [])
            for asked in mine:
                if self.open_axis(asked) is not None:
                    return asked
            if len(mine) >= most or (asked_now := self._draw(voter, mine)) is None:
                return None
            append_line(self.arena.folder / ASKED, json.dumps(asdict(asked_now), ensure_ascii=False))
            self._remember(asked_now)
            return asked_now

    def answer(self, asked: Asked, axis: str, answer: Answer, took_s: float) -> bool:
        """Store a vote; False when this question was answered already, which changes nothing."""
        if axis not in self.axes(asked):
            raise VoteError(f"{axis!r} is not asked here; asked are {', '.join(self.axes(asked))}")
        first, second = self._videos[asked.first], self._videos.get(asked.second)
        outcome = asked.model_side(answer)
        vote = Vote(
            vote_id=_vote_id(asked, axis),
            model_a=first.model,
            model_b=CHECK if second is None else second.model,
            outcome=outcome,
            axis=axis,
            voter=asked.voter,
            prompt=asked.prompt,
            video_a=first.sha256,
            video_b="" if second is None else second.sha256,
            shown_first=asked.shown_first,
            took_s=round(min(max(took_s, 0.0), _LONGEST_S), 3),
            check_passed=outcome == "a" if asked.is_check else None,
            cast_at=_now(),
        )
        with self._lock:
            added = self._store.append(vote)
            self._votes.setdefault(vote.vote_id, vote)
            return added

    def _draw(self, voter: str, mine: list[Asked]) -> Asked | None:
        if _check_is_due(voter, len(mine)):
            video = self.arena.videos[int(self._generator.integers(len(self.arena.videos)))]
            return self._asked_now(voter, video.prompt, video.video_id, "")
        seen = {(asked.first, asked.second) for asked in mine}
        unseen = [item for item in self._questions if _key(item) not in seen]
        if not unseen:
            return None
        axis = self.arena.axes[len(mine) % len(self.arena.axes)]
        chosen = self._least_asked(self._worthwhile(unseen, axis))
        return self._asked_now(voter, chosen.prompt, *_key(chosen))

    def _worthwhile(self, unseen: list[Question], axis: str) -> list[Question]:
        """The unseen questions on a pair of models that tells most; any, now and then: what the fit takes
        for settled on few votes has to be asked about too."""
        if self._generator.random() < _EXPLORE:
            return unseen
        by_pair: dict[frozenset[str], list[Question]] = {}
        for item in unseen:
            by_pair.setdefault(frozenset((item.first.model, item.second.model)), []).append(item)
        # Several, because other voters are asked at the same time.
        ranked = [found for pair in self._best_pairs(axis, 3) if (found := by_pair.get(frozenset(pair)))]
        return ranked[int(self._generator.integers(len(ranked)))] if ranked else unseen

    def _best_pairs(self, axis: str, wanted: int) -> list[tuple[str, str]]:
        fitted = self._fitted.get(axis)
        if fitted is None or len(self._votes) - fitted[0] >= _REFIT_EVERY or len(self._votes) < 50:
            votes, _ = scored_votes(list(self._votes.values()))
            counted = tally([vote for vote in votes if vote.axis == axis], self.arena.models)
            strengths = fit(counted) if len(groups(counted)) == 1 else None
            self._fitted[axis] = fitted = (len(self._votes), counted, strengths)
        return next_pairs(fitted[1], fitted[2], wanted)

    def _least_asked(self, among: list[Question]) -> Question:
        times = [self._times[_key(item)] for item in among]
        least = [item for item, count in zip(among, times, strict=True) if count == min(times)]
        return least[int(self._generator.integers(len(least)))]

    def _asked_now(self, voter: str, prompt: str, first: str, second: str) -> Asked:
        return Asked(
            question_id=self._generator.bytes(12).hex(),
            voter=voter,
            prompt=prompt,
            first=first,
            second=second,
            shown_first="a" if self._generator.random() < 0.5 else "b",
            asked_at=_now(),
        )

    def _remember(self, asked: Asked) -> None:
        if asked.first in self._videos and (asked.is_check or asked.second in self._videos):
            self._asked.setdefault(asked.voter, []).append(asked)
            self._times[asked.first, asked.second] += 1

    def voters(self) -> Iterator[tuple[str, int]]:
        """Everyone who was asked, and how many questions they answered."""
        return ((voter, self.answered(voter)) for voter in list(self._asked))


def _key(question: Question) -> tuple[str, str]:
    return question.first.video_id, question.second.video_id


def _vote_id(asked: Asked, axis: str) -> str:
    return f"{asked.question_id}-{axis}"


def _check_is_due(voter: str, number: int) -> bool:
    """One in each block, never the first of all, at a place that the voter cannot guess."""
    block, place = divmod(number, _BLOCK)
    drawn = int.from_bytes(hashlib.sha256(f"{voter}:{block}".encode()).digest()[:4], "big")
    return place == 2 + drawn % (_BLOCK - 2)


def _asked_of(arena: Arena, row: dict[str, object]) -> Asked:
    try:
        return Asked(**row)  # type: ignore[arg-type]
    except TypeError as error:
        raise CheckpointError(f"{arena.folder / ASKED}: {error}; was it written by kinema?") from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
