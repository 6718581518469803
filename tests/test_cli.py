import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys

import pytest
import typer

from warmray.cli import app, run
from warmray.config import RunConfig, load_config
from warmray.config_text import config_keys
from warmray.errors import InputError

COMMANDS = [command.name for command in app.registered_commands] + [group.name for group in app.registered_groups]
HEAVY = ("torch", "ray", "mlflow", "deepspeed", "transformers", "pandas")
HELP = f"""
import sys
from warmray.cli import run
code = run(sys.argv[1:])
print([name for name in {HEAVY} if name in sys.modules])
sys.exit(code)
"""


def _warmray(*arguments: str, **settings) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from warmray.cli import main; main()", *arguments]
    return subprocess.run(command, **{"capture_output": True, "text": True, "timeout": 60} | settings)


def test_help_lists_every_command_with_a_sentence(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    assert len(COMMANDS) >= 12
    for name in COMMANDS:
        assert re.search(rf"^│ {name} +[A-Z].*\. *│$", text, re.M), name


def test_no_arguments_print_the_help(capsys):
    assert run([]) == 0
    assert "Usage: warmray" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_and_argument_is_explained(name):
    command = typer.main.get_command(app).commands[name]
    for each in getattr(command, "commands", {"": command}).values():
        for parameter in each.params:
            assert parameter.help.endswith("."), parameter.name
        assert each.help.endswith(".")


@pytest.mark.parametrize("command", [(), ("sweep",), ("gate",), ("plan",), ("evaluate",), ("ui",)])
def test_help_imports_no_heavy_library(command):
    done = subprocess.run([sys.executable, "-c", HELP, *command, "--help"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_that_nobody_reads_is_no_verdict():
    reader, writer = os.pipe()
    os.close(reader)
    done = _warmray("--help", capture_output=False, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["swep"], "No such command 'swep'; did you mean 'sweep'? (see warmray --help)"),
        (["data", "ftch"], "No such command 'ftch'; did you mean 'fetch'? (see warmray data --help)"),
        (["sweep", "--recip", "x"], "No such option: --recip; did you mean '--recipe'? (see warmray sweep --help)"),
        (["train", "--qqq"], "No such option: --qqq (see warmray train --help)"),
        (["sweep", "--set"], "Option '--set' requires an argument"),
        (["sweep", "extra"], "unexpected extra argument"),
        (["gate"], "Missing argument 'RESULT' (see warmray gate --help)"),
        (["data"], "Missing command"),
        (["ui", "--port", "http"], "--port 'http': Input should be a valid integer"),
        (["ui", "--port", "99999"], "--port '99999': Input should be less than or equal to 65535"),
        (["sweep", "--preset", "quickstat"], "unknown preset 'quickstat'; did you mean 'quickstart'?"),
        (["sweep", "--preset", "quickstart", "--config", "my.yaml"], "give one of the two"),
        (["analyze", "x", "--covariance", "clusterd"], "unknown; did you mean 'clustered'?"),
        (["train", "--resume"], "--resume needs --name NAME"),
        (["evaluate", "--strength", "0.5"], "--strength 0.5 needs an adapter"),
        (["evaluate", "--adapter", "x", "--strength", "nan"], "--strength 'nan': give a finite number"),
        (["evaluate", "--adapter", "x", "--strength", "-inf"], "--strength '-inf': give a finite number"),
        (["config", "train.lerning_rate"], "unknown key 'train.lerning_rate'; did you mean 'train.learning_rate'?"),
        (["a\nb"], "No such command"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, hint):
    with pytest.raises(InputError) as caught:
        run(arguments)
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_mistake_has_neither_a_box_nor_a_traceback():
    done = _warmray("swep")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "warmray: error: No such command 'swep'; did you mean 'sweep'? (see warmray --help)\n"


@pytest.mark.parametrize("budget", ["nan", "inf", "-inf", "0", "-2pp", "0pp", "two", ""])
@pytest.mark.parametrize("command", [["gate", "RESULT"], ["power"]])
def test_a_budget_must_be_a_finite_number_above_0(command, budget):
    with pytest.raises(InputError, match=re.escape(f"--budget {budget!r}: ")):
        run([*command, "--budget", budget])


def test_a_budget_may_be_written_in_three_ways(capsys):
    texts = set()
    for budget in ("3pp", "3 points", "3"):
        assert run(["power", "--budget", budget]) == 0
        texts.add(capsys.readouterr().out)
    assert len(texts) == 1


@pytest.mark.parametrize("job", ["sweep", "train", "evaluate", "corpus", "gate"])
def test_the_jobs_explain_themselves_and_end_mistakes_alike(job):
    program = [sys.executable, f"jobs/{job}.py"]
    helped = subprocess.run([*program, "--help"], capture_output=True, text=True, timeout=60)
    assert (helped.returncode, helped.stderr) == (0, "")
    assert f"Usage: jobs/{job}.py [OPTIONS]" in helped.stdout
    wrong = subprocess.run([*program, "--sett", "x"], capture_output=True, text=True, timeout=60)
    assert wrong.returncode == 2
    assert len(wrong.stderr.splitlines()) == 1


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_is_resumable(ending):
    code = "import time\nfrom warmray.command_line import job\ndef wait() -> int:\n    print('ready', flush=True)\n"
    command = [sys.executable, "-c", f"{code}    time.sleep(60)\n    return 0\njob(wait)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(ending)
        assert process.stderr.read() == "warmray: stopped; the same command continues from here\n"
    assert process.returncode == 5


def test_a_submitted_sweep_gets_the_arguments_that_were_given(monkeypatch):
    from warmray.cluster import submit

    submitted = []
    monkeypatch.setattr(submit, "submit_and_follow", lambda *arguments: submitted.append(arguments) or 5)
    arguments = ["--preset", "quickstart", "--recipe", "study", "--cells", "plain", "--set", "seed=1"]
    assert run(["sweep", *arguments, "--set", "tracking.experiment=mine"]) == 5
    assert submitted == [
        (
            "sweep",
            [*arguments, "--set", "tracking.experiment=mine"],
            "mine",
        )
    ]


def test_a_busy_port_ends_with_exit_code_2_and_one_line():
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = _warmray("ui", "--port", str(port))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"warmray: error: --port {port}: cannot listen on 127.0.0.1 (Address already in use)")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("key", config_keys(), ids=lambda key: key.name)
def test_every_key_and_section_says_what_it_means(key):
    assert key.meaning


def test_config_lists_every_key_with_type_default_and_meaning(capsys):
    assert run(["config"]) == 0
    text = capsys.readouterr().out
    leaves = {key for key, _ in _leaves(load_config().model_dump())}
    assert leaves <= {key.name for key in config_keys()}
    for key in leaves:
        assert re.search(rf"^ *{re.escape(key)}( = |$)", text, re.M), key
    assert "  train.learning_rate = 0.001  (number > 0)\n    Peak learning rate of AdamW.\n" in text
    assert max(map(len, text.splitlines())) <= 80


def _leaves(tree, prefix=""):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def test_config_of_a_section_lists_its_keys_alone(capsys):
    assert run(["config", "corpus"]) == 0
    assert re.findall(r"^ *(\w+\.\w+) =", capsys.readouterr().out, re.M) == ["corpus.path"]


def test_config_of_a_key_has_the_whole_docstring_and_the_limits(capsys):
    assert run(["config", "train.num_workers"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert text.startswith("train.num_workers = auto (integer > 0 | auto | [integer > 0, integer > 0])")
    assert text.endswith("goes on with more or fewer when nodes come or go.")


def test_config_shows_what_a_preset_and_an_override_change(capsys):
    assert run(["config", "train", "--recipe", "study", "--set", "train.lora_rank=4"]) == 0
    text = capsys.readouterr().out
    assert "train.learning_rate = 0.001 -> 1e-05  (number > 0)" in text
    assert "train.lora_rank = 8 -> 4  (" in text
    assert "train.zero_stage = 2  (" in text


def test_the_schema_is_the_trees(capsys):
    assert run(["config", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == RunConfig.model_json_schema()
