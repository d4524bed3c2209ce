"""`python -m launch.warm_up`: compiles what vLLM compiles on its first use, so that no run has to wait for it."""

import os

from launch.config import compose
from launch.prepare import prepare


def main() -> None:
    """One engine in this process draws one response from the shipped laboratory model."""
    config = compose(["output.folder=unused"])
    prepared = prepare(config)
    from rollout.pool import engine_environment, engine_settings
    from rollout.types import GenerationRequest, Sampling

    os.environ |= engine_environment("cpu", threads=1)
    from rollout.vllm_adapter import EngineSettings, open_engine

    model = config.model
    settings = engine_settings(config.rollout, "cpu", model.path, model.dtype, model.context_tokens, False)
    engine = open_engine("in_process", EngineSettings(**settings))
    requests = [GenerationRequest(p.uid, 0, p.token_ids, seed=0) for p in prepared.train.next()]
    engine.generate(requests, Sampling(1.0, 1.0, 0, 8), deadline_s=300.0)
    engine.score([r.prompt_token_ids for r in requests], deadline_s=300.0)
    engine.shutdown()


if __name__ == "__main__":
    main()
