"""The same updates in TRL's settings and in ours. Imported by both environments, so plain Python only.

TRL's conventions and how they are named here:
- advantages are over the sample standard deviation (n - 1), 1e-4 added outside the root: algorithm.std_epsilon=1e-4;
- the end token is a response token like any other;
- grpo and sapo average each sequence, then the sequences: denominator=sequences;
- dapo, bnpo and cispo average all tokens of an update: denominator=tokens (bnpo of a process, and here there is one);
- dr_grpo divides by sequences x max_completion_length: denominator=constant, denominator_tokens of that length;
- gspo is loss_type=grpo with one ratio a sequence;
- under cispo `epsilon_high` is the largest weight itself, not a distance from 1: algorithm.cispo_cap;
- `delta` bounds the ratio of tokens with a negative advantage: algorithm.dual_clip;
- `beta` weighs the k3 estimate against the model the run starts from, added to each token's loss; TRL multiplies it
  with the ratio (DeepSeek-V3.2) unless use_bias_correction_kl is off;
- `entropy_coef` weighs the mean entropy of the update's tokens whatever the loss: entropy.bonus.coef with
  denominator=tokens.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parent / "vectors"
MODEL = VECTORS / "model"
RECORD = VECTORS / "record.json"

UPDATES = 3
TEMPERATURE = 0.9
GROUPS, SAMPLES_PER_GROUP = 4, 4
MAX_RESPONSE_TOKENS = 14


@dataclass(frozen=True)
class Case:
    """One objective, in both programs' words.

    learning_rate  of plain gradient descent, so large that ratios leave the trust region within the updates
    trl            arguments of GRPOConfig
    entrain        overrides of the configuration
    microbatches   into which TRL cuts an update
    """

    learning_rate: float
    trl: dict[str, Any]
    entrain: tuple[str, ...]
    microbatches: int = 1


def _clip(low: float, high: float) -> tuple[str, ...]:
    return (f"clip.low={low}", f"clip.high={high}")


def _trl_clip(low: float, high: float) -> dict[str, float]:
    return {"epsilon": low, "epsilon_high": high}


TOKENS = "algorithm.denominator=tokens"
SEQUENCES = "algorithm.denominator=sequences"
RATE = 0.05

CASES = {
    "grpo": Case(RATE, {"loss_type": "grpo", **_trl_clip(0.2, 0.28)}, (SEQUENCES, *_clip(0.2, 0.28))),
    "dapo": Case(RATE, {"loss_type": "dapo", **_trl_clip(0.2, 0.28)}, (TOKENS, *_clip(0.2, 0.28))),
    "dapo_in_two_passes": Case(
        RATE, {"loss_type": "dapo", **_trl_clip(0.1, 0.15)}, (TOKENS, *_clip(0.1, 0.15)), microbatches=2
    ),
    "bnpo": Case(RATE, {"loss_type": "bnpo", **_trl_clip(0.2, 0.2)}, (TOKENS, *_clip(0.2, 0.2))),
    "dr_grpo": Case(
        RATE,
        {"loss_type": "dr_grpo", "scale_rewards": "none", **_trl_clip(0.2, 0.2)},
        (
            "algorithm=dr_grpo",
            "algorithm.denominator=constant",
            f"algorithm.denominator_tokens={MAX_RESPONSE_TOKENS}",
            *_clip(0.2, 0.2),
        ),
    ),
    "gspo": Case(
        RATE,
        {"loss_type": "grpo", "importance_sampling_level": "sequence", **_trl_clip(0.1, 0.15)},
        (SEQUENCES, "algorithm.ratio=sequence", *_clip(0.1, 0.15)),
    ),
    "cispo": Case(
        RATE,
        {"loss_type": "cispo", "epsilon_high": 1.3},
        (TOKENS, "algorithm.surrogate=cispo", "algorithm.cispo_cap=1.3"),
    ),
    "sapo": Case(
        RATE,
        {"loss_type": "sapo", "sapo_temperature_pos": 1.0, "sapo_temperature_neg": 1.5},
        (
            SEQUENCES,
            "algorithm.surrogate=sapo",
            "algorithm.sapo_temperature_positive=1.0",
            "algorithm.sapo_temperature_negative=1.5",
        ),
    ),
    "dual_clip": Case(
        6 * RATE,
        {"loss_type": "dapo", "delta": 1.3, **_trl_clip(0.2, 0.28)},
        (TOKENS, "algorithm.dual_clip=1.3", *_clip(0.2, 0.28)),
    ),
    "reference": Case(
        RATE,
        {"loss_type": "dapo", "beta": 0.5, "use_bias_correction_kl": False, **_trl_clip(0.2, 0.28)},
        (TOKENS, "reference.place=loss", "reference.estimator=k3", "reference.coef=0.5", *_clip(0.2, 0.28)),
    ),
    "entropy_bonus": Case(
        RATE,
        {"loss_type": "dapo", "entropy_coef": 0.2, **_trl_clip(0.2, 0.28)},
        (TOKENS, "entropy=bonus", "entropy.bonus.coef=0.2", *_clip(0.2, 0.28)),
    ),
}
