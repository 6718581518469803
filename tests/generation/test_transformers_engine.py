import pytest

from warmray.errors import InputError
from warmray.generation.engine import Request
from warmray.generation.transformers_engine import TransformersEngine
from warmray.models.adapters import AdaptedModel
from warmray.models.loading import load_model, load_tokenizer

TEXTS = ["Hi.", "What is the capital of France, and why?", "Tell me about the sea. " * 5, "Seven?", "One more thing"]


def _requests(most=12):
    return [Request(f"r{i}", ({"role": "user", "content": text},), most) for i, text in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def parts(tiny, tiny_adapter):
    return AdaptedModel(load_model(tiny), tiny_adapter), load_tokenizer(tiny)


def _replies(parts, strength, batch_size, requests=None):
    engine = TransformersEngine(*parts, batch_size)
    return {c.key: c for batch in engine.generate(requests or _requests(), strength) for c in batch}


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_a_reply_does_not_depend_on_its_batch_in_float32(parts, strength):
    assert _replies(parts, strength, 5) == _replies(parts, strength, 1)


def test_strength_zero_says_what_the_base_model_says_token_for_token(parts, tiny):
    _replies(parts, 1.0, 5)
    base = AdaptedModel(load_model(tiny)), parts[1]
    assert _replies(parts, 0.0, 5) == _replies(base, 0.0, 5)


def test_prompts_that_share_all_but_their_end_are_answered_as_if_alone(parts):
    texts = ["What is the capital of France?", "What is the capital of France? Of Spain?", "What is the capital of"]
    requests = [Request(text, ({"role": "user", "content": text},), 12) for text in texts]
    assert _replies(parts, 0.5, 3, requests) == _replies(parts, 0.5, 1, requests)


def test_another_strength_says_something_else(parts):
    assert _replies(parts, 1.0, 5) != _replies(parts, 0.0, 5)


def test_batches_come_one_by_one_so_that_each_can_be_kept(parts):
    batches = TransformersEngine(*parts, 2).generate(_requests(), 0.0)
    assert len(next(batches)) == 2


def test_a_reply_that_was_cut_says_so(parts):
    cut = [c for c in _replies(parts, 0.0, 5, _requests(3)).values() if c.finish_reason == "length"]
    assert cut
    assert all(completion.tokens == 3 for completion in cut)


def test_a_prompt_that_does_not_fit_the_context_is_refused_by_name(parts):
    long = [Request("too-long", ({"role": "user", "content": "sea " * 300},), 12)]
    with pytest.raises(InputError, match=r"prompt too-long has .* does not fit into the model's context of 256"):
        _replies(parts, 0.0, 1, long)


def test_the_real_model_at_strength_zero_is_the_base_model(embedded):
    tokenizer = load_tokenizer(embedded)
    model = load_model(embedded)
    request = _requests(16)[1:2]
    ours = next(TransformersEngine(AdaptedModel(model), tokenizer, 4).generate(request, 0.0))[0]
    text = tokenizer.apply_chat_template(list(request[0].messages), tokenize=False, add_generation_prompt=True)
    output = load_model(embedded).generate(**tokenizer(text, return_tensors="pt"), max_new_tokens=16, do_sample=False)
    plain = tokenizer.decode(output[0][len(tokenizer(text)["input_ids"]) :], skip_special_tokens=True)
    assert ours.text == plain.strip()
