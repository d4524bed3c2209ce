"""Generated prompts: the same for a seed, without conflicts, and with a response that follows all of each row."""

import json
from collections import Counter
from itertools import combinations

import pytest

from launch.instructions import main
from reward.instructions import tasks
from reward.instructions.conflicts import compatible, conflict
from reward.instructions.following import follow, read
from reward.instructions.generate import rows
from reward.instructions.kinds import KINDS
from reward.instructions.wordings import WORDINGS

ROWS = list(rows(700, seed=3))
LINE = "there is nothing that they should worry about"  # English to langdetect in capitals too
LINES = {
    "ar": "كان الصباح هادئا وذهبنا إلى الحديقة",
    "de": "der Morgen war ruhig und wir gingen langsam durch den Garten",
    "es": "la mañana estaba tranquila y fuimos despacio por el jardín",
    "fi": "aamu oli hiljainen ja me kävelimme hitaasti puutarhassa",
    "fr": "le matin était calme et nous avons marché dans le jardin",
    "hi": "सुबह शांत थी और हम धीरे धीरे बगीचे में चले",
    "it": "la mattina era tranquilla e noi camminavamo nel giardino",
    "ko": "아침은 조용했고 우리는 천천히 정원을 걸었다",
    "pt": "a manhã estava calma e nós caminhamos pelo jardim",
    "ru": "утро было тихим и мы медленно гуляли по саду",
    "vi": "buổi sáng yên tĩnh và chúng tôi đi chậm qua khu vườn",
}


def witness(row):
    """A response that follows a row, built from its parameters alone."""
    ids = {id.partition(":")[2] for id in row["instruction_id_list"]}
    given = {name: value for kwargs in row["kwargs"] for name, value in kwargs.items()}
    by_id = {id.partition(":")[2]: kwargs for id, kwargs in zip(row["instruction_id_list"], row["kwargs"], strict=True)}
    if "constrained_response" in ids:
        return "My answer is no."
    if "json_format" in ids:
        return json.dumps({"words": given.get("keywords", [])})
    line = LINES.get(given.get("language"), LINE)
    word = line.split()[0]
    lines = [line, line]
    lines += given.get("keywords", [])
    if by_id.get("frequency", {}).get("relation") == "at least":
        lines += [given["keyword"]] * given["frequency"]
    if given.get("let_relation") == "at least":
        lines.append(given["letter"] * given["let_frequency"])
    if given.get("capital_relation") == "at least":
        lines += ["NASA"] * given["capital_frequency"]
    if by_id.get("number_sentences", {}).get("relation") == "at least":
        lines += ["They went there."] * given["num_sentences"]
    if by_id.get("number_words", {}).get("relation") == "at least":
        lines += [line] * (given["num_words"] // 8 + 1)
    lines += [f"{word} [{word}]"] * given.get("num_placeholders", 0)
    lines += [f"{word} *{word}*"] * given.get("num_highlights", 0)
    lines += [f"* {word}"] * given.get("num_bullets", 0)
    lines += [f"{given.get('section_spliter')} {i + 1}" for i in range(given.get("num_sections", 0))]
    lines += [f"<<{line}>>"] if "title" in ids else []
    lines += [given["postscript_marker"].lower() + " " + line] if "postscript" in ids else []
    lines += [given["end_phrase"]] if "end_checker" in ids else []
    text = "\n".join(lines)
    if "number_paragraphs" in ids:
        text = f"{line}\n***\n" * (given["num_paragraphs"] - 1) + text
    if "nth_paragraph_first_word" in ids:
        starts = [word] * given["num_paragraphs"]
        starts[given["nth_paragraph"] - 1] = given["first_word"]
        text = "\n\n".join([*starts[:-1], f"{starts[-1]} {text}"])
    if "two_responses" in ids:
        text = f"{text}\n******\n{text} {word}"
    if "repeat_prompt" in ids:
        text = f"{given['prompt_to_repeat']}\n{text}"
    if "english_capital" in ids:
        text = text.upper()
    if "english_lowercase" in ids:
        text = text.lower()
    return f'"{text}"' if "quotation" in ids else text


def test_every_row_has_a_response_that_follows_all_of_it():
    for row in ROWS:
        strict, _ = follow(read(row), witness(row))
        assert all(strict), (row, strict, witness(row))


def test_no_row_is_followed_by_saying_nothing_of_it():
    """Kinds that only forbid or bound from above are followed by a short answer; the others ask for something."""
    followed = {each.id for row in ROWS for each in read(row) if each.followed("7")}
    assert followed == {
        "change_case:capital_word_frequency",
        "detectable_format:json_format",
        "keywords:forbidden_words",
        "keywords:frequency",
        "keywords:letter_frequency",
        "language:response_language",
        "length_constraints:number_sentences",
        "length_constraints:number_words",
        "punctuation:no_comma",
    }


def test_no_two_instructions_of_a_row_conflict():
    assert not [
        pair
        for row in ROWS
        for pair in combinations(row["instruction_id_list"], 2)
        if conflict(*pair) or len(set(pair)) < 2
    ]


def test_every_kind_occurs_and_rows_have_one_to_three():
    kinds = Counter(id for row in ROWS for id in row["instruction_id_list"])
    assert kinds.keys() == KINDS.keys() == WORDINGS.keys()
    assert min(kinds.values()) >= 0.02 * len(ROWS)
    assert {len(row["instruction_id_list"]) for row in ROWS} == {1, 2, 3}


def test_a_row_depends_on_its_place_and_the_seed_alone():
    assert list(rows(20, seed=3)) == ROWS[:20]
    assert list(rows(20, seed=4)) != ROWS[:20]
    assert len({row["prompt"] for row in ROWS}) > 0.95 * len(ROWS)


def test_what_a_row_says_is_in_its_prompt():
    for row in ROWS:
        for kwargs in row["kwargs"]:
            for name, value in kwargs.items():
                for part in value if isinstance(value, list) else [value]:
                    shown = tasks.LANGUAGES[part] if name == "language" else str(part)
                    assert shown in row["prompt"]
        repeated = [kwargs["prompt_to_repeat"] for kwargs in row["kwargs"] if "prompt_to_repeat" in kwargs]
        if repeated:  # the words that ask for it stand right after it, and speak of what is above
            assert row["prompt"].startswith(repeated[0])
            assert row["instruction_id_list"][0] == "combination:repeat_prompt"


def test_the_words_do_not_get_in_each_others_way():
    sources = "".join((*tasks.FORMS, *tasks.QUESTIONS, *tasks.TOPICS, *tasks.END_PHRASES)).lower()
    assert not [word for word in tasks.WORDS if word in sources]
    assert not [pair for pair in combinations(tasks.WORDS, 2) if pair[0] in pair[1] or pair[1] in pair[0]]
    assert "," not in sources


@pytest.mark.parametrize(
    ("one", "other", "conflicts"),
    [
        # The table of the reference.
        ("keywords:existence", "keywords:existence", True),
        ("language:response_language", "keywords:existence", True),
        ("keywords:forbidden_words", "language:response_language", True),
        ("length_constraints:number_paragraphs", "length_constraints:number_sentences", True),
        ("detectable_format:json_format", "keywords:existence", False),
        ("detectable_format:json_format", "detectable_format:title", True),
        ("combination:two_responses", "language:response_language", False),
        ("combination:two_responses", "startend:quotation", True),
        ("combination:repeat_prompt", "punctuation:no_comma", False),
        ("combination:repeat_prompt", "combination:two_responses", True),
        ("detectable_format:title", "startend:quotation", True),
        ("punctuation:no_comma", "startend:quotation", False),
        # Beyond it.
        ("change_case:english_lowercase", "detectable_format:multiple_sections", True),
        ("language:response_language", "keywords:letter_frequency", True),
    ],
)
def test_conflicts(one, other, conflicts):
    assert conflict(one, other) is conflict(other, one) is conflicts


def test_one_of_three_answers_goes_with_nothing():
    assert compatible(["detectable_format:constrained_response"]) == []


def test_the_command_writes_the_rows(tmp_path, capsys):
    out = tmp_path / "prompts.jsonl"
    main(["--rows", "12", "--seed", "3", "--out", str(out)])
    assert [json.loads(line) for line in out.read_text().splitlines()] == ROWS[:12]
    assert f"data=instructions data.path={out}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "out", "sentence"),
    [
        ("0", "a.jsonl", "less than 1"),
        ("1", "a.txt", "does not end in .jsonl"),
        ("1", "no/a.jsonl", "there is no folder"),
    ],
)
def test_arguments_that_cannot_be(tmp_path, capsys, rows, out, sentence):
    with pytest.raises(SystemExit):
        main(["--rows", rows, "--seed", "0", "--out", str(tmp_path / out)])
    assert sentence in capsys.readouterr().err
