"""The reference policy: a fixed model in Ray actors of its own, each with all of it, that score batches between them.

Heavy imports wait for `start`, so that logs and environment are set first.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import ray

from learner.config import LearnerConfig
from learner.planning import PassLimits, plan_passes
from learner.types import Passes, Scores, TokenBatch, joined

if TYPE_CHECKING:
    import torch


class ReferenceFailed(RuntimeError):
    """A reference actor died or did not finish within its deadline."""


class FrozenModel:
    """A causal LM without gradients, in the shape that `Policy` drives.

    offload  keep the weights in host memory outside `in_use`. Unverified on GPUs.
    """

    def __init__(
        self, path: str, dtype: str, attention: str, trust_remote_code: bool, device: "torch.device", offload: bool
    ):
        import torch
        from transformers import AutoModelForCausalLM

        self.device = device
        self._rests_on = torch.device("cpu") if offload else device
        model = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=getattr(torch, dtype),
            attn_implementation=attention,
            trust_remote_code=trust_remote_code,
            use_safetensors=True,  # the other form is a pickle
        )
        self.model = model.eval().requires_grad_(False).to(self._rests_on)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """With the weights on the device."""
        import torch

        self.model.to(self.device)
        try:
            yield
        finally:
            self.model.to(self._rests_on)
            if self._rests_on != self.device:
                torch.cuda.empty_cache()

    def forward(self, tokens: "torch.Tensor", positions: "torch.Tensor") -> "torch.Tensor":
        """Run the model on tokens int64 [rows, time], `positions` alike; returns what the replaced head returns.

        Called just as the learner's model is, so that the same weights score the same.
        """
        return self.model(input_ids=tokens, position_ids=positions, attention_mask=None, use_cache=False).logits


class ReferenceWorker:
    """Scores tokens under the reference policy."""

    def start(
        self,
        config: LearnerConfig,
        model_path: str,
        dtype: str,
        trust_remote_code: bool,
        device: str,
        offload: bool,
    ) -> None:
        """Load the model. It has the learner's kernel and limits, so that the same weights score the same."""
        import torch

        from learner.head_support import check_model
        from learner.policy import Policy

        self._model = FrozenModel(model_path, dtype, config.attention, trust_remote_code, torch.device(device), offload)
        check_model(self._model.model)
        self._policy = Policy(self._model, config.logprob_chunk_tokens, PassLimits.of(config))

    def score(self, batch: TokenBatch, passes: Passes) -> Scores:
        """Of the response tokens of the samples in `passes`."""
        with self._model.in_use():
            return self._policy.score(batch, passes)


class ReferenceGroup:
    """Reference actors on the driver's side. A batch is dealt over all of them; every call has a deadline."""

    def __init__(
        self,
        config: LearnerConfig,
        actors: int,
        minibatches: int,
        device: str,
        threads: int,
        places: Sequence[Mapping[str, Any]] | None = None,
    ):
        """`places` are the Ray options of each actor that say where it runs; without them it reserves nothing.

        minibatches  updates' worth of samples in a batch: each may take `learner.deadline_s`
        """
        self._config, self._minibatches, self._device = config, minibatches, device
        environment = {
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": str(threads),
            "TOKENIZERS_PARALLELISM": "false",
        }
        actor: Any = ray.remote(ReferenceWorker)
        self.actors: list[Any] = [
            actor.options(runtime_env={"env_vars": environment}, **place).remote()
            for place in places or [{"num_cpus": 0}] * actors
        ]

    def begin_start(self, model_path: str, dtype: str, trust_remote_code: bool, offload: bool) -> list[Any]:
        """Start loading in all actors; the references are done when they are ready."""
        arguments = (self._config, model_path, dtype, trust_remote_code, self._device, offload)
        return [actor.start.remote(*arguments) for actor in self.actors]

    def score(self, batch: TokenBatch) -> np.ndarray:
        """Log-probs float32 [response tokens] under the reference policy, at the batch's temperature.

        Raises ReferenceFailed.
        """
        samples = np.arange(batch.lengths.size)
        shares = plan_passes(batch.lengths, samples, len(self.actors), PassLimits.of(self._config))
        shared = ray.put(batch)
        calls = [actor.score.remote(shared, share) for actor, share in zip(self.actors, shares, strict=True)]
        scores = joined(self._get(calls, self._config.deadline_s * self._minibatches))
        logprobs = np.empty(batch.mask.size, np.float32)
        logprobs[scores.index] = scores.logprobs
        return logprobs

    def close(self) -> None:
        """End the actors' processes at once."""
        for actor in self.actors:
            ray.kill(actor)

    def _get(self, calls: list[Any], limit_s: float) -> list[Scores]:
        deadline, found = time.monotonic() + limit_s, []
        for number, call in enumerate(calls):
            try:
                found.append(ray.get(call, timeout=max(0.0, deadline - time.monotonic())))
            except ray.exceptions.GetTimeoutError:
                raise ReferenceFailed(
                    f"reference actor {number} did not finish scoring in {limit_s:g} s; see logs/reference-{number}.log"
                    ", or raise learner.deadline_s"
                ) from None
            except ray.exceptions.RayActorError as error:
                raise ReferenceFailed(
                    f"reference actor {number} died while it scored; see logs/reference-{number}.log"
                ) from error
        return found
