"""`python -m launch.train [overrides]`: one run, from prompts to a report. `--help` lists the settings."""

import dataclasses
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from launch.batch import Sample, build_batch, sample_metrics, token_metrics
from launch.cluster import divide, ray_session, resources
from launch.cluster import sentences as cluster_sentences
from launch.config import RunConfig
from launch.display import Display, make_display
from launch.entry import hydra_entry
from launch.evaluate import evaluate
from launch.graph import Graph, canary_sequences
from launch.memory import job_bytes
from launch.phases import Phases
from launch.prepare import Prepared, prepare, verifiers
from launch.records import rollout_records
from launch.report import write_report
from launch.run_folder import RunFolder, read_metrics, summarize, versions
from launch.validate import implied, sentences
from launch.verdicts import verify
from reward.policy import apply_failure_policy, count_outcomes
from rollout.types import Sampling


def train(config: RunConfig) -> dict[str, Any]:
    """Run `config` to its end and return the content of `summary.json`.

    Raises ConfigError before any actor starts where the settings or the data cannot be used.
    """
    prepared = prepare(config)
    folder = RunFolder(config.output.folder)
    config_hash = folder.write_config(config)
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()

    def close(error: str | None) -> dict[str, Any]:
        summary = summarize(
            read_metrics(folder),
            config_hash=config_hash,
            versions=versions(),
            started=started,
            seconds=time.monotonic() - clock,
            error=error,
        )
        folder.write_summary(summary)
        return summary

    with make_display(config.output.display, config.steps) as display:
        try:
            with ray_session(config):
                run_steps(config, prepared, folder, display)
        except BaseException as error:
            close(f"{type(error).__name__}: {error}")
            raise
        summary = close(None)
        display.finished(summary, write_report(folder))
    return summary


def run_steps(config: RunConfig, prepared: Prepared, folder: RunFolder, display: Display) -> None:
    """Start the actors, then generate, verify, update and sync, step after step."""
    cores, gpus = resources()
    shares = divide(config, cores, gpus)
    display.started(
        [*sentences(implied(config)), prepared.sentence(), *cluster_sentences(config, shares, cores, gpus)]
    )
    rollout = config.rollout
    sampling = Sampling(rollout.temperature, rollout.top_p, rollout.top_k, rollout.max_new_tokens)
    heldout = next(iter(prepared.evaluation.values()))
    canary = canary_sequences(heldout, rollout.canary_prompts)

    with Graph(config, shares, verifiers(config), canary, folder.logs) as graph:
        graph.start(display.waiting)

        def evaluated() -> dict[str, float]:
            row = evaluate(
                graph.rollout, graph.reward, prepared.evaluation, config.evaluation, rollout.max_new_tokens, config.seed
            )
            return row | {"memory/total_bytes": job_bytes()}

        def record(step: int, row: dict[str, float]) -> None:
            row = {"step": step, "weight_version": step} | row
            folder.append_metrics(row)
            display.step(row)

        display.waiting("evaluating the base model")
        phases = Phases()
        with phases("evaluate"):
            row = evaluated()
        record(0, row | phases.row())

        for step in range(1, config.steps + 1):
            prompts = prepared.train.next()
            with phases("generate"):
                groups = graph.rollout.generate(prompts, rollout.samples_per_prompt, sampling, config.seed, step)
            with phases("verify"):
                verdicts = verify(graph.reward, prompts, groups)
                rewards = iter(
                    apply_failure_policy(verdicts, config.reward.on_failure, config.reward.max_failure_share)
                )
            with phases("advantages"):
                samples = [
                    Sample(prompt, number, response, next(rewards))
                    for number, (prompt, group) in enumerate(zip(prompts, groups, strict=True))
                    for response in group
                ]
                trainable = build_batch(samples, config.algorithm)
            with phases("old_logprobs"):
                logprobs, entropies = graph.learner.score(trainable.batch)
            with phases("update"):
                batch = dataclasses.replace(trainable.batch, old_logprobs=logprobs)
                row = graph.learner.update(batch, step - 1)
            with phases("sync"):
                row |= graph.sync(step)
            if step == config.steps or (config.evaluation.every and step % config.evaluation.every == 0):
                with phases("evaluate"):
                    row |= evaluated()
            with phases("save"):
                row |= sample_metrics(samples, count_outcomes(verdicts), trainable.kinds)
                row |= token_metrics(batch, logprobs, entropies)
                if config.output.save_rollouts:
                    folder.write_rollouts(step, rollout_records(samples, verdicts, trainable, entropies))
                if config.output.save_model and step == config.steps:
                    graph.learner.save(str(Path(folder) / "model"))
            record(step, row | speeds(row, times := phases.row()) | times)


def speeds(row: dict[str, float], times: dict[str, float]) -> dict[str, float]:
    """Tokens per second of the phases that made and trained them."""
    return {
        "speed/generated_tokens_per_s": row["tokens/generated"] / times["time/generate_s"],
        "speed/trained_tokens_per_s": row["tokens/trained"] / times["time/update_s"],
    }


def main(config: RunConfig) -> None:
    train(config)


if __name__ == "__main__":
    hydra_entry(main)
