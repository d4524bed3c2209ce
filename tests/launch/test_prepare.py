"""From a configuration to the prompts of a run: held-out rows, overlap, repeats, mixtures."""

import json
from hashlib import blake2b
from itertools import chain
from pathlib import Path

import pytest

from launch.config import ConfigError, compose
from launch.prepare import prepare, prepare_evaluation, verifiers
from launch.validate import check
from rollout.mixing import MixedSource
from rollout.prompts import PromptSource


def write(path: Path, questions: list[str]) -> Path:
    path.write_text("".join(json.dumps({"problem": text, "answer": "1"}) + "\n" for text in questions))
    return path


def problems(count: int, name: str = "apples") -> list[str]:
    return [f"How many {name} does {i} cost?" for i in range(count)]


def own(folder: Path, questions: list[str], *overrides: str):
    file = write(folder / "own.jsonl", questions)
    fields = ["data.train.prompt_field=problem", "data.train.gold_field=answer"]
    return compose(["data=file", f"data.path={file}", *fields, "rollout.prompts_per_step=8", *overrides])


def exam(folder: Path, questions: list[str]) -> list[str]:
    return [
        "+data/source@data.evaluation.exam=math500",
        f"data.evaluation.exam.path={write(folder / 'e.jsonl', questions)}",
    ]


def test_the_laboratory_has_the_same_prompts_in_the_same_order_as_ever():
    """Recorded before there were mixtures, overlap and repeats: figures of the laboratory stay comparable."""
    prepared = prepare(compose([]))
    assert isinstance(prepared.train, PromptSource)
    digest = blake2b(digest_size=16)
    steps = (prompt for _ in range(300) for prompt in prepared.train.next())
    for x in steps:
        digest.update(json.dumps([x.uid, x.text, x.token_ids.tolist(), x.source, x.verifier, x.gold]).encode())
    for name, prompts in prepared.evaluation.items():
        for x in prompts:
            digest.update(json.dumps([name, x.uid, x.text, x.token_ids.tolist(), x.verifier, x.gold]).encode())
    assert digest.hexdigest() == "a5da56c9ba1c9081d0d2504df1741291"
    assert prepared.sentence() == (
        "Prompts: 4086 to train on (10 left out, they are in an evaluation set); evaluation: heldout 128, "
        "out_of_domain 64."
    )


def test_the_first_rows_are_held_out_and_what_repeats_them_is_dropped(tmp_path):
    questions = problems(40)
    prepared = prepare(own(tmp_path, [*questions, questions[1].upper(), questions[30] + "!"], "data.heldout=10"))
    assert [prompt.uid for prompt in prepared.evaluation["heldout"]] == [f"heldout/{row}" for row in range(10)]
    taken = {prompt.uid for _ in range(10) for prompt in prepared.train.next()}
    assert taken == {f"train/{row}" for row in range(10, 40)}
    assert prepared.sentence() == (
        "Prompts: 30 to train on (1 left out, they are in an evaluation set; 1 left out, they repeat others); "
        "evaluation: heldout 10."
    )


def test_training_on_another_evaluation_set_is_refused_or_dropped(tmp_path):
    questions = problems(40)
    others = exam(tmp_path, ["What else?", questions[12].replace(" ", "  "), questions[20]])
    with pytest.raises(ConfigError) as caught:
        prepare(own(tmp_path, questions, "data.heldout=10", *others))
    assert str(caught.value) == (
        "Training prompts stand in evaluation sets: 2 of evaluation set exam (train/12, train/20). Give "
        "data.overlap=drop to leave them out of training, or measure on other sets."
    )
    prepared = prepare(own(tmp_path, questions, "data.heldout=10", *others, "data.overlap=drop"))
    assert (prepared.train_prompts, prepared.dropped) == ({"train": 28}, 2)
    assert {prompt.uid for _ in range(20) for prompt in prepared.train.next()}.isdisjoint({"train/12", "train/20"})


def test_rows_without_a_reference_are_left_out_where_the_source_says_so(tmp_path):
    file = write(tmp_path / "a.json", [])
    rows = [{"problem": text, "answer": None if i in (3, 20) else i} for i, text in enumerate(problems(40))]
    file.write_text(json.dumps(rows))
    prepared = prepare(compose(["data=math", f"data.path={file}", "data.heldout=10", "rollout.prompts_per_step=8"]))
    assert (prepared.train_prompts, len(prepared.evaluation["heldout"]), prepared.unjudged) == ({"train": 29}, 9, 2)
    assert "2 left out, they have no reference" in prepared.sentence()


def mixture(folder: Path, *overrides: str):
    more = [
        f"data.mix.more.path={write(folder / 'more.jsonl', problems(20, 'pears') + problems(3) + problems(16)[15:])}"
    ]
    return own(folder, problems(40), "data.heldout=10", "+data/source@data.mix.more=math", *more, *overrides)


def test_a_mixture_is_drawn_by_weight_without_repeats_across_files(tmp_path):
    prepared = prepare(mixture(tmp_path, "data.weights.train=3", "+data.weights.more=1", "data.overlap=drop"))
    assert isinstance(prepared.train, MixedSource)
    # Of the copies in the other file three are of held-out rows, and one is of a training row.
    assert prepared.train_prompts == {"train": 30, "more": 20}
    uids = [prompt.uid for prompt in chain(*(prepared.train.next() for _ in range(10)))]
    assert sum(uid.startswith("more/") for uid in uids) == 20
    assert prepared.sentence().startswith("Prompts: 50 to train on (train 30, more 20) (3 left out, they are in")
    assert prepared.repeats == 1


def test_the_held_out_rows_of_one_file_are_refused_in_another(tmp_path):
    with pytest.raises(ConfigError, match=r"3 of evaluation set heldout \(more/20, more/21, more/22\)"):
        prepare(mixture(tmp_path, "+data.weights.more=1", "data.overlap=refuse"))


def test_an_evaluation_reads_no_training_rows(tmp_path):
    config = compose(["data=math500", f"data.path={write(tmp_path / 'e.jsonl', problems(5))}"])
    assert [prompt.uid for prompt in prepare_evaluation(config)["math500"]] == [f"math500/{row}" for row in range(5)]
    assert verifiers(config) == {"math"}
    with pytest.raises(ConfigError, match=r"data\.train\.kind is none"):
        prepare(config)


def test_a_chat_needs_a_template_of_the_tokenizer(tmp_path):
    with pytest.raises(ConfigError, match=r"that of model\.path has none: set data\.chat=false"):
        prepare(own(tmp_path, problems(40), "data.heldout=4", "data.chat=true"))


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["+data.weights.more=0"], "data.weights.more = 0.0 has to be above 0 and finite; leave out a source by"),
        (["+data.weights.more=-1"], "data.weights.more = -1.0 has to be above 0 and finite; leave out a source by"),
        (["+data.weights.more=inf"], "data.weights.more = inf has to be above 0 and finite; leave out a source by"),
        ([], "data.weights has no weight for more; give +data.weights.more=..."),
        (
            ["+data.weights.more=1", "+data.weights.less=1"],
            "data.weights.less: there is no training source less; there are train, more.",
        ),
        (["+data.weights.more=1", "data.system=Hello"], "data.system is a message of the chat template; give data.ch"),
        (
            ["+data.weights.more=1", "data.heldout=0"],
            "data.evaluation is empty and data.heldout = 0, so there is nothing to measure on",
        ),
        (
            ["+data.weights.more=1", "data.train.prompt_wrapper=Solve"],
            "data.train.prompt_wrapper has to hold {prompt} once, to say where the question stands.",
        ),
        (
            ["+data.weights.more=1", "data.train.gold_field=[answer]"],
            "data.train.gold_field = ['answer'] is not the name of a field or an object of such names.",
        ),
        (
            ["+data.weights.more=1", "data.mix.more.no_reference=skip"],
            "data.mix.more.no_reference = skip is not one of refuse, drop.",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_one_sentence(tmp_path, overrides, sentence):
    [found] = check(mixture(tmp_path, *overrides))
    assert found.startswith(sentence)


def test_a_mixture_named_like_a_set_is_refused(tmp_path):
    file = write(tmp_path / "b.jsonl", problems(3))
    clash = ["+data/source@data.mix.heldout=math", f"data.mix.heldout.path={file}", "+data.weights.heldout=1"]
    [sentence] = check(own(tmp_path, problems(40), "data.heldout=10", *clash))
    assert sentence.startswith("data.mix.heldout: prompts are named after their set, so it cannot be train or heldout")
