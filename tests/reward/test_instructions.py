"""The kinds of IFEval by hand-worked cases, against what the reference decided, and as the verifier reports them."""

import json
import time
from collections import Counter
from pathlib import Path

import pytest

from reward.instructions.following import Instruction, follow, read, variants, without_reasoning
from reward.instructions.kinds import KINDS
from reward.instructions.language import detect
from reward.instructions.text import capital_words, sentences, words
from reward.types import BadReference, VerificationRequest
from reward.verifiers import VerifierImportError, load

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
REFERENCE = json.loads((Path(__file__).parent / "data" / "instructions_reference.json").read_text())["vectors"]
AT_LEAST, LESS = {"relation": "at least"}, {"relation": "less than"}


def followed(id, response, **kwargs):
    [instruction] = read({"instruction_id_list": [id], "kwargs": [kwargs]})
    return instruction.followed(response)


def rows(path):
    file = SHARED / path
    if not file.is_file():
        pytest.skip(f"the data sets are not at {SHARED}")
    return [json.loads(line) for line in file.read_text().splitlines()]


def judge(response, ids, kwargs, mode="strict", score="all"):
    verify = load("instructions", {"instructions": {"mode": mode, "score": score}})
    gold = {"instruction_id_list": ids, "kwargs": kwargs}
    return verify(VerificationRequest("instructions", prompt="", response=response, gold=gold, metadata={}))


ENGLISH = "There is nothing that they should worry about."


@pytest.mark.parametrize(
    ("id", "kwargs", "yes", "no"),
    [
        ("keywords:existence", {"keywords": ["ink", "sea"]}, ["Pink SEA", "ink\nsea"], ["ink", "s ea ink"]),
        ("keywords:existence", {"keywords": ["C++ (x"]}, ["in c++ (x)"], ["ccc x"]),
        ("keywords:frequency", {"keyword": "ink", "frequency": 2, **AT_LEAST}, ["Ink, pink"], ["ink"]),
        ("keywords:frequency", {"keyword": "aa", "frequency": 2, **LESS}, ["aaa"], ["aaaa"]),
        ("keywords:forbidden_words", {"forbidden_words": ["ink", "sea"]}, ["pink seas", "in k"], ["No INK.", "a sea"]),
        ("keywords:letter_frequency", {"letter": "A", "let_frequency": 2, "let_relation": "at least"}, ["aA"], ["ab"]),
        ("keywords:letter_frequency", {"letter": "!", "let_frequency": 2, "let_relation": "less than"}, ["!"], ["!!"]),
        (
            "language:response_language",
            {"language": "de"},
            ["Der Garten war am Morgen sehr ruhig.", "123 !?"],  # what has no letters passes
            [ENGLISH],
        ),
        (
            "length_constraints:number_sentences",
            {"num_sentences": 2, **AT_LEAST},
            ["We met Dr. Brown. He left.", "What? Yes"],
            ["We met Dr. Brown at 5 p.m. and left.", "A line\nand another\n\nand a third"],
        ),
        ("length_constraints:number_sentences", {"num_sentences": 2, **LESS}, ["Wow!!!", "One."], ["One. Two."]),
        (
            "length_constraints:number_words",
            {"num_words": 3, **AT_LEAST},
            ["well-known fact", "a b_c d"],
            ["it is.", "a_b c"],
        ),
        ("length_constraints:number_words", {"num_words": 3, **LESS}, ["a b", "... a"], ["don't go", "1,000.5"]),
        (
            "length_constraints:number_paragraphs",
            {"num_paragraphs": 2},
            ["a\n***\nb", "a***b", "***\na\n***\nb\n***\n"],
            ["a\n\nb", "a ****** b", "a\n*** \n***\nb", "a\n***\nb\n***\nc"],
        ),
        ("length_constraints:number_paragraphs", {"num_paragraphs": 3}, ["a***b***c"], ["a******c", "a***b"]),
        (
            "length_constraints:nth_paragraph_first_word",
            {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Sea"},
            ["a\n\nsea b", "a\n\n'Sea' b", 'a\n\n"SEA, b', "a\n\n\nsea b", "a\n\nsea b\n\n"],
            # The last: an empty paragraph is not counted in the number, but in the order.
            ["a\n\nseas b", "sea\n\na", "a\nsea", "a\n\nsea\n\nb", "a\n\n(sea) b", "a\n\n\n\nsea b"],
        ),
        ("detectable_content:number_placeholders", {"num_placeholders": 2}, ["[a] [b]", "[[a]\n[]"], ["[a", "[a\n]"]),
        ("detectable_content:postscript", {"postscript_marker": "P.S."}, ["x p. s. y", "P.S."], ["PS", "P.P.S"]),
        ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, ["p. p.\ns", "P.P.S."], ["P.S."]),
        ("detectable_content:postscript", {"postscript_marker": "N.B."}, ["n.b. this"], ["nxbx", "P.S."]),
        (
            "detectable_format:number_bullet_lists",
            {"num_bullets": 2},
            ["* a\n- b", "  *a\n\n\n* b", "- a\n---"],  # a rule is a bullet
            ["* a", "** a\n* b", "a * b\n* c", "* a\n* b\n* c"],
        ),
        (
            "detectable_format:constrained_response",
            {},
            ["My answer is yes.", "Well. My answer is maybe. Or not."],
            ["my answer is yes.", "My answer is yes", "yes"],
        ),
        (
            "detectable_format:number_highlighted_sections",
            {"num_highlights": 2},
            ["*a* *b*", "**a** *b*", "* a\n* b *c*\n*d*"],
            ["**a**", "*a*", "** **", "*a\nb*"],
        ),
        (
            "detectable_format:multiple_sections",
            {"section_spliter": "Part", "num_sections": 2},
            ["Part 1 a\nPart 2 b", "Part1Part22", "Part 1 Part 1"],
            ["part 1 part 2", "Part one\nPart two", "Part 1", "Part  1 Part  2"],
        ),
        (
            "detectable_format:json_format",
            {},
            ['{"a": [1]}', "```json\n[]\n```", "```\n3\n```", " null "],
            ["{'a': 1}", "Here: {}", "```python\n{}\n```", '{"a": 1} {}', "[" * 100_000 + "]" * 100_000],
        ),
        (
            "detectable_format:title",
            {},
            ["<<a>>", "x <<a>> y", "<<<a>>>"],
            ["<a>", "<< >>", "<<>>", "<<a\n>>", ">>a<<"],
        ),
        (
            "combination:two_responses",
            {},
            ["a******b", "******a\n******\nb******", "a\n******b******\n"],
            ["a", "a***b", "a******a ", "a******b******c", "a****** ******b"],
        ),
        (
            "combination:repeat_prompt",
            {"prompt_to_repeat": "Say a, b. "},
            ["say A, b. Fine.", "\n Say a, b."],
            ["Sure: Say a, b.", "Say a b."],
        ),
        (
            "startend:end_checker",
            {"end_phrase": " The end. "},
            ["x the END.", 'x The end."'],
            ["The end. x", "The end"],
        ),
        ("startend:quotation", {}, ['"a"', ' "a\nb" ', '""'], ['"', '"a', "'a'", "\u201ca\u201d", '*"a"*']),
        (
            "change_case:capital_word_frequency",
            {"capital_frequency": 2, "capital_relation": "at least"},
            ["I AM", "DON'T", "CANNOT", "U.S. NASA's X"],
            ["I am", "WELL-KNOWN", "A/B"],
        ),
        (
            "change_case:capital_word_frequency",
            {"capital_frequency": 1, "capital_relation": "less than"},
            ["Only Small", "5 %"],
            ["I"],
        ),
        ("change_case:english_capital", {}, [ENGLISH.upper()], [ENGLISH, "DER GARTEN WAR AM MORGEN SEHR RUHIG", "123"]),
        ("change_case:english_lowercase", {}, [ENGLISH.lower()], [ENGLISH, "der garten war am morgen sehr ruhig"]),
        ("punctuation:no_comma", {}, ["a; b", "a\uff0c b"], ["a, b", "1,000"]),
    ],
)
def test_a_kind(id, kwargs, yes, no):
    assert [text for text in yes if not followed(id, text, **kwargs)] == []
    assert [text for text in no if followed(id, text, **kwargs)] == []


@pytest.mark.parametrize("id", KINDS)
def test_what_the_reference_decides(id):
    cases = [case for case in REFERENCE if case["id"] == id]
    assert {case["strict"] for case in cases} == {True, False}
    for case in cases:
        instructions = read({"instruction_id_list": [id], "kwargs": [case["kwargs"]]})
        assert follow(instructions, case["response"]) == ([case["strict"]], [case["loose"]]), case


@pytest.mark.parametrize("id", KINDS)
def test_an_empty_response_follows_nothing(id):
    parameters = next(case["kwargs"] for case in REFERENCE if case["id"] == id)
    assert not followed(id, "", **parameters)
    assert not followed(id, " \n\t", **parameters)


def test_the_eight_variants():
    assert variants("*a*\nb\n*c*\nd") == [
        "*a*\nb\n*c*\nd",
        "b\n*c*\nd",
        "*a*\nb\n*c*",
        "b\n*c*",
        "a\nb\nc\nd",
        "b\nc\nd",
        "a\nb\nc",
        "b\nc",
    ]
    assert variants("one") == ["one", ""]


@pytest.mark.parametrize(
    ("text", "seen", "reasoned"),
    [
        ("a, b </think> c", "c", True),
        ("<think>a, b</think>\n\nc\n", "c", True),
        ("<think>a</think> b </think> c", "b </think> c", True),
        ("\n<think> a, b", "", True),
        (" a <think> b\n", " a <think> b\n", False),
    ],
)
def test_reasoning_is_not_judged(text, seen, reasoned):
    assert without_reasoning(text) == (seen, reasoned)


def test_every_prompt_of_ifeval_is_read():
    data = rows("ifeval/input_data.jsonl")
    read_rows = [read(row) for row in data]
    counts = Counter(instruction.id for row in read_rows for instruction in row)
    assert (len(data), counts.keys(), counts.total()) == (541, KINDS.keys(), 834)


def test_columns_of_nulls_and_of_decimal_numbers_are_read_the_same():
    """A table of all rows has a column for each parameter: null where it is not used, and numbers such as 300.0."""
    data = rows("ifeval/input_data.jsonl")
    names = {name for row in data for kwargs in row["kwargs"] for name in kwargs}
    for row in data:
        table = [
            {name: float(kwargs[name]) if isinstance(kwargs.get(name), int) else kwargs.get(name) for name in names}
            for kwargs in row["kwargs"]
        ]
        assert read({**row, "kwargs": table}) == read(row)


def test_ifbench_is_not_supported_and_each_prompt_says_so():
    for row in rows("ifbench/IFBench_test.jsonl"):
        with pytest.raises(BadReference, match=r"unknown instruction '[\w-]+:[\w-]+'.*those of IFBench are others"):
            read(row)


@pytest.mark.parametrize(
    ("gold", "sentence"),
    [
        (None, "gold is an object with instruction_id_list and kwargs for the verifier instructions, got NoneType"),
        ("{}", "got str"),
        ({"instruction_id_list": []}, r"got dict with \['instruction_id_list'\]"),
        ({"instruction_id_list": [], "kwargs": []}, "instruction_id_list is empty"),
        ({"instruction_id_list": ["punctuation:no_comma"], "kwargs": []}, "not two lists of the same length"),
        ({"instruction_id_list": "punctuation:no_comma", "kwargs": []}, "not two lists of the same length"),
        ({"instruction_id_list": [["x"]], "kwargs": [{}]}, "unknown instruction"),
        ({"instruction_id_list": ["punctuation:no_dots"], "kwargs": [{}]}, "unknown instruction 'punctuation:no_dots'"),
        (
            {"instruction_id_list": ["punctuation:no_comma"], "kwargs": ["x"]},
            "kwargs of punctuation:no_comma are an obj",
        ),
        ({"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{"n": 1}]}, "no_comma are none; got n"),
        ({"instruction_id_list": ["startend:end_checker"], "kwargs": [None]}, "end_checker are end_phrase; got none"),
    ],
)
def test_a_reference_that_cannot_be_read(gold, sentence):
    with pytest.raises(BadReference, match=sentence):
        read(gold)


@pytest.mark.parametrize(
    ("id", "kwargs", "sentence"),
    [
        ("length_constraints:number_words", {"num_words": -1, **LESS}, "num_words is a whole number from 0 on, got -1"),
        (
            "length_constraints:number_words",
            {"num_words": 1.5, **LESS},
            "num_words is a whole number from 0 on, got 1.5",
        ),
        ("length_constraints:number_words", {"num_words": "3", **LESS}, "num_words is a whole number"),
        ("length_constraints:number_words", {"num_words": True, **LESS}, "num_words is a whole number"),
        ("length_constraints:number_words", {"num_words": float("nan"), **LESS}, "num_words is a whole number"),
        ("length_constraints:number_words", {"num_words": float("inf"), **LESS}, "num_words is a whole number"),
        (
            "length_constraints:number_words",
            {"num_words": 3, "relation": "at most"},
            "relation is one of 'less than' and 'at least', got 'at most'",
        ),
        ("keywords:existence", {"keywords": "ink"}, "keywords is a list of texts that is not empty, got 'ink'"),
        ("keywords:existence", {"keywords": []}, "keywords is a list of texts"),
        ("keywords:forbidden_words", {"forbidden_words": ["a", " "]}, "forbidden_words is a text that is not empty"),
        ("language:response_language", {"language": "zh"}, "language is one of af, .*, zh-cn, zh-tw, got 'zh'"),
        ("language:response_language", {"language": ["de"]}, "language is one of"),
        (
            "keywords:letter_frequency",
            {"letter": "ab", "let_frequency": 1, "let_relation": "at least"},
            "letter is one character, got 'ab'",
        ),
        (
            "length_constraints:nth_paragraph_first_word",
            {"num_paragraphs": 2, "nth_paragraph": 3, "first_word": "a"},
            "nth_paragraph is greater than num_paragraphs",
        ),
        (
            "length_constraints:nth_paragraph_first_word",
            {"num_paragraphs": 2, "nth_paragraph": 0, "first_word": "a"},
            "nth_paragraph counts from 1, got 0",
        ),
    ],
)
def test_parameters_that_do_not_fit(id, kwargs, sentence):
    with pytest.raises(BadReference, match=sentence):
        followed(id, "x", **kwargs)


NO_COMMA_TWO_WORDS = (["punctuation:no_comma", "length_constraints:number_words"], [{}, {"num_words": 2, **AT_LEAST}])


@pytest.mark.parametrize(
    ("response", "mode", "score", "expected"),
    [
        ("one two", "strict", "all", 1.0),
        ("one, two", "strict", "all", 0.0),
        ("one, two", "strict", "share", 0.5),
        ("Sure, here:\none two", "strict", "all", 0.0),
        ("Sure, here:\none two", "loose", "all", 1.0),
        ("Sure, here:\none", "loose", "share", 1.0),  # each instruction may be followed by another variant
        ("Sure, one, two", "loose", "all", 0.0),
        (",", "loose", "share", 0.0),
    ],
)
def test_scores(response, mode, score, expected):
    assert judge(response, *NO_COMMA_TWO_WORDS, mode, score).score == expected


def test_the_verdict_says_what_was_not_followed():
    judgement = judge("Sure, here:\none", *NO_COMMA_TWO_WORDS, score="share")
    assert judgement.detail == "followed of 2: 1 strictly, 2 loosely; not followed: punctuation:no_comma"
    judgement = judge("<think>so, so</think> one", *NO_COMMA_TWO_WORDS)
    assert (judgement.score, judgement.answer, judgement.rule) == (0.0, "one", "after_reasoning")
    assert judgement.detail == (
        "followed of 2: 1 strictly, 1 loosely; "
        "not followed: length_constraints:number_words (num_words 2, relation at least)"
    )
    assert judge("one two", *NO_COMMA_TWO_WORDS).detail == "followed of 2: 2 strictly, 2 loosely"


@pytest.mark.parametrize(
    ("response", "detail"),
    [
        ("", "the response is empty"),
        (" \n", "the response is empty"),
        ("<think> one two", "nothing after the reasoning"),
        ("<think> one two </think>\n", "nothing after the reasoning"),
    ],
)
def test_nothing_to_judge_is_unparsable_and_no_success(response, detail):
    judgement = judge(response, *NO_COMMA_TWO_WORDS, score="share")
    assert (judgement.score, judgement.answer, judgement.detail) == (0.0, None, detail)


def test_settings_that_cannot_be():
    with pytest.raises(
        VerifierImportError, match=r"reward\.instructions\.mode is one of .*strict.* got 'lax' and 'all'"
    ):
        judge("x", *NO_COMMA_TWO_WORDS, mode="lax")


def test_words_sentences_and_capitals():
    assert words("It's 3.5 well-known_things") == 6
    assert sentences('She asked: "Why?" He paused... then left. The U.S. won at 5 p.m. in 1999.', 9) == 3
    assert capital_words("I'M SURE: DON'T, (NASA's) X-RAY; a B2 'QUOTED' U.S. END.") == 11


def test_a_long_text_is_read_until_there_are_sentences_enough():
    text = "We went there. " * 20_000
    assert sentences(text, 30_000) == 20_000
    assert 50 < sentences(text, 50) < 1000


def test_the_language_of_a_text_is_the_same_every_time():
    """langdetect draws at random: this text without a seed is found Danish, Norwegian or Swedish."""
    assert len({detect("Vi ser en film i kveld og drikker kaffe") for _ in range(20)}) == 1


LARGE = 1_000_000
HEAVY = {
    "capital_frequency": LARGE,
    "capital_relation": "at least",
    "prompt_to_repeat": "zebra",
    "num_placeholders": LARGE,
    "postscript_marker": "P.S.",
    "section_spliter": "Section",
    "num_sections": LARGE,
    "num_bullets": LARGE,
    "num_highlights": LARGE,
    "keywords": ["zebra"],
    "forbidden_words": ["zebra"],
    "keyword": "aab",
    "frequency": LARGE,
    "relation": "at least",
    "letter": "z",
    "let_frequency": LARGE,
    "let_relation": "at least",
    "language": "sw",
    "num_paragraphs": 3,
    "nth_paragraph": 3,
    "first_word": "zebra",
    "num_sentences": 100,
    "num_words": LARGE,
    "end_phrase": "zebra",
}


@pytest.mark.parametrize("unit", ["[", "<", "*", " ", "\n", "A's ", "We go. ", "x\x00\ud800"])
def test_a_large_response_takes_no_quadratic_time(unit):
    """All kinds on 1 MB. The reference's own expressions take hours on several of these."""
    text = unit * (LARGE // len(unit)) + "x"
    began = time.perf_counter()
    for id, kind in KINDS.items():
        Instruction(id, {name: HEAVY[name] for name in kind.parameters}).followed(text)
    assert time.perf_counter() - began < 60
