"""`python -m launch.train [overrides]`: one run, from prompts to a report. `--help` lists the settings."""

from dataclasses import replace
from typing import Any

from launch.allocator import keep_little
from launch.batch import Sample, add_advantages, build_batch, rewards_of, sample_metrics, token_metrics
from launch.config import RunConfig
from launch.covariance_metrics import covariance_metrics
from launch.entropy_metrics import entropy_metrics
from launch.entry import hydra_entry
from launch.lasting import lasting
from launch.prepare import prepare
from launch.records import rollout_records
from launch.response_metrics import response_metrics
from launch.run import Run
from launch.verdict_metrics import verdict_metrics
from launch.verdicts import facts
from learner.staleness import staleness
from reward.composition import compose_rewards, term_metrics
from reward.policy import count_outcomes
from rollout.config import KEEP, MASK


@lasting
def train(config: RunConfig) -> dict[str, Any]:
    """Run `config` to its end and return the content of `summary.json`.

    A run that is there already goes on after its newest checkpoint, as `resume` says. Raises ConfigError before any
    actor starts where the settings or the data cannot be used, RunFailed where the run could not go on, and RunStopped
    where it was told to end.
    """
    prepared = prepare(config)
    limit, masked, kept = config.off_policy.max_staleness, config.rollout.stale == MASK, config.rollout.stale == KEEP
    with Run(config, prepared) as run:
        graph, phases = run.graph, run.phases
        if run.first_step == 1:
            run.record(0, run.evaluate())

        for step in range(run.first_step, config.steps + 1):
            rollout = run.rollout()
            verdicts, further = rollout.verdicts, rollout.further
            with phases("verify"):
                rewards = compose_rewards(verdicts, further, facts(rollout.groups), config.reward)
            with phases("advantages"):
                samples = Sample.of_groups(rollout.prompts, rollout.groups, rewards)
                oldest = step - 1 - limit if masked else None
                batch = build_batch(samples, config.algorithm.train_on_truncated, oldest, rollout.temperature)
            with phases("reference"):
                if graph.reference:
                    batch = replace(batch, reference_logprobs=graph.reference.score(batch))
            with phases("advantages"):
                trainable = add_advantages(samples, batch, config.algorithm, config.reference)
                batch = trainable.batch
            with phases("old_logprobs"):
                # A single update finds them in its own forward pass.
                scores = graph.learner.score(batch) if graph.learner.needs_old_logprobs else None
                batch = replace(batch, old_logprobs=scores[0], old_entropies=scores[1]) if scores else batch
            with phases("update"):
                row = rollout.metrics | staleness(batch.versions, batch.mask, step - 1, limit, allow_late=kept)
                updated = run.update(step, batch, rewards_of(samples))
                row |= updated.metrics
            row |= run.sync(step)
            if run.evaluation_due(step):
                row |= run.evaluate()
            with phases("save"):
                logprobs, entropies = scores or updated.scores
                row |= sample_metrics(samples, count_outcomes(verdicts), trainable)
                row |= verdict_metrics(samples, verdicts) | term_metrics(rewards, further)
                row |= response_metrics(samples, verdicts)
                row |= token_metrics(batch, logprobs, entropies) | entropy_metrics(samples, trainable, entropies)
                row |= covariance_metrics(batch, logprobs, entropies, config.entropy.clip_cov)
                if config.output.save_rollouts:
                    run.folder.write_rollouts(step, rollout_records(samples, verdicts, trainable, entropies))
                if config.output.save_model and step == config.steps:
                    run.save_model()
            run.record(step, row)
            run.checkpoint(step)
    return run.summary


def main(config: RunConfig) -> None:
    keep_little()
    train(config)


if __name__ == "__main__":
    hydra_entry(main)
