"""No attack passes, none is a failure of ours, and the verdict says what happened."""

import pytest

from reward.types import VerificationRequest
from tests.reward.code.attacks import CASES, GOLDS, HONEST

# One shape each of what is the same code path in the others; all of them run in `test_attacks_in_ray`.
UNMARKED = [case for i, case in enumerate(CASES) if case[0] not in {other[0] for other in CASES[:i]}]
REST = [pytest.param(*case, marks=pytest.mark.slow) for case in CASES if case not in UNMARKED]


def request(program, gold):
    return VerificationRequest("code", "", f"```python\n{program}\n```", gold, {})


@pytest.mark.parametrize("shape", GOLDS)
def test_an_honest_program_passes(verifier, shape):
    judgement = verifier(request(HONEST[shape], GOLDS[shape]))
    assert (judgement.score, judgement.rule, judgement.detail) == (1.0, "python_block", "")


@pytest.mark.parametrize(("name", "shape", "program", "detail"), [*UNMARKED, *REST])
def test_an_attack_fails(verifier, name, shape, program, detail):
    judgement = verifier(request(program, GOLDS[shape]))
    assert judgement.score == 0.0
    assert judgement.detail
    assert detail in judgement.detail
