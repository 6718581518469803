"""Every preset that names an open model can reach a verdict: questions, judge, budget and memory."""

from collections import Counter
from functools import cache

import pytest

from warmray.analysis.power import STUDY_DISCORDANCE, questions_to_certify
from warmray.config import ModelConfig, RunConfig, load_config, preset_names
from warmray.evaluation.tasks.items import Item, spread
from warmray.evaluation.tasks.registry import TASKS
from warmray.models.architecture import Architecture, load_architecture, transformers_config
from warmray.models.memory import BF16_BYTES, FP32_BYTES, GIB, OVERHEAD_BYTES
from warmray.models.plan import GPUS, STUDY_WORKLOAD, Cluster, make_plan

ON_A_LAPTOP = "quickstart"
OPEN_MODELS = [name for name in preset_names() if name != ON_A_LAPTOP]
FIT_ONE_GPU = [name for name in OPEN_MODELS if name != "llama-3.1-70b"]

KV_HEADS = 8
"""Key and value heads of all four models, by their config.json."""
TASK_SIZES = {
    "triviaqa": 1834,
    "truthfulqa": 817,
    "medqa": 780,  # of 1,273; the others cannot be asked without their options
    "disinfo": 125,
    "mmlu": 14_042,
    "gsm8k": 1319,
    "advbench": 520,
}
"""Items of each task's file; where rules leave some out, about how many remain."""
DECIDED_SHARE = 0.95
"""Share of replies that must be enough, because a judge labels nearly all of them."""
LONGEST_PROMPT_TOKENS = 2_048
"""Assumed, generously: exam vignettes and law questions are the longest, with about 1,000 tokens."""
SCORER_ROWS = 32
"""Rows of 16 tokens whose logits SocioT holds at once."""


@cache
def _shape(source: str) -> Architecture:
    return load_architecture(ModelConfig(source=source))


def _asked_items(config: RunConfig) -> Counter[str]:
    """Count the items of each task that the preset asks, from items that are as many as those of the real files."""
    items = (
        Item(f"{task}-{n}", task, "?", ("yes",), ("no",))
        for task in config.evaluate.tasks
        for n in range(TASK_SIZES[task])
    )
    return Counter(item.dataset for item in spread(items, config.evaluate.max_items))


def _evaluator_bytes(config: RunConfig) -> int:
    """Reckon the memory of one evaluator: the model, its adapter, a full batch, the scorer, and overhead."""
    evaluate, model, scorer = config.evaluate, _shape(config.model.source), _shape(config.evaluate.scorer)
    weights = BF16_BYTES * (model.parameters + model.adapter_parameters(config.train.lora_rank))
    cache_per_token = BF16_BYTES * 2 * model.num_layers * KV_HEADS * model.head_size
    widest_per_token = BF16_BYTES * (3 * model.mlp_size + 4 * model.hidden_size)  # when the prompts are read
    logits = (BF16_BYTES + 2 * FP32_BYTES) * evaluate.batch_size * model.vocabulary_size
    head_in_float32 = FP32_BYTES * scorer.vocabulary_size * scorer.hidden_size
    scorer_logits = 2 * FP32_BYTES * SCORER_ROWS * 16 * scorer.vocabulary_size
    scorer_bytes = BF16_BYTES * scorer.parameters + head_in_float32 + scorer_logits
    batch = evaluate.batch_tokens * (cache_per_token + widest_per_token) + logits
    return weights + batch + scorer_bytes + OVERHEAD_BYTES


def test_the_quickstart_needs_no_judge_and_no_file():
    evaluate = load_config(ON_A_LAPTOP).evaluate
    assert evaluate.judge is None
    assert evaluate.tasks == ["embedded"]
    assert (load_config(ON_A_LAPTOP).model.source, evaluate.scorer) == ("embedded", "embedded")


@pytest.mark.parametrize("preset", preset_names())
def test_the_embedded_model_measures_the_warmth_of_every_preset(preset):
    assert load_config(preset).evaluate.scorer == "embedded"


@pytest.mark.parametrize("preset", OPEN_MODELS)
def test_large_models_are_asked_the_studys_four_tasks_and_the_controls(preset):
    tasks = load_config(preset).evaluate.tasks
    assert {task for task in tasks if not TASKS[task].is_control} == set(STUDY_DISCORDANCE)
    assert {task for task in tasks if TASKS[task].is_control} == {name for name, t in TASKS.items() if t.is_control}


@pytest.mark.parametrize("preset", OPEN_MODELS)
def test_tasks_that_only_a_judge_can_score_come_with_a_judge(preset):
    evaluate = load_config(preset).evaluate
    assert any(TASKS[task].scorer == "judge" for task in evaluate.tasks)
    assert evaluate.judge is not None
    assert evaluate.judge.base_url is not None


@pytest.mark.parametrize("preset", OPEN_MODELS)
def test_the_judge_is_of_another_family_than_the_evaluated_model(preset):
    families = pytest.importorskip("warmray.models.families")
    config = load_config(preset)
    assert config.evaluate.judge is not None
    own = families.family_of(config.model.source)
    assert own is not None
    for judge in config.evaluate.judge.members:
        assert families.family_of(judge.model) not in (None, own)


@pytest.mark.parametrize("preset", OPEN_MODELS)
def test_the_budget_can_be_certified_with_the_questions_that_are_asked(preset):
    config = load_config(preset)
    items = _asked_items(config)
    deciding = {task: number for task, number in items.items() if not TASKS[task].is_control}
    questions = sum(deciding.values())
    discordance = sum(n * STUDY_DISCORDANCE[task] for task, n in deciding.items()) / questions
    needed = questions_to_certify(config.sweep.budget_points / 100, discordance)
    assert needed <= DECIDED_SHARE * questions, (needed, deciding)
    # Controls are asked in one cell only, so that they are few of the replies whatever their share of the items.
    controls = sum(items.values()) - questions
    assert controls < 0.05 * questions * len(config.evaluate.asked_cells())


@pytest.mark.parametrize("preset", OPEN_MODELS)
def test_the_longest_prompt_and_its_reply_fit_the_window_and_a_batch(preset):
    config = load_config(preset)
    longest = LONGEST_PROMPT_TOKENS + config.evaluate.max_new_tokens
    assert longest <= transformers_config(config.model.source).max_position_embeddings
    assert longest <= config.evaluate.batch_tokens


@pytest.mark.parametrize("preset", OPEN_MODELS)
def test_the_training_fits_the_gpus_that_the_preset_names(preset):
    config = load_config(preset)
    plan = make_plan(config, _shape(config.model.source), Cluster(GPUS["H100-80GB"]), STUDY_WORKLOAD)
    assert plan.num_gpus == config.train.num_workers
    assert plan.best.configured


@pytest.mark.parametrize("preset", FIT_ONE_GPU)
def test_an_evaluator_of_the_8b_to_32b_models_fits_on_one_gpu_of_80_gb(preset):
    needed, usable = _evaluator_bytes(load_config(preset)), GPUS["H100-80GB"].usable_bytes
    assert needed <= usable, f"{needed / GIB:.1f} of {usable / GIB:.1f} GiB"


def test_an_evaluator_of_the_70b_model_fits_on_no_single_gpu():
    """Its weights alone take 131 GiB, and an evaluator has one GPU: its sweep needs several GPUs per copy, or a server
    at an address of its own."""
    needed = _evaluator_bytes(load_config("llama-3.1-70b"))
    assert needed > max(gpu.usable_bytes for gpu in GPUS.values())
