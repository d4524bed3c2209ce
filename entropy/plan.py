"""What an entropy control asks of one optimiser update."""

from dataclasses import dataclass

import torch

Field = float | torch.Tensor


@dataclass(frozen=True)
class TokenPlan:
    """Per-token settings of the objective for one update; each field is a scalar or a tensor [tokens].

    weight        factor on the surrogate of a token; 0 drops the token from the numerator
    kl_coef       coefficient of the penalty on the log-ratio to the rollout policy
    entropy_coef  coefficient of the exact token entropy, subtracted from the loss
    clip_low      lower clip distance; None leaves the configured threshold in force
    clip_high     upper clip distance; None leaves the configured threshold in force
    """

    weight: Field = 1.0
    kl_coef: Field = 0.0
    entropy_coef: Field = 0.0
    clip_low: Field | None = None
    clip_high: Field | None = None

    def select(self, index: torch.Tensor) -> "TokenPlan":
        """The plan of the tokens at `index` [selected]; scalars stay scalars."""

        def pick(field):
            return field[index] if isinstance(field, torch.Tensor) else field

        return TokenPlan(
            pick(self.weight),
            pick(self.kl_coef),
            pick(self.entropy_coef),
            pick(self.clip_low),
            pick(self.clip_high),
        )


NEUTRAL = TokenPlan()
