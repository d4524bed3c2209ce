"""Each alarm on rows made for it: what makes it speak, what does not, and that it goes on where a run goes on."""

from dataclasses import fields, replace

import pytest

from launch.alarms import RULES, Alarms
from launch.config import AlarmsConfig

KINDS = [field.name for field in fields(AlarmsConfig)]
SILENT = AlarmsConfig(**dict.fromkeys(KINDS))
CURVE = [None, 1.0, 0.6, 0.4, 0.3, 0.7, 0.4, 2.5, None, 3.0]
ENTROPY = replace(SILENT, entropy_collapse=0.5, entropy_surge=2.0)


def rows(name: str, values: list) -> list[dict[str, float]]:
    return [{"step": step} | ({} if value is None else {name: value}) for step, value in enumerate(values)]


def watched(alarms: Alarms, given, *kinds):
    found = [alarms.watch(row) for row in given]
    flags = [tuple(f.get(f"alarms/{kind}") for kind in kinds) for f, _ in found]
    begun = [(row["step"], alarm) for row, (_, alarms) in zip(given, found, strict=True) for alarm in alarms]
    return flags, [(step, alarm.kind) for step, alarm in begun], [alarm.sentence for _, alarm in begun]


def told(kind: str, limit: float, given) -> tuple[list[int], list[str]]:
    """Steps at which the alarm begins and its sentences; it is checked that others stay silent."""
    _, begun, sentences = watched(Alarms(replace(SILENT, **{kind: limit})), given, kind)
    assert {name for _, name in begun} <= {kind}
    return [step for step, _ in begun], sentences


def test_an_alarm_begins_once_and_again_after_it_ended():
    flags, begun, _ = watched(Alarms(ENTROPY), rows("entropy/token_mean", CURVE), "entropy_collapse", "entropy_surge")
    none, neither, collapse, surge = (None, None), (0, 0), (1, 0), (0, 1)
    assert flags == [none, neither, neither, collapse, collapse, neither, collapse, surge, none, surge]
    # Entropy is missing at step 8, so the surge has not ended there.
    assert begun == [(3, "entropy_collapse"), (6, "entropy_collapse"), (7, "entropy_surge")]


GRADIENT = [None, 1.0, 1.2, 0.9, 1.1, 1.0, 12.0, 1.0, 9.0, 15.0]
HELD_OUT = [
    {"step": 0, "eval/set/avg_at_k": 0.5, "eval/set/avg_at_k_high": 0.55},
    {"step": 1, "reward/accuracy": 0.6},
    {"step": 2, "reward/accuracy": 0.7, "eval/set/avg_at_k": 0.6, "eval/set/avg_at_k_high": 0.65},
    {"step": 3, "reward/accuracy": 0.8, "eval/set/avg_at_k": 0.5, "eval/set/avg_at_k_high": 0.59},
    {"step": 4, "reward/accuracy": 0.8},
    {"step": 5, "reward/accuracy": 0.8, "eval/set/avg_at_k": 0.58, "eval/set/avg_at_k_high": 0.62},
]


@pytest.mark.parametrize(
    ("kind", "limit", "name", "values"),
    [
        ("entropy_collapse", 0.5, "entropy/token_mean", CURVE),
        ("gradient_spike", 10.0, "policy/grad_norm", GRADIENT),
        ("heldout_fall", 0.05, "", HELD_OUT),
    ],
)
def test_a_run_that_goes_on_remembers_what_it_was_and_what_it_has_said(kind, limit, name, values):
    given, config = rows(name, values) if name else values, replace(SILENT, **{kind: limit})
    flags, begun, _ = watched(Alarms(config), given, kind)
    assert begun
    for cut in range(len(given)):
        after, again, _ = watched(Alarms(config, given[:cut]), given[cut:], kind)
        assert after == flags[cut:]
        assert again == [each for each in begun if each[0] >= cut]


def test_growing_responses():
    given = rows("response/length_mean", [None, 20.0, 79.0, 81.0, 200.0])
    assert told("length_explosion", 4.0, given) == (
        [3],
        ["responses grew from 20 to 81 tokens, above 4 times what they were"],
    )
    assert told("length_explosion", 10.5, given) == ([], [])


def test_truncated_responses():
    given = rows("response/truncated_share", [None, 0.25, 0.3])
    assert told("truncation", 0.25, given) == (
        [2],
        ["30% of the responses were cut at rollout.max_new_tokens, above 25%"],
    )
    assert told("truncation", 0.3, given) == ([], [])


def test_a_held_out_fall_under_rising_training_reward_holds_until_it_is_made_good():
    flags, begun, sentences = watched(Alarms(replace(SILENT, heldout_fall=0.05)), HELD_OUT, "heldout_fall")
    assert flags == [(0,), (0,), (0,), (1,), (1,), (0,)]
    assert begun == [(3, "heldout_fall")]
    assert sentences == [
        "accuracy on set fell to 0.500 from 0.600 at step 2, although training accuracy has risen since"
    ]


@pytest.mark.parametrize(
    "last",
    [
        {"eval/set/avg_at_k": 0.56},  # not far enough
        {"eval/set/avg_at_k_high": 0.61},  # its interval reaches the best
        {"reward/accuracy": 0.65},  # training fell too
    ],
)
def test_no_held_out_fall_where_it_is_small_or_unsure_or_shared(last):
    assert told("heldout_fall", 0.05, [*HELD_OUT[:3], HELD_OUT[3] | last]) == ([], [])


def test_below_the_base_model_counts_as_a_fall():
    given = [HELD_OUT[0], {"step": 1, "reward/accuracy": 0.6, "eval/set/avg_at_k": 0.3, "eval/set/avg_at_k_high": 0.4}]
    assert told("heldout_fall", 0.05, given)[0] == [1]


def test_engines_that_disagree_with_the_learner():
    given = rows("mismatch/prob_ratio_mean", [None, 1.0001, 1.04, 1.12])
    steps, [sentence] = told("mismatch", 1.05, given)
    assert steps == [3]
    assert sentence == (
        "the engines' probabilities are off from the learner's by a factor of 1.120 on average, above 1.05"
    )
    assert told("mismatch", 1.2, given) == ([], [])


def test_groups_without_signal():
    given = rows("groups/mixed", [None, 0.5, 0.125, 0.0625])
    assert told("no_signal", 0.9, given) == (
        [3],
        ["94% of the groups teach nothing, all their responses having the same score; above 90%"],
    )
    assert told("no_signal", 0.95, given) == ([], [])


def test_verifiers_that_fail():
    counts = [(100, 90, 8, 2), (100, 90, 4, 6)]
    names = ("correct", "wrong", "unparsable", "failed")
    given = [{"step": 0}] + [
        {"step": step} | {f"reward/{name}": count for name, count in zip(names, row, strict=True)}
        for step, row in enumerate(counts, 1)
    ]
    assert told("verifier_failures", 0.02, given) == ([2], ["the verifier failed on 3.0% of the responses, above 2.0%"])
    assert told("verifier_failures", 0.03, given) == ([], [])


def test_a_spike_is_held_against_the_median_of_the_steps_before():
    steps, [first, _] = told("gradient_spike", 10.0, rows("policy/grad_norm", GRADIENT))
    # At step 8 the norm is 9 times the median; the spike of step 6 has not moved it.
    assert steps == [6, 9]
    assert first == "the gradient norm is 12, above 10 times its median of the last steps, 1"
    # Five steps are too few to say what is usual.
    assert told("gradient_spike", 10.0, rows("policy/grad_norm", [None, 1, 1, 1, 1, 50])) == ([], [])


def test_every_setting_has_a_rule_and_a_threshold_of_null_never_fires():
    assert list(RULES) == KINDS
    extreme = {
        "entropy/token_mean": 0.0,
        "response/length_mean": 1e6,
        "response/truncated_share": 1.0,
        "eval/set/avg_at_k": 0.0,
        "mismatch/prob_ratio_mean": 9.0,
        "groups/mixed": 0.0,
        "reward/correct": 0,
        "reward/failed": 9,
        "reward/accuracy": 1.0,
        "policy/grad_norm": 1e9,
    }
    calm = dict.fromkeys(extreme, 1.0)
    given = [{"step": step} | (extreme if step > 9 else calm) for step in range(1, 12)]
    flags, begun, _ = watched(Alarms(SILENT), given, *KINDS)
    assert begun == []
    assert set(flags) == {(0,) * len(KINDS)}
    loud = AlarmsConfig(0.5, 2.0, 4.0, 0.5, 0.05, 1.05, 0.9, 0.5, 10.0)
    kinds = {kind for _, kind in watched(Alarms(loud), given)[1]}
    # What collapsed did not surge, and accuracy in training was as high before the fall.
    assert kinds == set(KINDS) - {"entropy_surge", "heldout_fall"}


def test_a_row_without_a_figure_has_no_flag():
    assert Alarms(SILENT).watch({"step": 0}) == ({}, [])
