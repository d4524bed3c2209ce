"""Several presets in one evaluation, and what single sets have of their own."""

import json

import pytest

from launch.config import ConfigError, EvaluationSetConfig
from launch.evaluation_sets import presets, with_sets
from launch.prepare import prepare_evaluation
from launch.sampling import of_set
from launch.validate import check
from tests.composed import compose


def rows(file, count: int) -> str:
    kinds = ["sums", "products"]
    lines = [
        {"question": f"{i}?", "answer": f"#### {i}", "problem": f"{i}!", "kind": kinds[i % 2]} for i in range(count)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(file)


def test_presets_are_measured_together_each_on_its_own_file(tmp_path):
    config = compose(
        with_sets(
            [
                "data=gsm8k,math500,laboratory",
                f"data.evaluation.gsm8k.path={rows(tmp_path / 'a.jsonl', 7)}",
                f"data.evaluation.math500.path={rows(tmp_path / 'b.jsonl', 5)}",
                "data.evaluation.math500.source_field=kind",
            ]
        )
    )
    sets = prepare_evaluation(config)
    assert {name: len(prompts) for name, prompts in sets.items()} == {
        "heldout": 128,
        "out_of_domain": 64,
        "gsm8k": 7,
        "math500": 5,
    }
    assert sets["gsm8k"][0].text.startswith("0?\n")  # each with its own fields and template
    assert sets["math500"][0].text.startswith("0!\n")
    assert {prompt.source for prompt in sets["gsm8k"]} == {"gsm8k"}
    assert [prompt.source for prompt in sets["math500"]] == ["sums", "products", "sums", "products", "sums"]


def test_other_settings_and_other_forms_stay_as_they_are():
    for overrides in (["data=gsm8k", "seed=1,2"], ["data=[gsm8k]"], ["+data/source@data.evaluation.x=math500"], []):
        assert with_sets(overrides) == overrides


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            "math500,math50",
            "data: there is no evaluation set math50; did you mean math500? There are laboratory, aime,",
        ),
        ("math500,", "data: there is no evaluation set ''. There are"),
        ("none,math500", "data: there is no evaluation set none"),
        ("[gsm8k,math500]", "data: there is no evaluation set [gsm8k; did you mean gsm8k? There are laboratory, aime,"),
        ("math500,math500", "data=math500,math500 names math500 twice."),
    ],
)
def test_what_is_no_preset_is_refused(given, sentence):
    with pytest.raises(ConfigError) as caught:
        with_sets([f"data={given}"])
    assert str(caught.value).startswith(sentence)


def test_a_set_without_its_file_is_one_sentence():
    with pytest.raises(ConfigError, match=r"^data.evaluation.math500.path has no default; give .*path=\.\.\.$"):
        compose(with_sets(["data=laboratory,math500"]))


@pytest.mark.parametrize("name", presets())
def test_every_preset_can_be_a_set(name):
    fields = ["prompt_field=q", "gold_field=a", "path=/x"]
    given = [] if name == "laboratory" else [f"data.evaluation.{name}.{field}" for field in fields]
    other = "aime24" if name != "aime24" else "aime25"
    config = compose(with_sets([f"data={name},{other}", f"data.evaluation.{other}.path=/y", *given]))
    assert other in config.data.evaluation
    assert name in config.data.evaluation or name == "laboratory"


def test_a_set_has_what_it_names_and_else_what_all_have():
    config = compose(
        [
            "evaluation.temperature=0.8",
            "+evaluation.sets.heldout.temperature=0",
            "+evaluation.sets.heldout.samples_per_prompt=16",
        ]
    )
    assert config.evaluation.sets == {"heldout": EvaluationSetConfig(16, None, 0.0, None, None, None)}
    own, others = of_set(config.evaluation, "heldout"), of_set(config.evaluation, "out_of_domain")
    assert (own.temperature, own.samples_per_prompt, own.top_p, own.max_new_tokens) == (0.0, 16, 1.0, 48)
    assert (others.temperature, others.samples_per_prompt) == (0.8, 4)
    assert compose(["+evaluation.sets={heldout: {top_k: 5}}"]).evaluation.sets["heldout"].top_k == 5
    assert check(config) == []


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("+evaluation.sets.exam.top_k=5", "evaluation.sets.exam: there is no evaluation set exam; there are heldout, "),
        ("+evaluation.sets.heldout.top_p=1.5", "evaluation.sets.heldout.top_p = 1.5 has to be at most 1."),
        (
            "+evaluation.sets.heldout.samples_per_prompt=0",
            "evaluation.sets.heldout.samples_per_prompt = 0 has to be at ",
        ),
        (
            "+evaluation.sets.heldout.max_new_tokens=2048",
            "evaluation.sets.heldout.max_new_tokens = 2048 leaves no room for a prompt in model.context_tokens = 2048.",
        ),
        (
            "evaluation.max_new_tokens=2048",
            "evaluation.max_new_tokens = 2048 leaves no room for a prompt in model.context_tokens = 2048.",
        ),
    ],
)
def test_what_a_set_cannot_have_is_said_once(given, sentence):
    [problem] = check(compose([given]))
    assert problem.startswith(sentence)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            "evaluation.sets.heldout.top_k=5",
            "evaluation.sets.heldout.top_k is not there yet; add it as +evaluation.sets.heldout.top_k=...",
        ),
        (
            "+evaluation.sets.heldout.temprature=0",
            "evaluation.sets.heldout.temprature is not a setting; did you mean evaluation.sets.heldout.temperature?",
        ),
        ("+evaluation.sets.heldout.temperature=hot", "evaluation.sets.heldout.temperature: Value 'hot' of type 'str' "),
        ("evaluation.sets={heldout: {top_k: 5}}", "evaluation.sets is not there yet; add it as +evaluation.sets=..."),
    ],
)
def test_what_cannot_be_read_of_a_set_is_one_sentence(given, sentence):
    with pytest.raises(ConfigError) as caught:
        compose([given])
    assert str(caught.value).startswith(sentence)


def test_a_prompt_has_to_leave_room_for_the_responses_of_its_own_set():
    fits = ["model.context_tokens=120", "rollout.max_new_tokens=64", "learner.tokens_per_microbatch=4096"]
    assert prepare_evaluation(compose(fits))
    with pytest.raises(ConfigError, match=r"^Prompt out_of_domain/\d+ .* lower evaluation.max_new_tokens"):
        prepare_evaluation(compose([*fits, "+evaluation.sets.out_of_domain.max_new_tokens=110"]))
