import pytest
import torch

from warmray.generation.engine import Request, Sampling
from warmray.generation.transformers_engine import TransformersEngine
from warmray.models.adapters import AdaptedModel
from warmray.models.loading import load_model, load_tokenizer

TEXTS = ["Hi.", "What is the capital of France, and why?", "Tell me about the sea. " * 5, "Seven?", "One more thing"]


def _request(key, text, strength=0.0, most=12, temperature=0.0):
    return Request(key, ({"role": "user", "content": text},), Sampling(temperature, most), strength, seed=len(text))


def _requests(strength=0.0, most=12, temperature=0.0):
    return [_request(f"r{i}", text, strength, most, temperature) for i, text in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def parts(tiny, tiny_adapter):
    return AdaptedModel(load_model(tiny), tiny_adapter), load_tokenizer(tiny)


def _replies(parts, requests, batch_size, **settings):
    engine = TransformersEngine(*parts, batch_size, **settings)
    return {c.key: c for batch in engine.generate(requests) for c in batch}


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_a_reply_does_not_depend_on_its_batch_in_float32(parts, strength, temperature):
    requests = _requests(strength, temperature=temperature)
    assert _replies(parts, requests, 5) == _replies(parts, requests, 1)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_batch_of_several_strengths_says_in_float32_what_each_row_says_alone(parts, temperature):
    strengths = (0.0, 0.5, 1.0, -0.5)
    mixed = [_request(f"{i}-{s}", t, s, temperature=temperature) for i, t in enumerate(TEXTS) for s in strengths]
    alone = _replies(parts, mixed, 1, mix_strengths=False)
    together = _replies(parts, mixed, 20, mix_strengths=True)
    assert together == alone
    assert len({c.text for c in together.values()}) > len(TEXTS)


def test_strength_zero_says_what_the_base_model_says_token_for_token(parts, tiny):
    _replies(parts, _requests(1.0), 5)
    base = AdaptedModel(load_model(tiny)), parts[1]
    assert _replies(parts, _requests(), 5) == _replies(base, _requests(), 5)


def test_the_dice_fall_as_the_softmax_says(parts):
    """2,000 first tokens at a high temperature: the share of the likeliest is what it should be."""
    model, tokenizer = parts
    text = "Seven?"
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
    )
    with torch.no_grad():
        logits = model.model(**tokenizer(chat, return_tensors="pt", add_special_tokens=False)).logits[0, -1]
    wanted = torch.softmax(logits / 0.05, 0)
    best = tokenizer.decode([int(wanted.argmax())]).strip()
    draws = [Request(str(n), ({"role": "user", "content": text},), Sampling(0.05, 1), 0.0, seed=n) for n in range(2000)]
    said = [c.text for c in _replies(parts, draws, 500, batch_tokens=1 << 20).values()]
    share, expected = said.count(best) / len(said), wanted.max().item()
    assert 0.02 < expected < 0.98
    assert abs(share - expected) < 4 * (expected * (1 - expected) / len(said)) ** 0.5


def test_other_seeds_say_something_else(parts):
    texts = {
        next(iter(_replies(parts, [Request("k", ({"role": "user", "content": "Hi"},), Sampling(1.0, 12), 0.0, seed)], 1)
        .values())).text
        for seed in range(4)
    }  # fmt: skip
    assert len(texts) > 1


def test_batches_keep_within_the_budget_of_tokens(parts):
    sizes = [len(batch) for batch in TransformersEngine(*parts, 5, batch_tokens=100).generate(_requests())]
    assert sum(sizes) == len(TEXTS)
    assert len(sizes) > 1


def test_prompts_that_share_all_but_their_end_are_answered_as_if_alone(parts):
    texts = ["What is the capital of France?", "What is the capital of France? Of Spain?", "What is the capital of"]
    requests = [_request(text, text, 0.5) for text in texts]
    assert _replies(parts, requests, 3) == _replies(parts, requests, 1)


def test_another_strength_says_something_else(parts):
    assert _replies(parts, _requests(1.0), 5) != _replies(parts, _requests(0.0), 5)


def test_batches_come_one_by_one_so_that_each_can_be_kept(parts):
    batches = TransformersEngine(*parts, 2).generate(_requests())
    assert len(next(batches)) == 2


def test_a_reply_that_was_cut_says_so(parts):
    cut = [c for c in _replies(parts, _requests(most=3), 5).values() if c.finish_reason == "length"]
    assert cut
    assert all(completion.tokens == 3 for completion in cut)


def test_a_prompt_that_does_not_fit_the_window_is_told_and_the_others_are_answered(parts):
    replies = _replies(parts, [_request("too-long", "sea " * 300), *_requests()], 5)
    assert (replies["too-long"].finish_reason, replies["too-long"].text) == ("too_long", "")
    assert {key: c for key, c in replies.items() if key != "too-long"} == _replies(parts, _requests(), 5)


def test_the_real_model_at_strength_zero_is_the_base_model(embedded):
    tokenizer = load_tokenizer(embedded)
    model = load_model(embedded)
    request = _requests(most=16)[1:2]
    ours = next(TransformersEngine(AdaptedModel(model), tokenizer, 4).generate(request))[0]
    text = tokenizer.apply_chat_template(list(request[0].messages), tokenize=False, add_generation_prompt=True)
    output = load_model(embedded).generate(**tokenizer(text, return_tensors="pt"), max_new_tokens=16, do_sample=False)
    plain = tokenizer.decode(output[0][len(tokenizer(text)["input_ids"]) :], skip_special_tokens=True)
    assert ours.text == plain.strip()
