"""How far one policy is from another, from tokens that the first drew: for the driver, whose arrays are numpy."""

import numpy as np


def divergences(logprobs: np.ndarray, reference_logprobs: np.ndarray, estimator: str) -> np.ndarray:
    """float64 [n]: `learner.ratios.reference_divergence` of each token, in nats, in double precision.

    logprobs, reference_logprobs  float [n] of tokens drawn by the policy
    """
    import torch  # takes seconds to load, which most drivers save

    from learner.ratios import reference_divergence

    policy, reference = (torch.from_numpy(values.astype(np.float64)) for values in (logprobs, reference_logprobs))
    return reference_divergence(policy, reference, estimator).numpy()
