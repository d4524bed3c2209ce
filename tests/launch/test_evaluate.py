"""The figures of an evaluation set by hand, with failed verdicts left out."""

import numpy as np
import pyarrow.parquet
import pytest

from launch import evaluate as module
from launch.config import EvaluationConfig
from launch.evaluate import accuracy_row, evaluate
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


def test_pass_at_every_power_of_two_and_at_k():
    assert [key for key in accuracy_row([[RIGHT] * 6], seed=0) if "pass" in key] == [f"pass_at_{k}" for k in (2, 4, 6)]


def test_no_verdict_at_all_is_not_a_figure():
    with pytest.raises(NothingJudged, match="no response of the evaluation set has a verdict"):
        accuracy_row([[FAILED, FAILED]], seed=0)


class Engines:
    """Answers every prompt with its own number, once to its first token and once cut at two."""

    def generate(self, prompts, count, sampling, seed, step):
        return [[self._response(prompt, sample) for sample in range(count)] for prompt in prompts]

    def _response(self, prompt, sample):
        ids = np.arange(1 + sample, dtype=np.int32)
        finish = FinishReason.LENGTH if sample else FinishReason.STOP
        logprobs, spans = np.full(ids.size, -0.5, np.float32), (VersionSpan(0, 3),)
        return Response(prompt.uid, sample, ids, logprobs, prompt.uid[-1], finish, spans, 0)


def test_responses_of_a_set_are_kept_with_their_verdicts_even_where_they_are_refused(tmp_path, monkeypatch):
    prompts = [Prompt(f"set/{i}", f"{i}?", np.array([1, 2], np.int32), "source", "v", "0", {}, str(i)) for i in (0, 1)]
    verdicts = [RIGHT, WRONG, RIGHT, FAILED]
    monkeypatch.setattr(module, "verify", lambda reward, prompts, groups: verdicts)
    folder, config = RunFolder(tmp_path), EvaluationConfig(0, 2, 1.0, 1.0, 0, 0.0, [], [])
    row = evaluate(Engines(), None, {"set": prompts}, config, 2, 0, 1.0, folder.write_responses)
    kept = pyarrow.parquet.read_table(tmp_path / "responses" / "set.parquet").to_pylist()
    assert [(each["uid"], each["sample"], each["response"]) for each in kept] == [
        ("set/0", 0, "0"),
        ("set/0", 1, "0"),
        ("set/1", 0, "1"),
        ("set/1", 1, "1"),
    ]
    assert [each["score"] for each in kept] == [1.0, 0.0, 1.0, None]
    assert kept[3]["failure"] == "timeout"
    assert kept[1]["token_ids"] == [0, 1]
    assert {each["weight_version"] for each in kept} == {3}
    assert row["eval/set/truncated_share"] == 0.5
    # Every first response is [0], every second [0, 1]: the first has all of its tokens in the second and half its
    # length, the second half of its tokens and no pair (sacrebleu's smoothing: half of one).
    assert row["eval/set/diversity_self_bleu"] == pytest.approx((np.exp(1 - 2) + (1 / 2 * 1 / 2) ** 0.5) / 2)
    assert row["eval/set/diversity_distinct_answers"] == 2
    one = EvaluationConfig(0, 1, 1.0, 1.0, 0, 0.0, [], [])
    monkeypatch.setattr(module, "verify", lambda reward, prompts, groups: verdicts[:2])
    assert not [name for name in evaluate(Engines(), None, {"set": prompts}, one, 2, 0, 1.0) if "diversity" in name]
    monkeypatch.setattr(module, "verify", lambda reward, prompts, groups: verdicts)
    (tmp_path / "responses" / "set.parquet").unlink()
    with pytest.raises(TooManyFailures):
        evaluate(Engines(), None, {"set": prompts}, config, 2, 0, 0.1, folder.write_responses)
    assert (tmp_path / "responses" / "set.parquet").is_file()
