"""How far one policy is from another, estimated from tokens that the first drew."""

import numpy as np

# A token whose log-probabilities differ by more says no more: without a bound one token could outweigh a whole batch.
MAX_LOG_RATIO = 20.0


def divergences(logprobs: np.ndarray, reference_logprobs: np.ndarray, estimator: str) -> np.ndarray:
    """float64 [n]: an estimate of KL(policy || reference) from each token, in nats.

    With x = log pi - log pi_ref, clamped to ±20: k1 = x, k2 = x²/2, k3 = exp(-x) - 1 + x (Schulman 2020, "Approximating
    KL divergence"). k1 and k3 are unbiased, k2 and k3 never negative.

    logprobs, reference_logprobs  float [n] of tokens drawn by the policy
    """
    x = np.clip(logprobs.astype(np.float64) - reference_logprobs, -MAX_LOG_RATIO, MAX_LOG_RATIO)
    if estimator == "k1":
        return x
    if estimator == "k2":
        return x**2 / 2
    if estimator == "k3":
        return np.expm1(-x) + x
    raise ValueError(f"reference.estimator = {estimator} is unknown")
