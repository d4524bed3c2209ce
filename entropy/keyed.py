"""Random numbers by key: the same for a token whatever the rank, the micro-batch or the order it is met in."""

import hashlib
from collections.abc import Iterable

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def sample_key(uid: str, sample: int) -> int:
    """64 bits that name a sample: of its prompt's uid and its index in the group."""
    return int.from_bytes(hashlib.blake2b(f"{uid}#{sample}".encode(), digest_size=8).digest(), "little")


def token_keys(seed: Iterable[int], sample_keys: np.ndarray, lengths: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """uint64 [n]: a hash of (seed, sample, position) for each token, uniform over 64 bits.

    The mixing function is the finaliser of splitmix64 (Steele et al. 2014), applied once per part of the key.

    seed         integers, such as the run's seed and the index of the update
    sample_keys  uint64 [s]; lengths int [s], tokens of each sample
    positions    int [n], the token's position in its response
    """
    start = np.zeros(1, np.uint64)
    for part in seed:
        start = _mixed(start ^ np.uint64(part & 0xFFFFFFFFFFFFFFFF))
    per_sample = _mixed(start ^ sample_keys.astype(np.uint64))
    keys = np.repeat(per_sample, lengths)
    keys += positions.astype(np.uint64) * _GOLDEN
    return _mixed(keys)


def _mixed(values: np.ndarray) -> np.ndarray:
    x = values + _GOLDEN
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x
