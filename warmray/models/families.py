"""Families of models: a judge must not be of the family that it judges.

Models favour their own text (Panickssery, Bowman & Feng 2024, arXiv 2404.13076).

The table is ``data/families.yaml``. A model tuned or distilled from open weights counts as the family of those weights.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from warmray.config import EvaluateConfig, JudgeConfig
from warmray.errors import InputError

POSSIBLY = "possibly "
"""Stands before a family that only a widely shared architecture suggests."""


def family_of(name: str, architecture: str | None = None) -> str | None:
    """Return the family of a model, or None where the table does not know it.

    Args:
        name: As a hub, a provider or a server calls the model; of a path, only the folder's own name counts.
        architecture: The class that ``config.json`` names, such as ``Qwen2ForCausalLM``. It counts only where the name
            says nothing; one that several families share gives ``possibly llama``.
    """
    words = _own_name(name).casefold()
    for family, entry in _table().items():
        # A word counts where no letter stands beside it: "phi" must not be found in "dolphin".
        if any(re.search(rf"(?<![a-z]){re.escape(word)}(?![a-z])", words) for word in entry["names"]):
            return family
    for family, entry in _table().items():
        if architecture in entry.get("architectures", ()):
            return family
        if architecture in entry.get("shared_architectures", ()):
            return POSSIBLY + family
    return None


def check_judges(judge: JudgeConfig, evaluated: str, evaluated_architecture: str | None) -> str:
    """Refuse a judge that is of the evaluated model's family.

    Args:
        judge: The judge and its panel.
        evaluated: Name of the evaluated model: a hub id, a folder, or what :func:`describe_folder` returns.
        evaluated_architecture: The class that its ``config.json`` names, where that is known.

    Returns:
        A remark for the report where a family is not known for certain; empty where all are.

    Raises:
        InputError: a judge is the evaluated model or of its family, or two judges of the panel are one model.
    """
    own = family_of(evaluated, evaluated_architecture)
    remarks = []
    for member in judge.members:
        if member.model == evaluated:
            raise InputError(f"evaluate.judge: {member.model} would judge itself: name a model of another family")
        family = family_of(member.model)
        if family is not None and family == own:
            raise InputError(
                f"evaluate.judge: {member.model} is of the same family ({family}) as the evaluated model {evaluated}, "
                "and models favour their own family: name a judge of another family"
            )
        if family is None:
            remarks.append(f"the family of the judge {member.model} is not known")
        elif own == POSSIBLY + family:
            remarks.append(
                f"the evaluated model {evaluated} is possibly of the family of the judge {member.model} ({family}): "
                "its name does not say, and its architecture is shared"
            )
    if len({(member.model, member.base_url) for member in judge.members}) < len(judge.members):
        raise InputError("evaluate.judge.panel: a model appears twice and would vote twice: name another one")
    if own is None:
        remarks.insert(0, f"the family of the evaluated model {evaluated} is not known")
    if remarks:
        remarks.append("make sure that judge and evaluated model are of different families")
    return "; ".join(remarks)


def check_evaluation(evaluate: EvaluateConfig, base_folder: Path) -> str:
    """Refuse a judge of the family of the model that is evaluated: the endpoint's, or else the one in a folder.

    Returns:
        The remark of :func:`check_judges`; empty where no judge is configured.
    """
    if evaluate.judge is None:
        return ""
    if evaluate.engine == "openai" and evaluate.endpoint:
        return check_judges(evaluate.judge, evaluate.endpoint.model, None)
    return check_judges(evaluate.judge, *describe_folder(base_folder))


def describe_folder(folder: Path) -> tuple[str, str | None]:
    """Return the name and the architecture of a local model for :func:`check_judges`, from its ``config.json``.

    The name holds the folder's own and, in brackets, the ``_name_or_path`` that the model was saved with.
    """
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        settings = {}
    origin = _own_name(str(settings.get("_name_or_path") or ""))
    architectures = settings.get("architectures") or [None]
    return _own_name(str(folder)) + (f" ({origin})" if origin else ""), architectures[0]


def _own_name(name: str) -> str:
    """Return a hub id or a served name as it is, and the last folder of a path or an address."""
    if not (name.startswith(("/", "~", ".")) or "://" in name):
        return name
    parts = name.rstrip("/").split("/")
    # The hub's cache: models--Qwen--Qwen2.5-32B-Instruct/snapshots/<commit>
    return parts[-3] if parts[-2:-1] == ["snapshots"] else parts[-1]


@lru_cache(maxsize=1)
def _table() -> dict[str, dict[str, Any]]:
    path = resources.files("warmray") / "models" / "data" / "families.yaml"
    table: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return table
