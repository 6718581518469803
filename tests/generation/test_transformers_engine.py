import pytest
import torch

from warmray.generation.engine import Request, Sampling
from warmray.generation.transformers_engine import TransformersEngine
from warmray.generation.window import encode_chat
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
def test_a_batch_of_several_strengths_gives_in_float32_the_replies_of_each_row_alone(parts, temperature):
    strengths = (0.0, 0.5, 1.0, -0.5)
    mixed = [_request(f"{i}-{s}", t, s, temperature=temperature) for i, t in enumerate(TEXTS) for s in strengths]
    alone = _replies(parts, mixed, 1, mix_strengths=False)
    together = _replies(parts, mixed, 20, mix_strengths=True)
    assert together == alone
    assert len({c.text for c in together.values()}) > len(TEXTS)


def test_strength_zero_gives_the_replies_of_the_base_model(parts, tiny):
    _replies(parts, _requests(1.0), 5)
    base = AdaptedModel(load_model(tiny)), parts[1]
    assert _replies(parts, _requests(), 5) == _replies(base, _requests(), 5)


def test_sampled_tokens_have_the_distribution_of_the_softmax(parts):
    """2,000 first tokens: the share of the most probable token is within four standard errors of its probability."""
    model, tokenizer = parts
    text = "Seven?"
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
    )
    with torch.no_grad():
        logits = model.model(**tokenizer(chat, return_tensors="pt", add_special_tokens=False)).logits[0, -1]
    probabilities = torch.softmax(logits / 0.05, 0)
    best = tokenizer.decode([int(probabilities.argmax())]).strip()
    draws = [Request(str(n), ({"role": "user", "content": text},), Sampling(0.05, 1), 0.0, seed=n) for n in range(2000)]
    texts = [c.text for c in _replies(parts, draws, 500, batch_tokens=1 << 20).values()]
    share, expected = texts.count(best) / len(texts), probabilities.max().item()
    assert 0.02 < expected < 0.98
    assert abs(share - expected) < 4 * (expected * (1 - expected) / len(texts)) ** 0.5


def test_different_seeds_give_different_replies(parts):
    chat = ({"role": "user", "content": "Hi"},)
    requests = [Request(str(seed), chat, Sampling(1.0, 12), 0.0, seed) for seed in range(4)]
    assert len({completion.text for completion in _replies(parts, requests, 4).values()}) > 1


def test_batches_stay_within_the_limit_of_tokens(parts):
    requests = {request.key: request for request in _requests()}
    lengths = {key: len(encode_chat(parts[1], request)) + 12 for key, request in requests.items()}
    limit = 2 * sorted(lengths.values())[1]  # two of the short ones fit, and all five do not
    batches = list(TransformersEngine(*parts, 5, batch_tokens=limit).generate(list(requests.values())))
    assert sorted(c.key for batch in batches for c in batch) == sorted(requests)
    assert max(len(batch) for batch in batches) > 1
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[c.key] for c in batch) <= limit


def test_prompts_that_share_all_but_their_end_get_the_same_replies_as_alone(parts):
    texts = ["What is the capital of France?", "What is the capital of France? Of Spain?", "What is the capital of"]
    requests = [_request(text, text, 0.5) for text in texts]
    assert _replies(parts, requests, 3) == _replies(parts, requests, 1)


def test_another_strength_gives_other_replies(parts):
    assert _replies(parts, _requests(1.0), 5) != _replies(parts, _requests(0.0), 5)


def test_batches_are_yielded_one_by_one(parts):
    batches = TransformersEngine(*parts, 2).generate(_requests())
    assert len(next(batches)) == 2


def test_a_cut_reply_has_the_finish_reason_length(parts):
    cut = [c for c in _replies(parts, _requests(most=3), 5).values() if c.finish_reason == "length"]
    assert cut
    assert all(completion.tokens == 3 for completion in cut)


def test_a_prompt_that_does_not_fit_the_window_is_too_long_and_the_others_are_answered(parts):
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
