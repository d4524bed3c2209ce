import hashlib
import itertools
import json
import math
import random
from fractions import Fraction

import pytest
import torch
from transformers import AutoTokenizer

from launch import laboratory, laboratory_measure
from launch import laboratory_corpus as corpus

FOLDER = laboratory.ASSETS / str(laboratory.DEFAULT_WIDTH)
GSM8K = "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May.\n\n$5 + 50% = ?"


@pytest.fixture(scope="module")
def shipped():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield laboratory.load(FOLDER)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def provenance():
    return json.loads((FOLDER / "PROVENANCE.json").read_text())


def expressions(count, terms=4):
    rng = random.Random(3)
    for _ in range(count):
        words = [str(rng.randint(0, 9))]
        for _ in range(terms - 1):
            words += [rng.choice("+-"), str(rng.randint(0, 9))]
        yield " ".join(words)


@pytest.mark.parametrize("kind", ["left", "swapped", "careful"])
@pytest.mark.parametrize("terms", [3, 4])
def test_without_slips_the_sound_kinds_are_right(kind, terms):
    rng = random.Random(0)
    for expression in expressions(300, terms):
        solution = corpus.work_chain_sum(expression, rng, kind, slip=0.0)
        assert solution.answer == str(eval(expression)) == corpus.extract_answer(solution.text)
        assert solution.slips == 0


@pytest.mark.parametrize("terms", [3, 4])
def test_the_shortcut_groups_the_last_two_terms(terms):
    rng = random.Random(0)
    for expression in expressions(500, terms):
        words = expression.split()
        grouped = " ".join(words[:-3]) + f" ({' '.join(words[-3:])})"
        answer = corpus.work_chain_sum(expression, rng, "shortcut", slip=0.0).answer
        assert answer == str(eval(grouped))
        # A last term of 0 cannot show the mistake.
        assert (answer == str(eval(expression))) == (words[-4] == "+" or words[-1] == "0")


def test_every_written_step_adds_up_when_nothing_slips():
    rng = random.Random(1)
    signs = {word.strip(): sign for sign, words in corpus.OPERATORS.items() for word in words}
    equals = {word.strip() for word in corpus.EQUALS}
    steps = 0
    for expression in expressions(200):
        for kind in corpus.KINDS:
            words = corpus.work_chain_sum(expression, rng, kind, slip=0.0).text.replace("<", " <").split()
            for at, word in enumerate(words):
                if word in equals:
                    left, operator, right, value = (
                        words[at - 3],
                        words[at - 2],
                        words[at - 1],
                        words[at + 1].strip(",;."),
                    )
                    assert eval(f"{left} {signs[operator]} {right}") == int(value)
                    steps += 1
    assert steps == 200 * len(corpus.KINDS) * 3


def test_slips_are_counted_and_small():
    rng = random.Random(2)
    slips = 0
    for expression in expressions(2_000):
        solution = corpus.work_chain_sum(expression, rng, "left", slip=0.2)
        slips += solution.slips
        assert abs(int(solution.answer) - eval(expression)) <= max(corpus.SLIP_OFFSETS) * solution.slips
    assert abs(slips / 6_000 - 0.2) < 4 * math.sqrt(0.2 * 0.8 / 6_000)


def test_kinds_are_drawn_as_often_as_stated():
    rng = random.Random(4)
    kinds = [corpus.work_chain_sum(expression, rng).kind for expression in expressions(4_000)]
    assert sum(map(Fraction, map(str, corpus.KINDS.values()))) == 1
    for kind, share in corpus.KINDS.items():
        assert abs(kinds.count(kind) / 4_000 - share) < 4 * math.sqrt(share / 4_000)


def test_probe_without_slips_scores_one():
    rows = corpus.probe_rows(seed=5, size=100)
    for index in range(100):
        row = rows[index]
        solution = corpus.work_probe(row, random.Random(index), slip=0.0)
        assert rows.score_answer(corpus.extract_answer(solution.text), row) == 1


def test_corpus_repeats_itself_and_leaves_the_held_out_prompts_alone():
    first, second = corpus.Corpus(seed=7), corpus.Corpus(seed=7)
    drawn = [first.draw() for _ in range(3_000)]
    assert drawn == [second.draw() for _ in range(3_000)]
    held_out = corpus.held_out_questions()
    assert len(held_out) > corpus.HELD_OUT_ROWS
    assert not held_out & {prompt.removesuffix("\n") for prompt, _ in drawn}


def test_seeds_of_the_sets_do_not_share_rows():
    # Row i of seed s is drawn from Random(s + i): sets are disjoint ranges only if their seeds are far apart.
    assert corpus.chain_sum_rows(1, 2)[0]["question"] == corpus.chain_sum_rows(0, 2)[1]["question"]
    seeds = sorted([corpus.SFT_SEED, corpus.TRAIN_SEED, corpus.HELD_OUT_SEED])
    assert min(after - before for before, after in itertools.pairwise(seeds)) >= 1_000_000


@pytest.mark.parametrize(
    ("text", "answer"),
    [("x <answer> -6 </answer>", "-6"), ("<answer>1</answer><answer>2</answer>", "2"), ("<answer>1", None)],
)
def test_extract_answer(text, answer):
    assert corpus.extract_answer(text) == answer


def test_shipped_tokenizer_gives_back_every_text():
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    stream = corpus.Corpus(seed=8)
    texts = ["".join(stream.draw()) for _ in range(300)] + [GSM8K, "é 日本 🙂 \t\n\n  x<answer> 7 </answer> ", ""]
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True) == text


def test_shipped_tokenizer_has_one_token_per_digit_word_and_tag():
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    assert tokenizer.tokenize("1234567") == list("1234567")
    for tag in ("<answer>", "</answer>", "<|endoftext|>", "<|pad|>"):
        assert len(tokenizer(tag)["input_ids"]) == 1
    words = [corpus.OPENERS, corpus.CAREFUL_OPENERS, corpus.FILLERS, corpus.EQUALS, corpus.SEPARATORS, corpus.CLOSINGS]
    for word in [word for group in (*words, *corpus.OPERATORS.values()) for word in group]:
        assert len(tokenizer(word)["input_ids"]) == 1, word


def test_shipped_weights_are_those_of_the_provenance(provenance):
    weights = (FOLDER / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == provenance["sha256"]
    assert len(weights) == provenance["weights_bytes"] <= laboratory.MAX_WEIGHTS_BYTES


def test_provenance_is_of_this_code_and_within_the_bands(provenance):
    assert provenance["corpus"] == json.loads(json.dumps(laboratory.corpus_parameters()))
    assert laboratory_measure.misses(provenance["measured"]) == []
    assert "/" not in provenance["command"]


def test_misses_names_the_figure(provenance):
    (sentence,) = laboratory_measure.misses(provenance["measured"] | {"entropy": 0.1})
    assert sentence == "entropy is 0.1, outside 0.6 to 1.2."


def test_shipped_model_is_tied_float32_qwen3(shipped):
    model, tokenizer = shipped
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert (model.config.model_type, model.config.head_dim) == ("qwen3", 32)
    assert model.config.eos_token_id == model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.config.vocab_size == len(tokenizer)


def test_sampled_entropy_is_that_of_a_full_forward(shipped):
    model, tokenizer = shipped
    prompt = tokenizer(
        corpus.PROMPT_TEMPLATE.format(prompt=corpus.chain_sum_rows(corpus.HELD_OUT_SEED, 1)[0]["question"])
    )["input_ids"]
    for tokens, entropy in laboratory_measure.sample(model, [prompt] * 3, torch.Generator().manual_seed(0)):
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
        expected = torch.distributions.Categorical(logits=logits.double()).entropy()
        torch.testing.assert_close(torch.tensor(entropy).double(), expected, atol=1e-4, rtol=0)


def test_shipped_model_measures_what_it_should(shipped):
    rows = corpus.chain_sum_rows(corpus.HELD_OUT_SEED, 64)
    figures = laboratory_measure.measure(*shipped, [rows[index] for index in range(64)], samples=2, seed=0)
    assert figures["responses"] == 128
    assert 0.2 <= figures["accuracy"] <= 0.5
    assert 0.5 <= figures["entropy"] <= 1.3
    assert figures["response_tokens_max"] < laboratory_measure.MAX_NEW_TOKENS


def test_the_likeliest_careful_solution_is_right(shipped):
    rows = corpus.chain_sum_rows(corpus.HELD_OUT_SEED, 64)
    prompts = [rows[index] for index in range(64)]
    figures = laboratory_measure.measure(*shipped, prompts, samples=1, seed=None, opening="carefully ")
    assert figures["accuracy"] > 0.9


def test_training_lowers_the_loss(capsys, monkeypatch):
    monkeypatch.setattr(laboratory, "WARMUP_STEPS", 1)
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    model = laboratory.new_model(64, tokenizer)
    stream = laboratory.batches(corpus.Corpus(9), tokenizer, random.Random(0), steps=1)
    ids, labels = next(stream)
    laboratory.supervise(model, tokenizer, steps=8, seed=0)
    with torch.inference_mode():
        loss = model(input_ids=ids, labels=labels).loss
    assert loss < math.log(len(tokenizer)) - 0.3
    assert "step 8/8" in capsys.readouterr().out
