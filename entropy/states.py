"""The distributions of a policy at some states, with what its entropy's theory takes of them, each computed once."""

from dataclasses import dataclass
from typing import Self

import torch


@dataclass(frozen=True)
class States:
    """Softmax distributions over the vocabulary; a token whose logit is -inf has no part in anything.

    logits     float [states, vocabulary], tempered; float32 or better
    logp       log p, with the lowest finite number for -inf, so that a product with p is 0
    p          probabilities
    entropies  float [states], H in nats
    """

    logits: torch.Tensor
    logp: torch.Tensor
    p: torch.Tensor
    entropies: torch.Tensor

    @classmethod
    def of(cls, logits: torch.Tensor) -> Self:
        """Of logits as above, raised to float32 where they are coarser."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        logp = logits.log_softmax(-1)
        p = logp.exp()
        logp = logp.clamp(min=torch.finfo(logp.dtype).min)
        return cls(logits, logp, p, -(p * logp).sum(-1))

    def covariance(self, y: torch.Tensor) -> torch.Tensor:
        """Cov_{a ~ p}(log p(a), y(a)) of each state, float [states]; y float [states, vocabulary]."""
        # The mean of log p is -H. Tokens without probability may have any y, NaN too.
        weights = self.p * (self.logp + self.entropies[:, None])
        return (weights * y.masked_fill(self.p == 0, 0.0)).sum(-1)

    def discriminators(self, chosen: torch.Tensor) -> torch.Tensor:
        """S_y - Σ_v p_v S_v with S_v = p_v (log p_v + H) of one token y of each state: float [states].

        chosen  int64 [states]
        """
        s = self.p * (self.logp + self.entropies[:, None])
        return s.gather(-1, chosen[:, None]).squeeze(-1) - (self.p * s).sum(-1)

    def logprobs(self, chosen: torch.Tensor) -> torch.Tensor:
        """log p of one token of each state: float [states]; chosen int64 [states]."""
        return self.logp.gather(-1, chosen[:, None]).squeeze(-1)
