"""What the reward section must satisfy beyond the bounds of each setting."""

from collections.abc import Iterator

from reward.config import RewardConfig
from reward.verifiers.extraction import MATH_RULES


def reward_problems(config: RewardConfig) -> Iterator[str]:
    """A sentence for each rule of extraction that does not exist or stands twice, and for none at all."""
    rules = config.math.extraction
    if not rules:
        yield f"reward.math.extraction is empty, so no answer would be found; give some of {', '.join(MATH_RULES)}."
    for rule in dict.fromkeys(rules):
        if rule not in MATH_RULES:
            yield f"reward.math.extraction names {rule}, which is not one of {', '.join(MATH_RULES)}."
        elif rules.count(rule) > 1:
            yield f"reward.math.extraction names {rule} more than once."
