"""What a source maps: paths into a row, questions, references, templates and chats."""

from dataclasses import replace

import pytest
from jinja2 import TemplateError

from rollout.config import SourceConfig
from rollout.fields import filled, gold_of, messages_of, paths, value_at
from rollout.prompts import load_source
from rollout.sources import DataError, Row
from tests.rollout.test_prompts import ByteTokenizer, file_source, write

VERL = {
    "data_source": "deepscaler",
    "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1?"}],
    "reward_model": {"style": "rule", "ground_truth": "2"},
    "tests": '{"inputs": ["1"], "outputs": ["2"]}',
    "lines": ["assert a", "assert b"],
    "reward_model.flat": "3",
}


def row(**fields) -> Row:
    return Row(4, "rows.jsonl, row 4", fields)


def source(**changes) -> SourceConfig:
    return replace(file_source("rows.jsonl", gold_after=None), **changes)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("data_source", "deepscaler"),
        ("reward_model.ground_truth", "2"),
        ("prompt.1.content", "1 + 1?"),
        ("tests.outputs", ["2"]),  # a field of JSON as text
        ("tests.outputs.0", "2"),
        ("reward_model.flat", "3"),  # a name with a dot comes before a path
    ],
)
def test_a_path_leads_into_the_row(path, value):
    assert value_at(row(**VERL), path) == value


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("prompts", "has no field 'prompts'; its fields are data_source, prompt, reward_model, tests, lines, reward_"),
        ("reward_model.truth", "has no field 'reward_model.truth'; reward_model has style, ground_truth."),
        ("prompt.2.content", "has no field 'prompt.2.content'; prompt is a list of 2."),
        ("data_source.a", "has no field 'data_source.a'; data_source is text and not JSON."),
        ("reward_model.style.0", "has no field 'reward_model.style.0'; reward_model.style is text and not JSON."),
    ],
)
def test_a_path_that_leads_nowhere_says_what_is_there(path, sentence):
    with pytest.raises(DataError) as caught:
        value_at(row(**VERL), path)
    assert str(caught.value).startswith(f"rows.jsonl, row 4 {sentence}")


def test_questions_from_one_field_several_or_a_list_of_messages():
    fields = row(Body="There are 3.", Question="How many?", **VERL)
    several = source(prompt_field=["Body", "Question"])
    assert messages_of(fields, several) == [{"role": "user", "content": "There are 3. How many?"}]
    assert messages_of(fields, source(prompt_field="prompt")) == VERL["prompt"]
    assert paths(source(prompt_field=["a", "b"], gold_field={"x": "c.d"}, template="{prompt} {row.e.f}")) == [
        "a",
        "b",
        "c.d",
        "e.f",
    ]


def test_words_around_the_question_are_taken_off():
    wrapped = source(prompt_wrapper="Solve:\n{prompt} Use \\boxed{}.")
    [message] = messages_of(row(question="Solve:\n1 + 1? Use \\boxed{}."), wrapped)
    assert message["content"] == "1 + 1?"
    for question in ("1 + 1? Use \\boxed{}.", "Solve:\n1 + 1?", "Solve:\n Use \\boxed{}."):
        with pytest.raises(DataError, match="row 4: the question is not wrapped as prompt_wrapper says"):
            messages_of(row(question=question), wrapped)


@pytest.mark.parametrize(
    ("chat", "sentence"),
    [
        ([{"role": "user"}], "prompt.0 is not a chat message with role and content as text."),
        (["hello"], "prompt.0 is not a chat message with role and content as text."),
        ([], "the chat in field 'prompt' does not end with a message of the user."),
        (
            [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
            "the chat in field 'prompt' does not end with a message of the user.",
        ),
        ([{"role": "user", "content": " "}], "field 'prompt.0.content' is empty."),
    ],
)
def test_a_list_that_is_no_chat(chat, sentence):
    with pytest.raises(DataError) as caught:
        messages_of(row(prompt=chat), source(prompt_field="prompt"))
    assert str(caught.value) == f"rows.jsonl, row 4: {sentence}"


@pytest.mark.parametrize(
    ("value", "after", "gold"),
    [
        (12345678901234567890, None, "12345678901234567890"),  # no float has as many digits
        (27.0, None, "27"),
        (0.1, None, "0.1"),
        ("so #### 1 #### 7\n", "####", "7"),
        (r"first \boxed{1}, then \boxed{\frac{1}{\sqrt{2}}}.", r"\boxed", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\{1, 2\}} done }", r"\boxed", r"\{1, 2\}"),
        (r"our answer is $\boxed 9$.", r"\boxed", "9"),
        (r"so \boxed 12.", r"\boxed", "12"),
    ],
)
def test_references(value, after, gold):
    assert gold_of(row(answer=value), source(gold_after=after)) == gold


@pytest.mark.parametrize("value", [None, "", "  ", r"\boxed{}"])
def test_a_row_without_a_reference_is_refused_or_marked(value):
    after = r"\boxed" if value == r"\boxed{}" else None
    with pytest.raises(DataError, match=r"field 'answer' holds no reference; no_reference=drop leaves such rows out\."):
        gold_of(row(answer=value), source(gold_after=after))
    assert gold_of(row(answer=value), source(gold_after=after, no_reference="drop")) is None


@pytest.mark.parametrize(
    ("value", "after", "sentence"),
    [
        (["2"], None, "field 'answer' is neither text nor a number but list."),
        (float("nan"), None, "field 'answer' is neither text nor a number but nan."),
        (r"\boxed{1", r"\boxed", r"'\\boxed' is not in field 'answer'."),
        ("1", r"\boxed", r"'\\boxed' is not in field 'answer'."),
    ],
)
def test_a_reference_that_cannot_be_one(value, after, sentence):
    for policy in ("refuse", "drop"):
        with pytest.raises(DataError) as caught:
            gold_of(row(answer=value), source(gold_after=after, no_reference=policy))
        assert str(caught.value) == f"rows.jsonl, row 4: {sentence}"


def test_several_fields_make_an_object():
    mapping = {"numbers": "nums", "target": "meta.target"}
    assert gold_of(row(nums=[1, 2], meta={"target": 3}), source(gold_field=mapping)) == {"numbers": [1, 2], "target": 3}
    with pytest.raises(DataError, match=r"row 4: nums, meta\.target are not JSON: Object of type bytes"):
        gold_of(row(nums=b"1", meta={"target": 3}), source(gold_field=mapping))


def test_templates_are_filled_in_one_pass():
    fields = row(question="a {row.lines} {prompt}", lines=["x", "{prompt}"], level=3)
    template = r"{prompt}\boxed{} {row.lines} {row.level} {other}"
    assert filled(template, "a {row.lines} {prompt}", fields) == (
        "a {row.lines} {prompt}\\boxed{} x\n{prompt} 3 {other}"
    )
    with pytest.raises(DataError, match=r"row 4: field 'lines' of the template is not text but dict\."):
        filled("{row.lines}", "q", row(lines=[{}]))


class ChatTokenizer(ByteTokenizer):
    chat_template = "a template"

    def apply_chat_template(self, messages: list[dict], tokenize: bool, add_generation_prompt: bool) -> str:
        assert not tokenize
        assert add_generation_prompt
        if messages[0]["role"] == "tool":
            raise TemplateError("tool is no role")
        return "".join(f"<{message['role']}>{message['content']}" for message in messages) + "<assistant>"


def chat_texts(folder, rows: list[dict], system: str | None = None, **changes) -> list[str]:
    mapping = file_source(write(folder / "a.jsonl", *rows), gold_after=None, gold_field="answer", **changes)
    return [prompt.text for prompt in load_source("train", mapping, ChatTokenizer(), True, system)]


def test_a_chat_of_one_message_with_and_without_a_system_text(tmp_path):
    rows = [{"question": "1 + 1?", "answer": 2}]
    template = "{prompt} Think.\n"
    assert chat_texts(tmp_path, rows, template=template) == ["<user>1 + 1? Think.<assistant>"]
    assert chat_texts(tmp_path, rows, "Be good.", template=template) == [
        "<system>Be good.<user>1 + 1? Think.<assistant>"
    ]


def test_a_chat_of_the_rows_own_messages(tmp_path):
    rows = [{"prompt": VERL["prompt"], "answer": 2}]
    changes = {"prompt_field": "prompt", "template": "{prompt} Think."}
    assert chat_texts(tmp_path, rows, **changes) == ["<system>Be brief.<user>1 + 1? Think.<assistant>"]
    assert chat_texts(tmp_path, rows, "Be good.", **changes) == ["<system>Be good.<user>1 + 1? Think.<assistant>"]
    with pytest.raises(DataError, match=r"row 0 holds a chat of 2 messages; give data\.chat=true\."):
        load_source("t", file_source(tmp_path / "a.jsonl", **changes, gold_after=None), ByteTokenizer())


def test_a_chat_without_a_template_or_refused_by_it(tmp_path):
    file = write(tmp_path / "a.jsonl", {"question": "q", "answer": 1})
    with pytest.raises(DataError, match=r"data\.chat = true needs the chat template of the tokenizer, and that of"):
        load_source("t", file_source(file, gold_after=None), ByteTokenizer(), True)
    bad = {"prompt": [{"role": "tool", "content": "x"}, {"role": "user", "content": "q"}], "answer": 1}
    with pytest.raises(DataError, match=r"row 0: the chat template refuses the messages \(tool, user\): tool is no"):
        chat_texts(tmp_path, [bad], prompt_field="prompt")
