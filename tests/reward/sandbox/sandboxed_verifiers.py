"""Verifiers that run the response as a program, as a verifier of code does in its child."""

from reward.sandbox import Program, Sandbox, SandboxConfig
from reward.types import Judgement

CONFIG = SandboxConfig(minimum="confined", packages=False, memory_mb=256, processes=16, file_mb=8, output_kb=64)
SANDBOX = Sandbox(CONFIG)  # once, in the fork server; the children share it


def output(request):
    """The answer is how the program ended and what it wrote; `gold` names its seconds and an argument."""
    wall_s, argument = request.gold
    program = Program(SANDBOX.python_argv("-c", request.response, argument))
    outcome = SANDBOX.run(program, CONFIG.limits(wall_s))
    return Judgement(1.0, f"{outcome.end} {outcome.exit_code} {outcome.stdout.decode()}")
