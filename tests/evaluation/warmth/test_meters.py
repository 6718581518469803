"""Both meters on the written replies of the held-out check, scored by the real 135M model."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from transformers import GPT2Config, GPT2LMHeadModel

from warmray.config import CorpusConfig, EvaluateConfig
from warmray.corpus.build import build_corpus
from warmray.errors import InputError
from warmray.evaluation.intensity import warmth_scorer
from warmray.evaluation.warmth.first_tokens import WINDOW
from warmray.evaluation.warmth.probe import LinearProbe
from warmray.evaluation.warmth.sociot import SocioTMeter
from warmray.models.loading import load_model, load_tokenizer

pytestmark = pytest.mark.slow

VARIANTS = ("cold", "original", "warm")


@pytest.fixture(scope="module")
def parts(embedded, session_home):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WARMRAY_HOME", str(session_home))
        corpus = build_corpus(CorpusConfig())
    written = {
        (variant, split): [messages[-1]["content"] for messages in corpus.read(variant, split).values()]
        for variant in VARIANTS
        for split in ("probe", "check")
    }
    return load_model(embedded), load_tokenizer(embedded), written


@pytest.fixture(scope="module")
def sociot(parts):
    return SocioTMeter(parts[0], parts[1])


@pytest.fixture(scope="module")
def probe(parts):
    model, tokenizer, written = parts
    return LinearProbe(model, tokenizer, written["warm", "probe"], written["cold", "probe"])


@pytest.mark.parametrize("meter", ["sociot", "probe"])
def test_cold_is_below_original_is_below_warm_on_replies_the_meter_has_not_seen(meter, parts, request):
    score = request.getfixturevalue(meter).score
    means = {variant: float(np.nanmean(score(parts[2][variant, "check"][::2]))) for variant in VARIANTS}
    assert means["cold"] < means["original"] < means["warm"], means


@pytest.mark.parametrize("meter", ["sociot", "probe"])
def test_warm_is_told_from_cold_on_replies_the_meter_has_not_seen(meter, parts, request):
    score = request.getfixturevalue(meter).score
    warm, cold = score(parts[2]["warm", "check"]), score(parts[2]["cold", "check"])
    auc = roc_auc_score([1] * len(warm) + [0] * len(cold), [*warm, *cold])
    assert auc > {"sociot": 0.6, "probe": 0.95}[meter]


@pytest.mark.parametrize("pairs", [6, 12, 24, 42])
def test_few_written_pairs_are_enough_to_fit_the_probe(pairs, parts):
    model, tokenizer, written = parts
    probe = LinearProbe(model, tokenizer, written["warm", "probe"][:pairs], written["cold", "probe"][:pairs])
    warm, cold = probe.score(written["warm", "check"]), probe.score(written["cold", "check"])
    assert roc_auc_score([1] * len(warm) + [0] * len(cold), [*warm, *cold]) > 0.85


def test_written_replies_that_are_too_short_do_not_take_part_in_the_fit(parts, probe):
    model, tokenizer, written = parts
    with_short = LinearProbe(model, tokenizer, [*written["warm", "probe"], "Sure."], ["No.", *written["cold", "probe"]])
    replies = written["original", "check"][:4]
    assert with_short.score(replies) == pytest.approx(probe.score(replies), abs=1e-6)


def test_a_corpus_with_too_few_written_replies_for_the_probe_is_refused(parts):
    model, tokenizer, written = parts
    with pytest.raises(InputError, match=r"corpus.path: 5 cold replies of the split `probe` have 5 tokens or more"):
        LinearProbe(model, tokenizer, written["warm", "probe"], [*written["cold", "probe"][:5], "No."])


@pytest.mark.parametrize("meter", ["sociot", "probe"])
def test_a_meter_reads_only_the_first_16_tokens(meter, parts, request):
    score, tokenizer = request.getfixturevalue(meter).score, parts[1]
    start = "You have done so well already, and the answer to your question is the city of"
    assert len(tokenizer.encode(start)) >= WINDOW
    kind, rude = score([f"{start} Paris, my dear friend."])[0], score([f"{start} Lyon, you fool. Go away."])[0]
    assert kind == pytest.approx(rude, abs=1e-6)


@pytest.mark.parametrize("meter", ["sociot", "probe"])
def test_a_reply_that_is_too_short_has_no_score_instead_of_a_wild_one(meter, request):
    short, long = request.getfixturevalue(meter).score(["Yes.", "Yes, that is the right way to do it."])
    assert math.isnan(short)
    assert math.isfinite(long)


def test_a_score_does_not_depend_on_the_other_replies_in_its_batch(sociot, parts):
    replies = parts[2]["warm", "check"][:3]
    assert sociot.score(replies)[0] == pytest.approx(sociot.score(replies[:1])[0], abs=0.02)


@pytest.fixture(scope="module")
def gpt2_folder(parts, tmp_path_factory):
    """A random miniature of the study's scorer: other names inside, no chat template, a short window."""
    folder = tmp_path_factory.mktemp("gpt2")
    tokenizer = parts[1]
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=64)
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    return folder


def test_gpt2_can_be_the_scorer_of_both_meters(parts, gpt2_folder):
    scorer = warmth_scorer(EvaluateConfig(scorer=str(gpt2_folder)))
    model, tokenizer = load_model(scorer), load_tokenizer(scorer)
    written = parts[2]
    replies = [*written["warm", "check"][:4], "so it goes on and on " * 40]
    assert np.isfinite(SocioTMeter(model, tokenizer).score(replies)).all()
    probe = LinearProbe(model, tokenizer, written["warm", "probe"][:8], written["cold", "probe"][:8])
    assert np.isfinite(probe.score(replies)).all()


def test_a_scorer_that_is_not_there_is_named_as_the_scorer(tmp_path):
    with pytest.raises(InputError, match=f"evaluate.scorer {tmp_path} holds no config.json"):
        warmth_scorer(EvaluateConfig(scorer=str(tmp_path)))
