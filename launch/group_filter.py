"""Why a group is not worth training on. Pure."""

from collections.abc import Sequence

from reward.policy import FailurePolicy
from reward.types import Verdict
from rollout.config import FilterConfig


def reason_to_drop(verdicts: Sequence[Verdict], config: FilterConfig, on_failure: str) -> str | None:
    """`failures`, `all_right`, `all_wrong`, `all_equal` or `too_few_verdicts`; None for a group to train on.

    verdicts    of one group, by the row's own verifier: what further terms of the reward add makes no difference
    on_failure  `reward.on_failure`: a failure that is charged as wrong is a wrong one here too

    Groups that are all right or all wrong have no advantage under a baseline of the group (dynamic sampling of DAPO, Yu
    et al. 2025, arXiv 2503.14476, eq. 11; Cui et al. 2025, arXiv 2505.22617, train with it).
    """
    failed = sum(verdict.score is None for verdict in verdicts)
    if config.max_failures is not None and failed > config.max_failures:
        return "failures"
    if not config.no_signal:
        return None
    scores = [verdict.score for verdict in verdicts if verdict.score is not None]
    if on_failure == FailurePolicy.WRONG:
        scores += [0.0] * failed
    if len(scores) < 2:
        return "too_few_verdicts"
    if min(scores) < max(scores):
        return None
    return {1.0: "all_right", 0.0: "all_wrong"}.get(scores[0], "all_equal")
