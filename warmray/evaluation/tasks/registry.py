"""Which tasks there are, and the items of those that a configuration names."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import warmray.evaluation.tasks as tasks_folder
from warmray.config import EvaluateConfig
from warmray.errors import InputError, nearest
from warmray.evaluation.tasks import embedded
from warmray.evaluation.tasks.items import Item, read_items, spread
from warmray.evaluation.tasks.study_files import read_study_file
from warmray.evaluation.tasks.task import Task
from warmray.storage.home import home

_MODULES = [
    importlib.import_module(f"{tasks_folder.__name__}.{found.name}")
    for found in pkgutil.iter_modules(tasks_folder.__path__)
    if found.name not in ("registry", "hub")  # these import this module
]
TASKS: dict[str, Task] = {module.TASK.name: module.TASK for module in _MODULES if hasattr(module, "TASK")}
"""By the ``dataset`` of their items: every file of this folder that defines ``TASK``."""
_OWN_QUESTIONS = Task("own questions", scorer="match")
"""Items of a data set without a task: short answers, asked as they stand in every cell."""


def task_of(item: Item) -> Task:
    """Return how an item is asked and scored."""
    return TASKS.get(item.dataset, _OWN_QUESTIONS)


def load_items(config: EvaluateConfig) -> list[Item]:
    """Read the questions of all tasks that ``config`` names, checked for the beliefs that it asks for.

    Raises:
        InputError: an unknown task, no file for it, a broken line, a duplicate id, or an item without a wrong answer
            when a belief needs one.
    """
    items: dict[str, Item] = {}
    for name in config.tasks:
        path = _file_of(name, config)
        found = read_study_file(path) if path.suffix == ".json" else read_items(path)
        # Items that bring their prompts are asked as they are.
        asked = [item if item.prompts else task_of(item).prepare(item) for item in found]
        for item in filter(None, asked):
            if item.id in items:
                raise InputError(f"evaluate.tasks: two tasks have an item with the id {item.id!r}: ids must be unique")
            if not item.incorrect and not item.prompts and "wrong" in config.beliefs and not task_of(item).is_control:
                raise InputError(
                    f"item {item.id!r} of task {name} has no wrong answer, which the belief `wrong` states: "
                    "fill `incorrect`, or take `wrong` out of evaluate.beliefs"
                )
            items[item.id] = item
    return spread(items.values(), config.max_items)


def _file_of(name: str, config: EvaluateConfig) -> Path:
    if name == embedded.TASK.name:
        return embedded.QUESTIONS
    if "/" in name:
        return Path(name)
    if name not in TASKS:
        raise InputError(
            f"evaluate.tasks: unknown task {name!r}{nearest(name, list(TASKS))} (there are: {', '.join(TASKS)}; or "
            "give the absolute path of a file of items)"
        )
    folder = Path(config.data) if config.data else default_data_folder()
    path = folder / f"{name}.jsonl"
    if not path.is_file():
        raise InputError(
            f"no questions for task {name}: {path} is missing; `warmray data fetch {name}` copies it from the hub, or "
            "set evaluate.data to the absolute path of the folder that holds it"
        )
    return path


def default_data_folder() -> Path:
    """Return the folder where the files of tasks are expected, and to which they are fetched."""
    return home() / "data"
