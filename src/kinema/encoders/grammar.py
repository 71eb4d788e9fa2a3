"""A caption of several things as a caption of each, for models that know one thing at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from kinema.encoders.wording import words
from kinema.motion import CameraMove


@dataclass(frozen=True)
class Part:
    """What is said of one thing, and the way from the middle to where it is to be, right and down."""

    caption: str
    place: tuple[float, float] | None = None


@dataclass(frozen=True)
class Shot:
    """What a caption says besides its camera, without and with ground that shows a move, and every move."""

    caption: str
    over_ground: str
    moves: tuple[CameraMove, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Grammar:
    """How captions speak of several things and the camera, in the words that an encoder was taught.

    Each word of `things` names one, and begins with the `modifiers` before it, unless it stands in one of the
    `phrases`. What the phrases of `shared` say belongs to every part. `places`: phrases and the way from the
    middle that each means, right and down, 1 being the edge. `cameras`: phrases and the move that each means;
    where no phrase of `grounds` is said, `moving_ground` is what makes a move seen. `motions`: phrases of
    what moves, with the words of `manners` for how; `rest` is said of what does not.
    """

    things: tuple[str, ...]
    modifiers: tuple[str, ...] = ()
    joints: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    places: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    cameras: Mapping[str, CameraMove] = field(default_factory=dict)
    grounds: tuple[str, ...] = ()
    moving_ground: str = ""
    motions: tuple[str, ...] = ()
    manners: tuple[str, ...] = ()
    rest: str = ""

    def at_rest(self, told: Sequence[str]) -> list[str]:
        """The same caption with everything at rest."""
        lengths, said = dict(self._found(told, self.motions)), list[str]()
        place = 0
        while place < len(told):
            if place in lengths:
                said += words(self.rest)
            elif told[place] not in self.manners:
                said.append(told[place])
            place += lengths.get(place, 1)
        return said

    def shot(self, told: Sequence[str]) -> Shot:
        """A caption and what it says of the camera, apart."""
        moves = dict.fromkeys(move for phrase, move in self.cameras.items() if self._found(told, (phrase,)))
        rest, _ = self._without(told, tuple(self.cameras))
        grounded = rest if self._found(rest, self.grounds) else [*rest, *words(self.moving_ground)]
        return Shot(" ".join(rest), " ".join(grounded), tuple(moves))

    def parts(self, told: Sequence[str]) -> list[Part]:
        """A part for each thing of a caption, in order; the whole caption where it names one or none."""
        rest, shared = self._without(told, self.shared)
        begins = self._begins(rest)
        if len(begins) < 2:
            return [Part(" ".join(told), self._place(told))]
        spans = [rest[start:stop] for start, stop in pairwise([0, *begins[1:], len(rest)])]
        own = [self._trimmed(span) for span in spans]
        return [Part(" ".join([*span, *shared]), self._place(span)) for span in own]

    def _begins(self, told: Sequence[str]) -> list[int]:
        """Where the words about each thing begin."""
        fixed = {
            place
            for start, length in self._found(told, self.phrases)
            for place in range(start, start + length)
        }
        found = list[int]()
        for place, word in enumerate(told):
            if word in self.things and place not in fixed:
                while place and told[place - 1] in self.modifiers:
                    place -= 1  # noqa: PLW2901 - the words before it are its own
                found.append(place)
        return found

    def _without(self, told: Sequence[str], phrases: Sequence[str]) -> tuple[list[str], list[str]]:
        """The caption without some phrases, and their words."""
        taken = {
            place for start, length in self._found(told, phrases) for place in range(start, start + length)
        }
        return (
            [word for place, word in enumerate(told) if place not in taken],
            [word for place, word in enumerate(told) if place in taken],
        )

    def _place(self, told: Sequence[str]) -> tuple[float, float] | None:
        for phrase, way in self.places.items():
            if self._found(told, (phrase,)):
                return way
        return None

    def _trimmed(self, span: Sequence[str]) -> Sequence[str]:
        while span and span[-1] in self.joints:
            span = span[:-1]
        return span

    @staticmethod
    def _found(told: Sequence[str], phrases: Sequence[str]) -> list[tuple[int, int]]:
        """First word and length of each phrase, wherever it stands."""
        split = [words(phrase) for phrase in phrases]
        return [
            (start, len(phrase))
            for phrase in split
            for start in range(len(told) - len(phrase) + 1)
            if list(told[start : start + len(phrase)]) == phrase
        ]


@dataclass(frozen=True)
class Language:
    """Other people's words for what captions say, and how captions speak of several things."""

    phrases: Mapping[str, str] = field(default_factory=dict)
    grammar: Grammar | None = None
