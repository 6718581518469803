import json

import pytest

from warmray.config import EndpointConfig, EvaluateConfig, JudgeConfig
from warmray.errors import InputError
from warmray.models.families import check_evaluation, check_judges, describe_folder, family_of


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "llama"),
        ("llama3.1:8b", "llama"),
        ("accounts/fireworks/models/llama-v3p1-70b-instruct", "llama"),
        ("lmsys/vicuna-7b-v1.5", "llama"),
        ("mistralai/Mistral-Small-Instruct-2409", "mistral"),
        ("open-mixtral-8x22b", "mistral"),
        ("HuggingFaceH4/zephyr-7b-beta", "mistral"),
        ("Qwen/Qwen2.5-32B-Instruct", "qwen"),
        ("qwq-32b", "qwen"),
        ("google/gemma-2-27b-it", "gemma"),
        ("gemini-2.0-flash", "gemma"),
        ("gpt-4o-mini", "gpt"),
        ("o3-mini", "gpt"),
        ("openai/gpt-oss-120b", "gpt"),
        ("anthropic/claude-sonnet-4", "claude"),
        ("deepseek-ai/DeepSeek-V3", "deepseek"),
        ("deepseek-chat", "deepseek"),
        ("microsoft/phi-4", "phi"),
        ("microsoft/Phi-3.5-mini-instruct", "phi"),
        ("ibm-granite/granite-3.1-8b-instruct", "granite"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "smollm"),
        ("embedded", "smollm"),
        ("nvidia/Nemotron-4-340B-Instruct", "nemotron"),
        ("CohereLabs/c4ai-command-r-v01", "command"),
        ("CohereLabs/aya-expanse-8b", "command"),
        ("01-ai/Yi-1.5-34B-Chat", "yi"),
        ("allenai/OLMo-2-1124-7B-Instruct", "olmo"),
        ("THUDM/glm-4-9b-chat", "glm"),
        ("zai-org/GLM-4.5", "glm"),
        ("moonshotai/Kimi-K2-Instruct", "kimi"),
        ("grok-3", "grok"),
        ("tiiuae/falcon-7b-instruct", "falcon"),
        ("internlm/internlm2_5-7b-chat", "internlm"),
        ("baichuan-inc/Baichuan2-13B-Chat", "baichuan"),
        ("upstage/solar-pro", "solar"),
        ("stabilityai/stablelm-2-12b-chat", "stablelm"),
        ("bigscience/bloomz-7b1", "bloom"),
        ("EleutherAI/pythia-6.9b", "pythia"),
        ("EleutherAI/gpt-neox-20b", "pythia"),
    ],
)
def test_a_name_gives_its_family(name, family):
    assert family_of(name) == family


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", "qwen"),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-70B", "llama"),
        ("nvidia/Llama-3.1-Nemotron-70B-Instruct-HF", "llama"),
        ("nvidia/Mistral-NeMo-Minitron-8B-Instruct", "mistral"),
        ("NousResearch/Hermes-3-Llama-3.1-8B", "llama"),
        ("upstage/SOLAR-10.7B-Instruct-v1.0", "mistral"),
        ("allenai/Llama-3.1-Tulu-3-8B", "llama"),
    ],
)
def test_a_distilled_model_is_of_the_family_of_its_weights(name, family):
    assert family_of(name) == family


def test_a_word_inside_another_word_gives_no_family():
    assert family_of("dolphin") is None
    assert family_of("TinyLlama/TinyLlama-1.1B-Chat-v1.0") == "tinyllama"


def test_the_architecture_counts_only_where_the_name_says_nothing():
    assert family_of("our-assistant", "Qwen2ForCausalLM") == "qwen"
    assert family_of("HuggingFaceTB/SmolLM2-135M-Instruct", "LlamaForCausalLM") == "smollm"
    assert family_of("our-assistant", "LlamaForCausalLM") == "possibly llama"
    assert family_of("our-assistant", "OursForCausalLM") is None


def test_of_a_path_only_the_folder_of_the_model_counts():
    assert family_of("/data/llama-experiments/our-gemma-2") == "gemma"
    assert family_of("/cache/models--Qwen--Qwen2.5-7B/snapshots/0a1b2c") == "qwen"
    assert family_of("s3://llama-bucket/assistant") is None


def test_a_local_folder_says_what_it_was_made_of(tmp_path):
    folder = tmp_path / "assistant"
    folder.mkdir()
    assert describe_folder(folder) == ("assistant", None)
    settings = {"_name_or_path": "Qwen/Qwen2.5-7B-Instruct", "architectures": ["Qwen2ForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(settings))
    assert describe_folder(folder) == ("assistant (Qwen/Qwen2.5-7B-Instruct)", "Qwen2ForCausalLM")
    assert family_of(describe_folder(folder)[0]) == "qwen"


@pytest.mark.parametrize(
    ("judge", "evaluated", "architecture"),
    [
        ("llama-3.3-70b", "meta-llama/Llama-3.1-8B-Instruct", "LlamaForCausalLM"),
        ("Qwen/Qwen3-32B", "our-assistant", "Qwen2ForCausalLM"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", "Qwen/Qwen2.5-7B-Instruct", None),
    ],
)
def test_a_judge_of_the_same_family_is_refused_by_name(judge, evaluated, architecture):
    with pytest.raises(InputError) as caught:
        check_judges(JudgeConfig(model=judge), evaluated, architecture)
    assert judge in str(caught.value)
    assert evaluated in str(caught.value)
    assert "name a judge of another family" in str(caught.value)


def test_every_member_of_a_panel_is_checked():
    panel = [EndpointConfig(model="claude-sonnet-4"), EndpointConfig(model="qwen-max")]
    judge = JudgeConfig(model="gpt-4o", panel=panel)
    assert check_judges(judge, "meta-llama/Llama-3.1-8B-Instruct", None) == ""
    with pytest.raises(InputError, match="qwen-max is of the same family"):
        check_judges(judge, "Qwen/Qwen2.5-7B-Instruct", None)


def test_a_model_does_not_judge_itself_even_if_its_family_is_unknown():
    with pytest.raises(InputError, match="would judge itself"):
        check_judges(JudgeConfig(model="our-assistant"), "our-assistant", None)


def test_a_model_votes_once():
    twice = EndpointConfig(model="gpt-4o")
    with pytest.raises(InputError, match="would vote twice"):
        check_judges(JudgeConfig(model="gpt-4o", panel=[twice, EndpointConfig(model="claude-x")]), "qwen", None)


def test_unknown_families_pass_with_a_remark():
    remark = check_judges(JudgeConfig(model="judge", base_url="http://127.0.0.1:9/v1"), "our-assistant", None)
    assert "the family of the evaluated model our-assistant is not known" in remark
    assert "the family of the judge judge is not known" in remark


def test_a_shared_architecture_is_a_remark_and_not_a_refusal():
    remark = check_judges(JudgeConfig(model="llama-3.3-70b"), "our-assistant", "LlamaForCausalLM")
    assert "possibly of the family of the judge llama-3.3-70b (llama)" in remark
    assert check_judges(JudgeConfig(model="gpt-4o"), "our-assistant", "LlamaForCausalLM") == ""


def test_the_judge_of_an_evaluation_is_checked_against_the_endpoint_or_the_folder_that_is_evaluated(tmp_path):
    judge = {"model": "Qwen/Qwen2.5-72B-Instruct"}
    folder = tmp_path / "Qwen2.5-32B-Instruct"
    folder.mkdir()
    with pytest.raises(InputError, match="same family"):
        check_evaluation(EvaluateConfig(judge=judge), folder)
    served = EvaluateConfig(judge=judge, engine="openai", endpoint={"model": "meta-llama/Llama-3.1-8B-Instruct"})
    assert check_evaluation(served, folder) == ""
    assert check_evaluation(EvaluateConfig(), folder) == ""
