"""What a network was taught that its weights do not show: two presets, named in model.toml.

`kinema` is what every new model gets. `published` is Open-Sora 1.1 as its weights were trained, quirks and
all:

- queries and keys are rotated before their norm, and the last modulation of generated frames does not see the
  size of the picture (flags of the network, `STDiT2Config.xl2`);
- the aspect ratio is width / height;
- the rate is the one of the source, while only every third frame is shown: a clip that plays at 8 frames a
  second is called 24; an image is called 120;
- guidance acts on the first three of the four latent channels;
- in training, given frames are noised like step 0 instead of being clean.

`svd` is Stable Video Diffusion as released: the rate is told less one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Preset = Literal["kinema", "published", "svd"]


@dataclass(frozen=True, kw_only=True)
class Conventions:
    """`frame_interval` frames of the source are one frame shown; `guided_channels` None guides all."""

    width_over_height: bool = False
    image_fps: float = 120.0
    frame_interval: int = 1
    guided_channels: int | None = None
    given_noised: bool = False
    fps_offset: float = 0.0

    def aspect_ratio(self, height: int, width: int) -> float:
        """The number that the network is told."""
        return width / height if self.width_over_height else height / width

    def told_fps(self, fps: float, frames: int) -> float:
        """The rate that the network is told of a clip that plays at `fps`."""
        return self.image_fps if frames == 1 else fps * self.frame_interval + self.fps_offset


CONVENTIONS: dict[Preset, Conventions] = {
    "kinema": Conventions(),
    "published": Conventions(width_over_height=True, frame_interval=3, guided_channels=3, given_noised=True),
    "svd": Conventions(fps_offset=-1.0),
}
