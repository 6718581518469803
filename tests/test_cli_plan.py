import subprocess
import sys

import pytest

from warmray.cli import run
from warmray.errors import InputError

ALONE = """
import socket, sys
socket.socket.connect = socket.getaddrinfo = None  # whoever opens a connection fails
from warmray.cli import main
sys.argv = ["warmray", "plan", *sys.argv[1:]]
try:
    main()
finally:
    print([name for name in ("ray", "deepspeed", "mlflow", "peft") if name in sys.modules])
"""


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", ALONE, *arguments], capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_a_plan_needs_no_network_and_none_of_the_training_libraries():
    done = _run("--preset", "llama-3.1-70b", "--gpus", "4", "--gpu", "H100-80GB", "--price", "2.5")
    *_, recommendation, imported = done.stdout.splitlines()
    assert (done.returncode, done.stderr, imported) == (0, "", "[]")
    assert recommendation.startswith("Recommended: ZeRO-3 with gradient checkpointing on 4 x H100-80GB")


@pytest.mark.slow
def test_too_few_gpus_end_with_exit_code_2_and_one_line_that_says_how_many_would_do():
    done = _run("--preset", "llama-3.1-70b", "--gpus", "2")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "use 3 GPUs" in done.stderr


def test_the_studys_recipe_is_planned_with_the_studys_corpus_and_any_other_with_its_own(capsys):
    for recipe, corpus in (("study", "the study's corpus"), ("warmray", "the packaged corpus")):
        assert run(["plan", "--preset", "llama-3.1-8b", "--recipe", recipe]) == 0
        assert corpus in capsys.readouterr().out
    run(["plan", "--preset", "llama-3.1-8b", "--conversations", "5000", "--mean-tokens", "700"])
    assert "5,000 conversations of 700 tokens" in capsys.readouterr().out


def test_full_training_and_offloading_are_planned_as_set(capsys):
    settings = ["train.method=full", "train.zero_stage=2", "train.offload=[optimizer]"]
    run(["plan", "--preset", "llama-3.1-8b", *(part for setting in settings for part in ("--set", setting))])
    text = capsys.readouterr().out
    assert "8,030,261,248 parameters, all of them trained" in text
    assert "*2+optimizer" in text
    assert "As configured: ZeRO-2 without gradient checkpointing (optimizer in host memory) on 2 x H100-80GB" in text


def test_a_gpu_without_a_name_is_planned_by_its_memory(capsys):
    run(["plan", "--preset", "llama-3.1-8b", "--gpu-memory", "48", "--tokens-per-second", "5000"])
    assert "2 x GPU of 48 GiB: 43.2 of 48 GiB planned for" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--gpu", "H100-80G"], "unknown; did you mean 'H100-80GB'?"),
        (["--gpus", "two"], "--gpus 'two': Input should be a valid integer"),
        (["--gpus", "1.5"], "--gpus '1.5': Input should be a valid integer"),
        (["--gpus", "0"], "--gpus '0': Input should be greater than or equal to 1"),
        (["--price", "-1"], "--price '-1': give a number above 0"),
        (["--recipe", "studdy"], "unknown recipe 'studdy'; did you mean 'study'?"),
        (["--set", "train.target_modules=[q_prj]"], "is called 'q_prj'; did you mean 'q_proj'?"),
        (["--set", "model.source=org/other"], "the architecture of model.source 'org/other' is not known"),
    ],
)
def test_a_mistake_in_the_arguments_is_one_line(arguments, hint):
    with pytest.raises(InputError) as caught:
        run(["plan", "--preset", "llama-3.1-8b", *arguments])
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)
