"""What moved entropy, by hand."""

from math import nan

from launch.entropy_story import acting, story

ROWS = [
    {"step": 0, "eval/heldout/avg_at_k": 0.5},
    {
        "step": 1,
        "entropy/top_fifth_mean": 2.0,
        "entropy/update_positive_mean": 0.5,
        "entropy/update_negative_mean": 0.75,
        "entropy/first_quarter_mean": 1.0,
        "entropy/last_quarter_mean": 0.25,
        "dynamics/lemma1_agreement": 0.9,
        "clip_cov/selected_share": 0.04,
        "clip_cov/selected_negative_share": 0.5,
        "clip_cov/selected_logprob_mean": -0.5,
        "positive_advantage/weight": 0.25,
    },
    {
        "step": 2,
        "entropy/top_fifth_mean": 1.0,
        "entropy/update_positive_mean": 0.25,
        "entropy/update_negative_mean": 0.5,
        "entropy/first_quarter_mean": 0.5,
        "entropy/last_quarter_mean": 0.125,
        "dynamics/lemma1_agreement": nan,
        "clip_cov/selected_share": 0.06,
        "clip_cov/selected_negative_share": nan,
        "clip_cov/selected_logprob_mean": -1.5,
        "positive_advantage/weight": 1.0,
    },
    {"step": 3, "positive_advantage/weight": 0.5},
]


def test_which_tokens_which_sign_which_control():
    assert story(ROWS) == [
        "The fifth of the tokens with most entropy: 2.000 → 1.000 nats per token.",
        "Tokens with an advantage above 0: 0.500 → 0.250 nats; with one below 0: 0.750 → 0.500.",
        "In the first quarter of the responses: 1.000 → 0.500 nats; in the last: 0.250 → 0.125.",
        "Lemma 1 and the change that an update made agree with a correlation of 0.90 over the probed states (median of "
        "the steps).",
        "clip_cov acted on 5.0% of the tokens, 50% of them with an advantage below 0, mean log-probability -1.00.",
        "The weight of positive_advantage: 0.250 → 0.500, between 0.250 and 1.000.",
    ]


def test_what_a_run_does_not_have_is_not_said():
    assert story([]) == story(ROWS[:1]) == []
    assert story([{"step": 1, "sign_only/dropped_share": 0.5}]) == ["sign_only acted on 50% of the tokens."]


def test_a_control_whose_figures_are_no_numbers_is_not_told():
    assert story([{"step": 1, "clip_cov/selected_share": nan, "positive_advantage/weight": nan}]) == []


def test_a_temperature_is_told_where_it_moves():
    still, moved = (
        [{"step": i, "rollout/temperature": t} for i, t in enumerate(ts)] for ts in ((1, 1), (1, 1.5, 1.25))
    )
    assert story(still) == []
    assert story(moved) == ["The sampling temperature: 1.000 → 1.250, between 1.000 and 1.500."]


def test_figures_of_controls_and_of_nothing_else():
    names = ["clip_cov/selected_share", "groups/selected_share.x", "eval/set/weight", "bonus/coef"]
    assert acting(names, ("selected_share", "weight", "coef")) == [
        ("clip_cov", "clip_cov/selected_share"),
        ("bonus", "bonus/coef"),
    ]
