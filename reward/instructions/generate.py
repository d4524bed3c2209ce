"""Prompts with verifiable instructions to train on: a task, and one to three kinds of instruction that go together.

Row i of a seed is the same whatever the number of rows. The parameters are drawn so that a natural response satisfies
all instructions of a row: lower bounds are small, upper bounds leave room for what the others ask for, and no word is
both wanted and forbidden.
"""

from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

from reward.instructions.conflicts import compatible
from reward.instructions.kinds import KINDS
from reward.instructions.tasks import END_PHRASES, FORMS, LANGUAGES, QUESTIONS, TOPICS, WORDS
from reward.instructions.wordings import WORDINGS, in_words

SHARES = {1: 0.3, 2: 0.4, 3: 0.3}  # of rows with so many instructions
COMMON_LETTERS, RARE_LETTERS = "aeilnorst", "jqxz"


def rows(number: int, seed: int) -> Iterator[dict[str, Any]]:
    """Rows in IFEval's form: `{prompt, instruction_id_list, kwargs}`."""
    for index in range(number):
        yield _row(Random(f"{seed}/{index}"))  # text seeds are hashed, so neighbours have nothing in common


def _row(random: Random) -> dict[str, Any]:
    ids = _kinds(random)
    tasks = QUESTIONS if "detectable_format:constrained_response" in ids else FORMS
    task = random.choice(tasks).format(topic=random.choice(TOPICS))
    words = iter(random.sample(WORDS, k=12))
    kwargs = [_parameters(id, random, words, task) for id in ids]
    sentences = [in_words(random.choice(WORDINGS[id]), parameters) for id, parameters in zip(ids, kwargs, strict=True)]
    return {"prompt": " ".join([task, *sentences]), "instruction_id_list": ids, "kwargs": kwargs}


def _kinds(random: Random) -> list[str]:
    """Every kind begins rows equally often. What repeats the request stands next to it."""
    wanted = random.choices(list(SHARES), weights=list(SHARES.values()))[0]
    ids = [random.choice(list(KINDS))]
    while len(ids) < wanted and (others := compatible(ids)):
        ids.append(random.choice(others))
    return sorted(ids, key=lambda id: id != "combination:repeat_prompt")


def _parameters(id: str, random: Random, words: Iterator[str], task: str) -> Mapping[str, Any]:
    """Of one instruction; `words` gives each word once."""
    match id.partition(":")[2]:
        case "capital_word_frequency":
            relation, number = _bound(random, at_least=(2, 8), less_than=(10, 20))
            return {"capital_frequency": number, "capital_relation": relation}
        case "repeat_prompt":
            return {"prompt_to_repeat": task}
        case "number_placeholders":
            return {"num_placeholders": random.randint(1, 4)}
        case "postscript":
            return {"postscript_marker": random.choice(("P.S.", "P.P.S"))}
        case "multiple_sections":
            return {
                "section_spliter": random.choice(("Section", "SECTION", "Part")),
                "num_sections": random.randint(2, 5),
            }
        case "number_bullet_lists":
            return {"num_bullets": random.randint(2, 6)}
        case "number_highlighted_sections":
            return {"num_highlights": random.randint(1, 4)}
        case "existence":
            return {"keywords": [next(words) for _ in range(random.randint(1, 3))]}
        case "forbidden_words":
            return {"forbidden_words": [next(words) for _ in range(random.randint(1, 4))]}
        case "frequency":
            relation, number = _bound(random, at_least=(2, 5), less_than=(2, 5))
            return {"keyword": next(words), "frequency": number, "relation": relation}
        case "letter_frequency":
            relation, number = _bound(random, at_least=(5, 20), less_than=(6, 12))
            letters = COMMON_LETTERS if relation == "at least" else RARE_LETTERS
            return {"letter": random.choice(letters), "let_frequency": number, "let_relation": relation}
        case "response_language":
            return {"language": random.choice(list(LANGUAGES))}
        case "nth_paragraph_first_word":
            number = random.randint(2, 5)
            return {
                "num_paragraphs": number,
                "nth_paragraph": random.randint(1, number),
                "first_word": next(words),
            }
        case "number_paragraphs":
            return {"num_paragraphs": random.randint(2, 5)}
        case "number_sentences":
            relation, number = _bound(random, at_least=(3, 15), less_than=(8, 20))
            return {"num_sentences": number, "relation": relation}
        case "number_words":
            relation, number = _bound(random, at_least=(5, 30), less_than=(15, 40))
            return {"num_words": 10 * number, "relation": relation}
        case "end_checker":
            return {"end_phrase": random.choice(END_PHRASES)}
        case _:
            return {}


def _bound(random: Random, at_least: tuple[int, int], less_than: tuple[int, int]) -> tuple[str, int]:
    """A relation and its threshold, from the range of that relation."""
    relation = random.choice(("at least", "less than"))
    return relation, random.randint(*(at_least if relation == "at least" else less_than))
