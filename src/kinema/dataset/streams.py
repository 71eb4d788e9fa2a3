"""Random streams addressed by what they are for, so that no draw depends on an earlier one."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray


def stream_seed(*address: int | str) -> int:
    """A 63-bit seed of an address such as (seed, step, clip_id); the same on every machine."""
    text = "\x1f".join(str(part) for part in address)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def stream(*address: int | str) -> np.random.Generator:
    """A fresh generator for this address."""
    return np.random.Generator(np.random.PCG64(stream_seed(*address)))


def unit_draws(keys: NDArray[np.uint64], *address: int | str) -> NDArray[np.float64]:
    """One uniform draw in [0, 1) for each key: splitmix64 of the key and the address."""
    mixed = keys + np.uint64(stream_seed(*address))
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed = mixed ^ (mixed >> np.uint64(31))
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53
