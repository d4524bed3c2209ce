"""The loss of each token and its metrics, before any denominator. docs/objective.md has the formulas in one place."""

import torch

from entropy.plan import Field, TokenPlan
from learner.config import ObjectiveConfig
from learner.corrections import KINDS, correction_weights
from learner.metrics import Tally
from learner.pass_tokens import PassTokens
from learner.ratios import log_ratios, old_divergence, reference_divergence
from learner.surrogates import Surrogate, surrogate


def token_losses(tokens: PassTokens, config: ObjectiveConfig, plan: TokenPlan) -> tuple[torch.Tensor, Tally]:
    """w · c · surrogate + kl_coef · D + reference.coef · KL - entropy_coef · H for each token.

    w, kl_coef, entropy_coef  of the plan, whose bounds go before the configured ones
    D                         |log r|, (log r)² / 2 or r - 1 - log r, as the plan's kl_penalty says
    c                         the correction's weight
    surrogate                 as algorithm.surrogate says, of the ratio that algorithm.ratio says
    r                         the token's ratio, whatever algorithm.ratio is
    KL                        to the reference policy, where reference.place is loss

    Advantages are as the estimator gave them: the caller multiplies with the factors of its denominator. A token of
    weight w · c = 0 keeps the other terms.

    Returns the losses [n] and the metrics over these tokens. Raises ValueError for settings that have no meaning
    together, and without the reference's log-probabilities where they are needed.
    """
    algorithm, reference = config.algorithm, config.reference
    if algorithm.ratio == "sequence":
        _refuse_single_tokens(config, plan)
    corrections, tally = correction_weights(tokens, config.correction)
    weight = _like(plan.weight, tokens.logprobs) * corrections
    token_log_ratio = log_ratios(tokens, "token")
    log_ratio = token_log_ratio if algorithm.ratio == "token" else log_ratios(tokens, algorithm.ratio)
    # A dropped token goes before the arithmetic: 0 times an infinite advantage would be NaN, also in the gradient.
    dropped = weight == 0
    found = surrogate(
        _without(dropped, log_ratio),
        _without(dropped, tokens.logprobs),
        _without(dropped, tokens.advantages),
        config.clip.low if plan.clip_low is None else plan.clip_low,
        config.clip.high if plan.clip_high is None else plan.clip_high,
        algorithm,
    )
    losses = weight * found.losses
    if _adds(plan.kl_coef):
        losses = losses + plan.kl_coef * old_divergence(token_log_ratio, plan.kl_penalty)
    if _adds(plan.entropy_coef):
        losses = losses - plan.entropy_coef * tokens.entropies
    if reference.place == "loss":
        if tokens.reference_logprobs is None:
            raise ValueError("reference.place = loss needs the reference policy's log-probabilities in the batch")
        divergence = reference_divergence(tokens.logprobs, tokens.reference_logprobs, reference.estimator)
        losses = losses + reference.coef * divergence
        tally.mean("policy/kl_reference", divergence.detach().double().sum(), len(losses))
    with torch.no_grad():
        _record_clips(tally, found, config)
        _record_tokens(tally, tokens, token_log_ratio.double())
        if algorithm.ratio == "sequence":
            _record_sequences(tally, tokens, log_ratio.double())
    return losses, tally


def _refuse_single_tokens(config: ObjectiveConfig, plan: TokenPlan) -> None:
    """With one ratio a sequence, the surrogate of any of its tokens moves all of them."""
    for name in ("weight", "clip_low", "clip_high"):
        field = getattr(plan, name)
        if isinstance(field, torch.Tensor) and field.ndim:
            raise ValueError(
                f"the entropy control sets {name} for single tokens, and with algorithm.ratio = sequence a token "
                "cannot be steered alone; set algorithm.ratio=token"
            )
    level, action = KINDS[config.correction.kind]
    if level == "token" and action != "none":
        raise ValueError(
            f"correction.kind = {config.correction.kind} weighs single tokens, and with algorithm.ratio = sequence a "
            "token cannot be weighed alone; take one of the sequence kinds, or set algorithm.ratio=token"
        )


def _record_clips(tally: Tally, found: Surrogate, config: ObjectiveConfig) -> None:
    count = len(found.losses)
    tally.mean("policy/clip_low_share", found.below.sum(), count)
    tally.mean("policy/clip_high_share", found.above.sum(), count)
    if config.algorithm.dual_clip is not None:
        tally.mean("policy/clip_dual_share", found.dual.sum(), count)
    if found.gate is not None:
        tally.mean("policy/gate_mean", found.gate.double().sum(), count)


def _record_tokens(tally: Tally, tokens: PassTokens, log_ratio: torch.Tensor) -> None:
    count, ratio = len(log_ratio), log_ratio.exp()
    entropies, advantages = tokens.entropies.double(), tokens.advantages.double()
    tally.mean("policy/ratio_mean", ratio.sum(), count)
    tally.mean("policy/kl_k1", -log_ratio.sum(), count)
    tally.mean("policy/kl_k3", (ratio - 1 - log_ratio).sum(), count)
    tally.mean("policy/advantage_mean", advantages.sum(), count)
    tally.deviation("policy/advantage_std", advantages.sum(), advantages.square().sum(), count)
    tally.mean("entropy/update_mean", entropies.sum(), count)
    for name, chosen in (("positive", advantages > 0), ("negative", advantages < 0)):
        tally.mean(f"entropy/update_{name}_mean", entropies[chosen].sum(), chosen.sum())
    if count:
        tally.maximum("policy/ratio_max", ratio.max())
        tally.minimum("policy/ratio_min", ratio.min())
        tally.maximum("policy/advantage_max", advantages.max())
        tally.minimum("policy/advantage_min", advantages.min())


def _record_sequences(tally: Tally, tokens: PassTokens, log_ratio: torch.Tensor) -> None:
    ratio = tokens.sequence_means(log_ratio).exp()
    tally.mean("policy/sequence_ratio_mean", ratio.sum(), len(ratio))
    if len(ratio):
        tally.maximum("policy/sequence_ratio_max", ratio.max())
        tally.minimum("policy/sequence_ratio_min", ratio.min())


def _without(dropped: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return torch.where(dropped, torch.zeros_like(values), values)


def _adds(coefficient: Field) -> bool:
    return isinstance(coefficient, torch.Tensor) or coefficient != 0


def _like(value: Field, reference: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(value, dtype=reference.dtype, device=reference.device)
