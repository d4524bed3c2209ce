"""Keyed hashes: the only source of per-request randomness and of routing."""

from hashlib import blake2b


def keyed_hash(*parts: object) -> int:
    """A number in [0, 2^63) that depends on every part and on nothing else (no process salt)."""
    digest = blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def request_seed(run_seed: int, step: int, uid: str, sample: int) -> int:
    """Seed of one response, so that it can be drawn again alone."""
    return keyed_hash("request", run_seed, step, uid, sample)
