"""Responses for a reader: which are chosen, what a token adds to the text, colours by hand."""

import re

import numpy as np
import pytest

from launch.config import ASSETS
from launch.shown_responses import LEVELS, chosen, covariances, pieces, section, tokenizer_of
from tests.launch.test_report import record

TOKENIZER = tokenizer_of(ASSETS / "laboratory" / "96", {"model": {"path": str(ASSETS / "laboratory" / "96")}})


class Bytes:
    """Every token is a byte of UTF-8."""

    def decode(self, ids, skip_special_tokens):
        return bytes(ids).decode("utf-8", errors="replace")


def test_a_character_of_several_tokens_comes_with_the_last_of_them():
    ids = list("aé€b".encode())
    assert pieces(Bytes(), ids) == ["a", "", "é", "", "", "€", "b"]
    assert "".join(pieces(Bytes(), ids)) == "aé€b"
    # A response that was cut within a character.
    assert pieces(Bytes(), ids[:2]) == ["a", "\ufffd"]


def test_covariances_by_hand():
    records = [
        record("a", logprobs=[-1.0, -3.0], advantage=1.0),
        record("b", logprobs=[-2.0, -2.0], advantage=-1.0),
        record("c", logprobs=[-9.0], advantage=None),
    ]
    first, second, none = covariances(records)
    # Means over the four trained tokens: log p -2, A 0.
    assert first.tolist() == [1.0, -1.0]
    assert second.tolist() == [0.0, 0.0]
    assert none is None
    everyone = np.concatenate([first, second])
    assert everyone.mean() == pytest.approx(np.cov([-1, -3, -2, -2], [1, 1, -1, -1], bias=True)[0, 1])


def test_different_prompts_come_before_more_of_the_same():
    records = [record(uid, sample=sample) for uid in ("a", "b", "c") for sample in range(8)]
    assert [(each["uid"], each["sample"]) for each in chosen(records)] == [
        ("a", 0),
        ("b", 0),
        ("c", 0),
        ("a", 1),
        ("b", 1),
        ("c", 1),
    ]


def test_tokens_take_the_colour_of_their_value():
    ids = TOKENIZER.encode("4+4").ids
    one = record("a", token_ids=ids, logprobs=[-1.0, -2.0, -3.0], entropies=[0.0, 0.5, 1.0], advantage=1.0)
    other = record("b", token_ids=ids, logprobs=[-2.0] * 3, entropies=[0.0] * 3, advantage=-1.0)
    html = section([one, other], TOKENIZER)
    blue = re.findall(r'<span(?: class="(\w\d)")? title="([-.\d]+) nats">(.)</span>', html)[:3]
    full = np.quantile([0, 0.5, 1, 0, 0, 0], 0.99)
    assert blue == [("", "0.00", "4"), (f"e{round(LEVELS * 0.5 / full)}", "0.50", "+"), ("e9", "1.00", "4")]
    signed = re.findall(r'<span(?: class="(\w\d)")? title="([-.\d]+) covariance">(.)</span>', html)[:3]
    assert signed == [("p9", "1.00", "4"), ("", "0.00", "+"), ("n9", "-1.00", "4")]
    assert html.count("<article>") == 2


def test_where_all_advantages_are_the_same_there_is_no_covariance_to_show():
    ids = TOKENIZER.encode("4+4").ids
    one = record("a", token_ids=ids, logprobs=[-1.0, -2.0, -3.0], entropies=[0.0, 0.5, 1.0], advantage=0.0)
    html = section([one, {**one, "uid": "b"}], TOKENIZER)
    assert "all advantages of the step are the same" in html
    assert "by covariance" not in html
    assert html.count("by entropy") == 2


def test_without_a_tokenizer_or_a_score_the_text_is_plain():
    html = section([record("a"), record("b", score=None, failure="crash", advantage=None)], None)
    assert html.count("<pre>4</pre>") == 2
    assert "title=" not in html
    assert tokenizer_of(ASSETS, {"model": {"path": None}}) is None
    assert "No rollouts were kept" in section([], TOKENIZER)


def test_hostile_text_stays_text():
    ids = TOKENIZER.encode("<b>").ids
    html = section([record("a", token_ids=ids, logprobs=[-1.0] * len(ids), entropies=[1.0] * len(ids))], TOKENIZER)
    assert "<b>" not in html
    assert "&lt;" in html
