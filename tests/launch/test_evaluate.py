"""The figures of an evaluation set by hand, with failed verdicts left out."""

import numpy as np
import pyarrow.parquet
import pytest

from launch import evaluate as module
from launch.config import EvaluationConfig, EvaluationSetConfig
from launch.evaluate import accuracy_row, evaluate, table, train_gaps
from launch.run_folder import RunFolder
from launch.verdicts import NothingJudged
from reward.policy import TooManyFailures
from reward.types import FailureKind, Verdict
from rollout.types import FinishReason, Prompt, Response, VersionSpan


def judged(answer: str | None, right: bool) -> Verdict:
    return Verdict(float(right), None, answer, "", "", 0.01)


FAILED = Verdict(None, FailureKind.TIMEOUT, None, "", "", 5.0)
RIGHT, WRONG, NONE = judged("7", True), judged("8", False), judged(None, False)


def test_every_figure():
    row = accuracy_row([[RIGHT, RIGHT, WRONG, WRONG], [RIGHT, WRONG, NONE, NONE], [WRONG, WRONG, WRONG, RIGHT]], seed=0)
    low, high = row.pop("avg_at_k_low"), row.pop("avg_at_k_high")
    assert row == pytest.approx(
        {
            "avg_at_k": (1 / 2 + 1 / 4 + 1 / 4) / 3,
            "pass_at_2": ((1 - 1 / 6) + 1 / 2 + 1 / 2) / 3,  # 1 - C(2, 2) / C(4, 2), and 1 - C(3, 2) / C(4, 2)
            "pass_at_3": (1 + 3 / 4 + 3 / 4) / 3,
            "pass_at_4": 1.0,
            "maj_at_k": (1 / 2 + 1 / 2 + 0) / 3,  # two against two, one against one, one against three
        }
    )
    assert 0.25 <= low < row["avg_at_k"] < high <= 0.5


def test_failures_are_left_out_and_so_is_what_too_few_are_left_for():
    row = accuracy_row([[RIGHT, FAILED], [WRONG, WRONG], [FAILED, FAILED]], seed=0)
    assert row["avg_at_k"] == 0.5  # a mean of prompts: (1 + 0) / 2, not 1 right of 3
    assert (row["pass_at_2"], row["maj_at_k"]) == (0.0, 0.0)
    assert accuracy_row([[RIGHT, FAILED]], seed=0) == {"avg_at_k": 1.0, "avg_at_k_low": 1.0, "avg_at_k_high": 1.0}


def test_one_response_has_no_votes_and_no_draws():
    assert set(accuracy_row([[RIGHT], [WRONG]], seed=0)) == {"avg_at_k", "avg_at_k_low", "avg_at_k_high"}


def test_pass_at_every_k():
    row = accuracy_row([[RIGHT] + [WRONG] * 5], seed=0)
    assert {name: value for name, value in row.items() if "pass" in name} == pytest.approx(
        {f"pass_at_{k}": k / 6 for k in (2, 3, 4, 5, 6)}  # 1 - C(5, k) / C(6, k)
    )


def test_no_verdict_at_all_is_not_a_figure():
    with pytest.raises(NothingJudged, match="no response of the evaluation set has a verdict"):
        accuracy_row([[FAILED, FAILED]], seed=0)


def settings(k: int, **sets: EvaluationSetConfig) -> EvaluationConfig:
    return EvaluationConfig(0, sets, k, 2, 1.0, 1.0, 0, 0.0, [], [])


def test_the_gap_is_the_training_accuracy_of_the_step_above_that_of_each_set():
    row = {"eval/a/avg_at_k": 0.5, "eval/b/avg_at_k": 0.9, "eval/a/by_source/x/accuracy": 0.1, "eval/a/k": 4}
    assert train_gaps(row | {"reward/accuracy": 0.75}) == pytest.approx(
        {"eval/a/train_gap": 0.25, "eval/b/train_gap": -0.15}
    )
    assert train_gaps(row) == {}
    assert train_gaps({"reward/accuracy": 0.75}) == {}


class Engines:
    """Answers every prompt with its own number, once to its first token and once cut at two."""

    def __init__(self):
        self.asked = []

    def generate(self, prompts, count, sampling, seed, step):
        self.asked.append((count, sampling))
        return [[self._response(prompt, sample) for sample in range(count)] for prompt in prompts]

    def _response(self, prompt, sample):
        ids = np.arange(1 + sample, dtype=np.int32)
        finish = FinishReason.LENGTH if sample else FinishReason.STOP
        logprobs, spans = np.full(ids.size, -0.5, np.float32), (VersionSpan(0, 3),)
        return Response(prompt.uid, sample, ids, logprobs, prompt.uid[-1], finish, spans, 0)


def prompts(name: str, sources: list[str]) -> list[Prompt]:
    ids = np.array([1, 2], np.int32)
    return [Prompt(f"{name}/{i}", f"{i}?", ids, source, "v", "0", {}, str(i)) for i, source in enumerate(sources)]


def by_uid(right: dict[str, list[Verdict]]):
    def verify(reward, prompts, groups):
        return [verdict for prompt, group in zip(prompts, groups, strict=True) for verdict in right[prompt.uid]]

    return verify


def test_a_set_is_drawn_as_it_says_and_all_others_as_evaluation_says(monkeypatch):
    sets = {"plain": prompts("plain", ["s"]), "own": prompts("own", ["s"])}
    monkeypatch.setattr(module, "verify", by_uid({"plain/0": [RIGHT, WRONG], "own/0": [WRONG, WRONG, RIGHT]}))
    engines, own = Engines(), EvaluationSetConfig(3, 5, 0.0, None, None, 0.1)
    row = evaluate(engines, None, sets, settings(2, own=own), 0, 1.0)
    asked = [(k, s.max_new_tokens, s.temperature, s.top_p, s.top_k, s.min_p) for k, s in engines.asked]
    assert asked == [(2, 2, 1.0, 1.0, 0, 0.0), (3, 5, 0.0, 1.0, 0, 0.1)]
    assert (row["eval/plain/k"], row["eval/own/k"]) == (2, 3)
    assert (row["eval/plain/avg_at_k"], row["eval/own/avg_at_k"]) == pytest.approx((1 / 2, 1 / 3))
    assert "eval/own/pass_at_3" in row
    assert "eval/plain/pass_at_3" not in row


def test_a_set_of_several_sources_has_figures_of_each(monkeypatch):
    verdicts = [[RIGHT, WRONG], [RIGHT, RIGHT], [WRONG, FAILED], [FAILED, FAILED]]
    monkeypatch.setattr(module, "verify", by_uid({f"mix/{i}": each for i, each in enumerate(verdicts)}))
    row = evaluate(Engines(), None, {"mix": prompts("mix", ["b", "a/x", "b", "c"])}, settings(2), 0, 1.0)
    found = {name.removeprefix("eval/mix/by_source/"): value for name, value in row.items() if "by_source" in name}
    assert 0 <= found.pop("b/accuracy_low") <= 0.25 <= found.pop("b/accuracy_high") <= 0.5
    assert found == {
        "a/x/prompts": 1,
        "a/x/accuracy": 1.0,
        "a/x/accuracy_low": 1.0,
        "a/x/accuracy_high": 1.0,
        "b/prompts": 2,
        "b/accuracy": 0.25,
        "c/prompts": 1,  # of which every verifier failed
    }
    lines = table(row).splitlines()
    assert [line.split()[0] for line in lines] == ["set", "mix", "a/x", "b", "c"]
    assert lines[2].split() == ["a/x", "1.000", "1.000", "to", "1.000", "1", "prompts"]
    assert lines[4].split() == ["c", "-", "-", "1", "prompts"]
    alone = evaluate(Engines(), None, {"mix": prompts("mix", ["b", "b"])}, settings(2), 0, 1.0)
    assert not [name for name in alone if "by_source" in name]


def test_responses_of_a_set_are_kept_with_their_verdicts_even_where_they_are_refused(tmp_path, monkeypatch):
    sets = {"set": prompts("set", ["source"] * 2)}
    verdicts = [RIGHT, WRONG, RIGHT, FAILED]
    monkeypatch.setattr(module, "verify", lambda reward, prompts, groups: verdicts)
    folder, config = RunFolder(tmp_path), settings(2)
    row = evaluate(Engines(), None, sets, config, 0, 1.0, folder.write_responses)
    kept = pyarrow.parquet.read_table(tmp_path / "responses" / "set.parquet").to_pylist()
    assert [(each["uid"], each["sample"], each["response"]) for each in kept] == [
        ("set/0", 0, "0"),
        ("set/0", 1, "0"),
        ("set/1", 0, "1"),
        ("set/1", 1, "1"),
    ]
    assert [each["score"] for each in kept] == [1.0, 0.0, 1.0, None]
    assert kept[3]["failure"] == "timeout"
    assert kept[1] == {
        "uid": "set/0",
        "sample": 1,
        "source": "source",
        "prompt": "0?",
        "response": "0",
        "token_ids": [0, 1],
        "logprobs": [-0.5, -0.5],
        "entropies": None,
        "finish_reason": "length",
        "score": 0.0,
        "failure": None,
        "answer": "8",
        "rule": "",
        "reward": None,
        "advantage": None,
        "first_weight_version": 3,
        "weight_version": 3,
    }
    assert row["eval/set/truncated_share"] == 0.5
    # Every first response is [0], every second [0, 1]: the first has all of its tokens in the second and half its
    # length, the second half of its tokens and no pair (sacrebleu's smoothing: half of one).
    assert row["eval/set/diversity_self_bleu"] == pytest.approx((np.exp(1 - 2) + (1 / 2 * 1 / 2) ** 0.5) / 2)
    assert row["eval/set/diversity_distinct_answers"] == 2
    one = settings(1)
    monkeypatch.setattr(module, "verify", lambda reward, prompts, groups: verdicts[:2])
    assert not [name for name in evaluate(Engines(), None, sets, one, 0, 1.0) if "diversity" in name]
    monkeypatch.setattr(module, "verify", lambda reward, prompts, groups: verdicts)
    (tmp_path / "responses" / "set.parquet").unlink()
    with pytest.raises(TooManyFailures):
        evaluate(Engines(), None, sets, config, 0, 0.1, folder.write_responses)
    assert (tmp_path / "responses" / "set.parquet").is_file()
