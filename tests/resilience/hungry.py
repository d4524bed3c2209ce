"""The laboratory's verifier with a leak."""

import zlib

from reward.types import Judgement, VerificationRequest
from reward.verifiers.reasoning_gym import verify

ONE_IN = 16


def judge(request: VerificationRequest) -> Judgement:
    """Takes all the memory it can get for one response in sixteen, and is the laboratory's verifier for the others."""
    if is_hungry(request.response):
        hoarded = []
        while True:
            hoarded.append(bytearray(1 << 20))
    return verify(request)


def is_hungry(response: str) -> bool:
    return zlib.crc32(response.encode()) % ONE_IN == 0
