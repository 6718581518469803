"""What all commands share: the options that name a configuration, how arguments are read, how mistakes are reported."""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from warmray.config import RunConfig, load_config, preset_names, recipe_names
from warmray.errors import InputError, nearest, run_and_exit
from warmray.quiet import quiet_environment

Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help=f"A configuration of warmray's own: {', '.join(preset_names())} (default: quickstart).",
    ),
]
ConfigFile = Annotated[
    str | None, typer.Option("--config", metavar="FILE", help="A YAML file with the same keys, instead of a preset.")
]
Recipe = Annotated[
    str | None,
    typer.Option("--recipe", metavar="NAME", help=f"How to train: {', '.join(recipe_names())} (values for `train`)."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set one key, such as train.doses=[0.5,1]; may be repeated. `warmray config` lists the keys.",
    ),
]
Cells = Annotated[
    str | None,
    typer.Option("--cells", metavar="NAMES", help="Ask only these cells, such as plain,sad+wrong (evaluate.cells)."),
]


def config_from(
    preset: str | None, file: str | None, recipe: str | None, overrides: list[str] | None, cells: str | None = None
) -> RunConfig:
    """Load the configuration that the shared options name.

    Raises:
        InputError: both a preset and a file are given, or the configuration is wrong.
    """
    if preset and file:
        raise InputError(f"--preset {preset} and --config {file}: give one of the two")
    named = [f"recipe={recipe}"] if recipe else []
    if cells:
        # The preset's deciding cells may not be among them: those of the default decide, unless --set says others.
        named += [f"evaluate.cells=[{cells}]", "gate.cells=null"]
    return load_config(preset, file, [*named, *(overrides or [])])


# Parsers of option values. typer puts the option and the value in front of what a ValueError says.


def finite(value: Any) -> float:
    """Read a number that is neither infinite nor "not a number"."""
    try:
        number = float(value)
    except ValueError:
        raise ValueError("not a number") from None
    if not math.isfinite(number):
        raise ValueError("give a finite number")
    return number


def positive(value: Any) -> float:
    """Read a finite number above 0."""
    number = finite(value)
    if number <= 0:
        raise ValueError("give a number above 0")
    return number


def points(value: Any) -> float:
    """Read percentage points: "2pp", "2 points" and "2" are the same."""
    return positive(str(value).strip().removesuffix("pp").removesuffix("points").strip())


def one_of(*names: str) -> Callable[[Any], str]:
    """Return a parser that takes these names only."""

    def parse(value: Any) -> str:
        if value not in names:
            raise ValueError(f"unknown{nearest(str(value), list(names))} (choose from: {', '.join(names)})")
        return str(value)

    return parse


def new_app(sentence: str) -> typer.Typer:
    """Return an application without commands; ``sentence`` says what it is for."""
    return typer.Typer(
        help=sentence,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
    )


def run_app(app: typer.Typer, argv: list[str], name: str) -> int:
    """Run the command that ``argv`` names and return its exit code; ``name`` is what the help calls the program.

    typer's own ``main`` is not used: it has exit codes of its own for Ctrl-C and for a reader that is gone.

    Raises:
        InputError: an unknown command or option, a missing argument, or a value of the wrong type.
    """
    try:
        command = typer.main.get_command(app)
        with command.make_context(name, argv) as context:
            return command.invoke(context) or 0
    except typer.Exit as end:  # after --help
        return end.exit_code
    except typer.TyperException as mistake:
        raise InputError(_mistake_line(mistake, name)) from mistake


def _mistake_line(mistake: typer.TyperException, name: str) -> str:
    cause = mistake.__cause__
    if isinstance(mistake, typer.BadParameter) and mistake.param and isinstance(cause, ValidationError):
        problem = cause.errors()[0]
        option = next((text for text in mistake.param.opts if text.startswith("-")), mistake.param.display_name_raw)
        return f"{option} {problem['input']!r}: {problem['msg'].removeprefix('Value error, ')}"
    line = " ".join(mistake.format_message().split()).rstrip(".").replace(". Did you", "; did you")
    if near := getattr(mistake, "possibilities", None):  # of an unknown option
        line = f"{mistake.message}; did you mean {near[0]!r}?"
    context = getattr(mistake, "ctx", None)
    return f"{line} (see {context.command_path if context else name} --help)"


def start(main: Callable[[list[str]], int]) -> None:
    """Run ``main`` with this process's arguments and end the process with its exit code.

    SIGTERM (``ray job stop``, or the time limit of a pipeline) ends it in order, as Ctrl-C does.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    quiet_environment()
    run_and_exit(lambda: main(sys.argv[1:]))


def job(command: Callable[..., int]) -> None:
    """Run one command as a program of its own."""
    app = new_app("")
    app.command()(command)
    start(lambda argv: run_app(app, argv, sys.argv[0]))
