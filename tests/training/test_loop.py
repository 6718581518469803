"""The loop without Ray: one or two processes over gloo, a tiny model in float32."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing import set_forkserver_preload
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from warmray.config import ModelConfig, load_config
from warmray.errors import InputError
from warmray.models.adapters import AdaptedModel, resolve_adapter, save_at_strength
from warmray.models.loading import load_model, resolve_model
from warmray.training.loop import StepReport, TrainingHooks, TrainingTask, run_training
from warmray.training.state import STATE_NAME, CorruptStateError, verify_state
from warmray.training.tokens import Example
from warmray.training.zero import deepspeed_settings

pytestmark = pytest.mark.slow
STEPS = 6
M_MMAP_THRESHOLD = -3


def _examples() -> list[Example]:
    generator = torch.Generator().manual_seed(0)
    lengths = [5, 9, 12, 7, 14, 6, 11, 8, 10, 13]
    tokens = [torch.randint(20, 4000, (length,), generator=generator).tolist() for length in lengths]
    return [
        Example(f"e{i}", tuple(ids), tuple(place > len(ids) // 2 for place in range(len(ids))))
        for i, ids in enumerate(tokens)
    ]


class OwnMemory:
    """Samples this process's anonymous memory: files mapped for reading do not count."""

    def __init__(self) -> None:
        # Return freed memory to the system at once, as happens for the tensors over 32 MB of a real model.
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 20)
        self.peak_bytes = self.before_bytes = self._now()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()

    def growth_bytes(self) -> int:
        self._stop.set()
        self._thread.join()
        return self.peak_bytes - self.before_bytes

    def _sample(self) -> None:
        while not self._stop.wait(0.005):
            self.peak_bytes = max(self.peak_bytes, self._now())

    def _now(self) -> int:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
        return int(line.split()[1]) * 1024


@dataclass
class Record(TrainingHooks):
    """Records what the hooks of one rank received; can stop the training after a state, like a kill."""

    out: Path
    stop: int
    memory: OwnMemory
    reports: list[StepReport] = field(default_factory=list)
    validation: dict[int, float] = field(default_factory=dict)
    error: str = ""
    loading_bytes: int = 0

    def started(self, done: int) -> None:
        self.loading_bytes = self.memory.growth_bytes()

    def stepped(self, report: StepReport) -> None:
        self.reports.append(report)

    def validated(self, step: int, loss: float) -> None:
        self.validation[step] = loss

    def save(self, report: StepReport, write: Callable[[Path], None]) -> None:
        folder = self.out / f"state-{report.step}"
        if dist.get_rank() == 0:
            folder.mkdir(parents=True)
        write(folder)
        dist.barrier()
        if report.step == self.stop:
            raise KeyboardInterrupt


def _rank(rank: int, world_size: int, port: int, task: TrainingTask, resume: Path | None, stop: int, out: Path) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size), "DS_ACCELERATOR": "cpu"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    record = Record(out, stop, OwnMemory())
    try:
        run_training(task, resume, record)
    except KeyboardInterrupt:
        pass
    except InputError as error:
        record.error = str(error)
    if rank == 0:
        record.memory = None
        torch.save(record, out / "record.pt")
    dist.destroy_process_group()


def _run(task: TrainingTask, world_size: int, out: Path, resume: Path | None = None, stop: int = -1) -> Record:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out.mkdir(parents=True, exist_ok=True)
    task = replace(task, output=out)
    # Fork from a server that has imported everything once: imports take longer than these trainings.
    set_forkserver_preload(["deepspeed", "peft", "transformers", "warmray.training.loop"])
    mp.start_processes(_rank, (world_size, port, task, resume, stop, out), nprocs=world_size, start_method="forkserver")
    return torch.load(out / "record.pt", weights_only=False)


@pytest.fixture(scope="module")
def task_with(tiny, tiny_folder, tmp_path_factory):
    def task(**changes) -> TrainingTask:
        settings = {
            "model.source": tiny_folder, "model.dtype": "float32", "train.doses": f"[{STEPS / 2}]",
            "train.batch_size": 4, "train.max_length": 16, "train.row_length": 16, "train.learning_rate": 0.01,
            "train.checkpoint_every_steps": 3,
        } | {f"train.{key}": value for key, value in changes.items()}  # fmt: skip
        config = load_config(overrides=[f"{key}={value}" for key, value in settings.items()])
        train = config.train.model_copy(update={"gradient_checkpointing": config.train.gradient_checkpointing is True})
        origin = {"training_key": "one", "base_digest": tiny.digest, "recipe": train.model_dump(mode="json")}
        examples, settings = _examples(), deepspeed_settings(train, "float32")
        return TrainingTask(tiny, train, 0, examples[:-2], examples[-2:], origin, settings, Path("unset"))

    return task


@pytest.fixture(scope="module")
def wide(tiny_folder, tmp_path_factory):
    """The tiny model with layers so wide that they outweigh the rest of a process's memory."""
    folder = tmp_path_factory.mktemp("wide")
    config = AutoConfig.from_pretrained(tiny_folder)
    config.update({"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 24, "head_dim": 192})
    config.update({"vocab_size": 4096})  # as in large models, no tensor is a large share of the whole
    torch.manual_seed(0)
    # Stored in another dtype than the training uses: otherwise files would only be mapped, not read into memory.
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder, max_shard_size="100MB")
    AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(folder)
    return resolve_model(ModelConfig(source=str(folder), dtype="float32"))


@pytest.fixture(scope="module")
def alone(task_with, tmp_path_factory):
    out = tmp_path_factory.mktemp("alone")
    return out, _run(task_with(), 1, out)


def _difference(one: Path, other: Path) -> float:
    a, b = (load_file(out / "epoch-3" / "adapter_model.safetensors") for out in (one, other))
    assert a.keys() == b.keys()
    return max((a[name] - b[name]).abs().max().item() for name in a)


def _losses(record: Record) -> list[float]:
    return [report.loss for report in record.reports]


def test_two_workers_train_what_one_trains(task_with, alone, tmp_path):
    record = _run(task_with(), 2, tmp_path)
    assert _losses(record) == pytest.approx(_losses(alone[1]), abs=1e-5)
    assert _difference(alone[0], tmp_path) < 1e-5


def test_long_rows_train_what_short_rows_train(task_with, alone, tmp_path):
    record = _run(task_with(row_length=64), 1, tmp_path)
    assert _losses(record) == pytest.approx(_losses(alone[1]), abs=1e-5)
    assert _difference(alone[0], tmp_path) < 1e-4


def test_recomputing_activations_changes_nothing(task_with, alone, tmp_path):
    record = _run(task_with(gradient_checkpointing=True), 1, tmp_path)
    assert _losses(record) == pytest.approx(_losses(alone[1]), abs=1e-6)
    assert _difference(alone[0], tmp_path) < 1e-6


@pytest.mark.parametrize("stage", [1, 3])
def test_every_zero_stage_trains_the_same(task_with, alone, tmp_path, stage):
    record = _run(task_with(zero_stage=stage), 2, tmp_path)
    assert _losses(record) == pytest.approx(_losses(alone[1]), abs=1e-4)
    assert _difference(alone[0], tmp_path) < 1e-4


@pytest.mark.drill
def test_under_zero_3_no_worker_ever_holds_the_whole_model(wide, task_with, tmp_path):
    task = replace(task_with(zero_stage=3, doses="[0.5]"), base=wide, validation=[])
    whole = 2 * sum(path.stat().st_size for path in wide.folder.glob("*.safetensors"))  # in float32
    record = _run(task, 2, tmp_path)
    # Half of the model, DeepSpeed's buckets, and one tensor at a time.
    assert 0.45 * whole < record.loading_bytes < 0.9 * whole


@pytest.mark.parametrize(("stage", "offload"), [(2, "[optimizer]"), (3, "[optimizer,parameters]")])
def test_offloading_to_the_host_trains_the_same(task_with, alone, tmp_path, stage, offload):
    record = _run(task_with(zero_stage=stage, offload=offload), 2, tmp_path)
    assert _losses(record) == pytest.approx(_losses(alone[1]), abs=1e-4)
    assert _difference(alone[0], tmp_path) < 1e-4


def test_strength_interpolates_between_the_base_and_a_fully_fine_tuned_model(task_with, tiny, tmp_path):
    changes = {"method": "full", "learning_rate": 1e-3}
    record = _run(task_with(**changes), 1, tmp_path / "one")
    partitioned = _run(task_with(**changes, zero_stage=3), 2, tmp_path / "two")
    assert _losses(record)[-1] < _losses(record)[0]
    assert _losses(partitioned) == pytest.approx(_losses(record), abs=1e-4)
    adapter = resolve_adapter(tmp_path / "two" / "epoch-3", tiny)
    trained = AutoModelForCausalLM.from_pretrained(adapter.folder, dtype=torch.float32).state_dict()
    base, adapted = load_model(tiny).state_dict(), AdaptedModel(load_model(tiny), adapter)
    with adapted.at_strength(1.0) as model:
        assert all(torch.allclose(value, trained[name], atol=1e-6) for name, value in model.state_dict().items())
    with adapted.at_strength(0) as model:
        assert all(torch.equal(value, base[name]) for name, value in model.state_dict().items())
    save_at_strength(adapter, tiny, 0.5, tmp_path / "half")
    half = AutoModelForCausalLM.from_pretrained(tmp_path / "half", dtype=torch.float32).state_dict()
    assert all(torch.allclose(value, (base[name] + trained[name]) / 2, atol=1e-6) for name, value in half.items())
    assert any((trained[name] - base[name]).abs().max() > 1e-4 for name in base)


def test_only_the_target_modules_get_an_adapter(task_with, tmp_path):
    _run(task_with(target_modules="[q_proj,down_proj]"), 1, tmp_path)
    names = load_file(tmp_path / "epoch-3" / "adapter_model.safetensors").keys()
    assert {name.split(".")[-3] for name in names} == {"q_proj", "down_proj"}


def test_a_deepspeed_file_overrides_our_settings(task_with, alone, tmp_path):
    path = tmp_path / "deepspeed.json"
    path.write_text('{"gradient_clipping": 0.001, "zero_optimization": {"overlap_comm": true}}')
    task = task_with(deepspeed_config=path)
    assert task.deepspeed["zero_optimization"] == task_with().deepspeed["zero_optimization"] | {"overlap_comm": True}
    record = _run(task, 1, tmp_path / "out")
    assert _losses(record)[0] == pytest.approx(_losses(alone[1])[0], abs=1e-6)
    assert _losses(record)[-1] != pytest.approx(_losses(alone[1])[-1], abs=1e-4)


def test_a_loss_that_is_not_finite_stops_every_worker_before_it_changes_a_weight(task_with, tmp_path):
    record = _run(task_with(learning_rate=1e30), 2, tmp_path)
    assert record.error.startswith("the loss is nan at step 2 (epoch 1.00), on conversations: e")
    assert (
        "lower train.learning_rate (1e+30) or correct the conversations; checkpoints of earlier steps are kept"
        in record.error
    )
    assert [report.step for report in record.reports] == [1]


def test_the_validation_loss_is_reported_before_the_first_step_and_at_every_dose(task_with, alone, tmp_path):
    whole = alone[1].validation
    assert list(whole) == [0, STEPS]
    assert whole[STEPS] != whole[0]
    two = _run(task_with(), 2, tmp_path).validation
    assert list(two.values()) == pytest.approx(list(whole.values()), abs=1e-5)


def test_a_step_report_counts_computed_tokens_and_padding(alone, task_with, tmp_path):
    report = _run(task_with(row_length=64), 2, tmp_path).reports[0]  # one row for two workers
    assert (report.num_workers, report.tokens) == (2, alone[1].reports[0].tokens)
    assert report.padding_share == pytest.approx(2 / (report.tokens + 2))
    assert report.waiting_share == pytest.approx(1 - (report.tokens + 2) / 2 / report.tokens)
    assert alone[1].reports[0].padding_share == alone[1].reports[0].waiting_share == 0
    assert report.peak_memory_bytes > 50_000_000


@pytest.mark.parametrize(("before", "after", "bound"), [(1, 1, 1e-6), (2, 1, 1e-5), (1, 2, 1e-5)])
def test_a_resumed_training_equals_an_uninterrupted_one_on_any_number_of_workers(
    task_with, alone, tmp_path, before, after, bound
):
    _run(task_with(), before, tmp_path / "first", stop=3)
    state = tmp_path / "first" / "state-3"
    record = _run(task_with(), after, tmp_path / "second", resume=state)
    assert [report.step for report in record.reports] == [4, 5, 6]
    assert _difference(alone[0], tmp_path / "second") < bound


def test_a_state_holds_only_the_trained_weights_and_damage_to_it_is_found(alone, tiny):
    folder = alone[0] / "state-3"
    verify_state(folder)
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert size < sum(path.stat().st_size for path in tiny.folder.glob("*.safetensors"))
    names = load_file(folder / "state-0.safetensors").keys()
    assert len(names) > 0
    assert all("lora_" in name for name in names)
    shard = folder / "state-0.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(CorruptStateError, match=r"state-0.safetensors changed after it was written"):
        verify_state(folder)
    (folder / STATE_NAME).unlink()
    with pytest.raises(CorruptStateError, match="has no readable"):
        verify_state(folder)


def test_rows_shorter_than_conversations_are_refused():
    with pytest.raises(InputError, match="row_length 100 is under max_length 512: raise it"):
        load_config(overrides=["train.row_length=100"])
