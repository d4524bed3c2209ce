"""Accuracy on held-out prompts: inside a run, and of any model folder as

python -m launch.evaluate [overrides], for example model.path=runs/.../model evaluation.samples_per_prompt=16

data=<preset>,<preset> measures on several presets (`launch.evaluation_sets`).
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from launch import stopping
from launch.accuracy import average_at_k, interval, majority_at_k, pass_at_k
from launch.cluster import divide, is_joined, places, ray_session
from launch.config import ConfigError, EvaluationConfig, RunConfig, compose
from launch.diversity import diversity
from launch.evaluation_sets import with_sets
from launch.failures import FAILURES, sentence
from launch.graph import StartFailed, wait_started
from launch.logs import ActorLogs, log_to_files
from launch.model_folder import model_folder
from launch.nodes import model_missing, name_losses, not_up, planned
from launch.placement import ENGINES, cluster_nodes, engine_group
from launch.prepare import evaluation_sources, prepare_evaluation
from launch.records import response_records
from launch.response_metrics import given_answer
from launch.run_folder import RunFolder, versions
from launch.sampling import of_set, sampling
from launch.verdicts import NothingJudged, verify
from reward.policy import FailurePolicy, apply_failure_policy
from reward.pool import RewardPool
from reward.types import Verdict
from rollout.pool import RolloutPool
from rollout.types import FinishReason, Prompt, Response

# Keeps evaluation's random numbers apart from training's, and the same at every step: changes are the policy's alone.
EVALUATION_STEP = -1


def evaluate(
    rollout: RolloutPool,
    reward: RewardPool,
    sets: Mapping[str, list[Prompt]],
    evaluation: EvaluationConfig,
    seed: int,
    max_failure_share: float,
    keep: Callable[[str, Iterator[dict[str, Any]]], object] | None = None,
) -> dict[str, float]:
    """`accuracy_row`, the same by source, diversity, lengths and failures of each set, under `eval/<set>/`.

    keep  given the name of each set and the records of its responses (`launch.records`)

    Raises `TooManyFailures` where more than `max_failure_share` of a set failed, `NothingJudged` where all did.
    """
    row: dict[str, float] = {}
    for name, prompts in sets.items():
        config = of_set(evaluation, name)
        k = config.samples_per_prompt
        groups = rollout.generate(prompts, k, sampling(config), seed, EVALUATION_STEP)
        verdicts = verify(reward, prompts, groups)
        if keep:
            # Before anything can refuse them: that is when one wants to see them.
            keep(name, response_records(prompts, groups, verdicts))
        apply_failure_policy(verdicts, FailurePolicy.EXCLUDE, max_failure_share)
        responses = [response for group in groups for response in group]
        of_prompts = [verdicts[start : start + k] for start in range(0, len(verdicts), k)]
        figures = (
            accuracy_row(of_prompts, seed)
            | _by_source(prompts, of_prompts, seed)
            | _diversity(prompts, groups, of_prompts)
            | {
                "k": k,
                "failed": sum(verdict.score is None for verdict in verdicts),
                "length_mean": float(np.mean([len(r.token_ids) for r in responses])),
                "truncated_share": float(np.mean([r.finish_reason is FinishReason.LENGTH for r in responses])),
            }
        )
        row |= {f"eval/{name}/{key}": value for key, value in figures.items()}
    return row


def train_gaps(row: Mapping[str, float]) -> dict[str, float]:
    """`eval/<set>/train_gap` of a row with an evaluation: the step's training accuracy less avg@k of the set.

    Responses to train on are drawn by the weights before the updates of the step, those of the set by the weights after
    them. None in a row without a training accuracy, as that of the base model.
    """
    if "reward/accuracy" not in row:
        return {}
    sets = [name.removesuffix("/avg_at_k") for name in row if name.startswith("eval/") and name.endswith("/avg_at_k")]
    return {f"{name}/train_gap": row["reward/accuracy"] - row[f"{name}/avg_at_k"] for name in sets}


def accuracy_row(groups: Sequence[Sequence[Verdict]], seed: int) -> dict[str, float]:
    """Means over prompts of what their k verdicts come to; a response is right where its score is 1.

    avg_at_k             share of right ones; avg_at_k_low and avg_at_k_high bound its 95 % bootstrap interval
    pass_at_2, 3 ... k   chance that as many have a right one among them
    maj_at_k             share of right ones when all vote

    A response whose verifier failed is left out of its prompt, and a prompt with fewer verdicts than a figure needs out
    of that figure, which is missing where no prompt has enough. Raises `NothingJudged` where no response has a verdict.
    """
    right = _right(groups)
    averages = average_at_k(right)
    if np.isnan(averages).all():
        raise NothingJudged("no response of the evaluation set has a verdict: every verifier failed")
    low, high = interval(averages, seed)
    row = {"avg_at_k": float(np.nanmean(averages)), "avg_at_k_low": low, "avg_at_k_high": high}
    k = right.shape[1]
    for draws in range(2, k + 1):
        passed = pass_at_k(right, draws)
        if not np.isnan(passed).all():
            row[f"pass_at_{draws}"] = float(np.nanmean(passed))
    votes = [
        majority_at_k([v.answer for v in group], [v.score == 1.0 for v in group], k)
        for group in groups
        if k > 1 and all(v.score is not None for v in group)
    ]
    return row | ({"maj_at_k": float(np.mean(votes))} if votes else {})


def _by_source(prompts: Sequence[Prompt], groups: Sequence[Sequence[Verdict]], seed: int) -> dict[str, float]:
    """Prompts and accuracy of each source among the prompts, in the order of names; nothing where there is one."""
    row: dict[str, float] = {}
    sources = sorted({prompt.source for prompt in prompts})
    for source in sources if len(sources) > 1 else []:
        chosen = [group for prompt, group in zip(prompts, groups, strict=True) if prompt.source == source]
        row[f"by_source/{source}/prompts"] = len(chosen)
        averages = average_at_k(_right(chosen))
        if not np.isnan(averages).all():
            low, high = interval(averages, seed)
            figures = {"accuracy": float(np.nanmean(averages)), "accuracy_low": low, "accuracy_high": high}
            row |= {f"by_source/{source}/{name}": value for name, value in figures.items()}
    return row


def _right(groups: Sequence[Sequence[Verdict]]) -> np.ndarray:
    """float [prompts, k]: 1 where the score is 1, else 0; NaN without a verdict."""
    return np.array([[np.nan if v.score is None else float(v.score == 1.0) for v in group] for group in groups])


def _diversity(
    prompts: Sequence[Prompt], groups: Sequence[Sequence[Response]], verdicts: Sequence[Sequence[Verdict]]
) -> dict[str, float]:
    """`launch.diversity` of the responses to each prompt; nothing where each has one response."""
    if not groups or len(groups[0]) < 2:
        return {}
    found = diversity(
        [prompt.uid for prompt in prompts],
        [[response.token_ids.tolist() for response in group] for group in groups],
        [[given_answer(verdict) for verdict in group] for group in verdicts],
    )
    return {f"diversity_{name}": value for name, value in found.items()}


def evaluate_model(config: RunConfig, folder: RunFolder) -> dict[str, float]:
    """Start engines and verifiers only, and evaluate `model.path` on all evaluation sets."""
    sets = prepare_evaluation(config)
    names = {source.verifier for source in evaluation_sources(config.data).values()}
    folder.write_config(config)
    limit_s = config.cluster.start_timeout_s
    with ray_session(config):
        shares = divide(config, cluster_nodes(), is_joined(config), only=ENGINES)
        engines = engine_group(config, shares.device)
        alone = replace(config.rollout, colocated=False)  # there is no learner to share a GPU with
        with (
            places(shares, [engines], limit_s, partial(print, flush=True)) as held,
            RewardPool(config.reward, names) as reward,
            closing(RolloutPool(alone, shares.device, shares.engine_threads, held[engines.name])) as rollout,
        ):
            actors = {f"engine-{i}": actor for i, actor in enumerate(rollout.actors)}
            nodes = planned("engine", held[engines.name])
            logs = ActorLogs(folder.logs, {})
            try:
                if problem := not_up(actors, nodes, limit_s):
                    raise StartFailed(problem)
                logs = log_to_files(actors, folder.logs, limit_s)
                model = config.model
                path = model_folder(model.path)
                if problem := model_missing("model.path", actors, path, limit_s):
                    raise StartFailed(problem)
                calls = rollout.begin_start(path, model.dtype, model.context_tokens, model.trust_remote_code)
                wait_started(dict(zip(actors, calls, strict=True)), config.rollout.start_timeout_s, folder.logs)
                share = config.reward.max_failure_share
                keep = folder.write_responses if config.output.save_rollouts else None
                return evaluate(rollout, reward, sets, config.evaluation, config.seed, share, keep)
            except Exception as error:
                name_losses(error, nodes)
                raise
            finally:
                logs.collect()


def table(row: Mapping[str, float]) -> str:
    """One line per evaluation set, each with one per source of it below."""
    lines = [
        (
            "set",
            f"{'avg@k':>8}{'95 % interval':>16}{'pass@k':>8}{'maj@k':>8}"
            f"{'k':>5}{'length':>9}{'truncated':>11}{'failed':>8}",
        )
    ]
    for name in dict.fromkeys(key.split("/")[1] for key in row):
        of = {key.removeprefix(f"eval/{name}/"): value for key, value in row.items() if key.startswith(f"eval/{name}/")}
        between = f"{of['avg_at_k_low']:.3f} to {of['avg_at_k_high']:.3f}"
        several = [_figure(of.get(key)) for key in (f"pass_at_{of['k']:.0f}", "maj_at_k")]
        figures = (
            f"{of['avg_at_k']:>8.3f}{between:>16}{several[0]:>8}{several[1]:>8}"
            f"{of['k']:>5.0f}{of['length_mean']:>9.1f}{of['truncated_share']:>11.1%}{of['failed']:>8.0f}"
        )
        lines += [(name, figures), *_source_lines(of)]
    wide = max(16, *(len(label) + 1 for label, _ in lines))
    return "\n".join(f"{label:<{wide}}{figures}" for label, figures in lines)


def _source_lines(of: Mapping[str, float]) -> list[tuple[str, str]]:
    sources = [key.split("/", 1)[1].removesuffix("/prompts") for key in of if key.endswith("/prompts")]
    lines = []
    for source in sources:
        accuracy, low, high = (of.get(f"by_source/{source}/accuracy{end}") for end in ("", "_low", "_high"))
        between = "-" if low is None else f"{low:.3f} to {high:.3f}"
        prompts = f"{of[f'by_source/{source}/prompts']:.0f} prompts"
        lines.append((f"  {source}", f"{_figure(accuracy):>8}{between:>16}  {prompts}"))
    return lines


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def main(overrides: Sequence[str]) -> int:
    """Print the table, write `evaluation.json` into `output.folder`, return the exit status."""
    try:
        config = compose(with_sets(overrides))
        folder = RunFolder(config.output.folder)
        with stopping.heeding():
            row = evaluate_model(config, folder)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except FAILURES as error:
        print(sentence(error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(stopping.sentence(), file=sys.stderr)
        return stopping.exit_status()
    result = {"model": config.model.path, "seed": config.seed, "eval": row, "versions": versions()}
    path = Path(folder) / "evaluation.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(table(row), f"written to {path}", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
