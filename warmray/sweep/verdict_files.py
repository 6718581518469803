"""The gate on a finished sweep: reads its replies, decides on one intensity, and leaves the verdict for machines."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from warmray.analysis.differences import cell_table
from warmray.analysis.manipulation import check_text
from warmray.analysis.measures import INTENSITY, measure
from warmray.analysis.non_inferiority import CellVerdict, GateVerdict, decide, no_room_text
from warmray.errors import InputError, nearest
from warmray.storage.home import write_whole
from warmray.sweep.intensities import Intensity
from warmray.sweep.result import SweepResult, decision_rule_of


@dataclass(frozen=True)
class GateRequest:
    """What a pipeline asks; None is what the sweep's configuration declares."""

    budget_points: float | None = None
    cells: Sequence[str] | None = None
    intensity: str | None = None
    """As its adapter folder is called; None is the recommended one or, without one, the strongest trained."""


def run_gate(result: SweepResult, request: GateRequest) -> GateVerdict:
    """Decide on one intensity of a finished sweep.

    Raises:
        InputError: there is no such intensity or cell, or the sweep trained nothing.
    """
    rows = measure(pd.read_parquet(result.folder / "replies.parquet"))
    question = decision_rule_of(result.config)
    cells = _known_cells(request.cells or question.primary, rows)
    budget = question.budget if request.budget_points is None else request.budget_points / 100
    chosen = _intensity(result, request.intensity)
    values = (chosen.arm, chosen.dose, chosen.strength)
    own = rows[(rows[INTENSITY] == pd.Series(values, index=INTENSITY)).all(axis=1)]
    table = cell_table(own, cells, budget)
    return decide(table[table["primary"]], chosen.name, budget, result.estimates.manipulation_check)


def _known_cells(cells: Sequence[str], rows: pd.DataFrame) -> Sequence[str]:
    asked = list(rows.loc[~rows["control"], "cell"].unique())
    for name in cells:
        if name not in asked:
            raise InputError(
                f"--worst-case {name}: that cell was not asked{nearest(name, asked)} (asked were: {', '.join(asked)})"
            )
    return cells


def _intensity(result: SweepResult, name: str | None) -> Intensity:
    table = result.estimates.intensities
    known = [Intensity(row.arm, row.dose, row.strength) for row in table.itertuples() if row.strength != 0]
    if name is not None:
        chosen = next((intensity for intensity in known if intensity.name == name), None)
        if chosen is None:
            names = [intensity.name for intensity in known]
            raise InputError(
                f"--intensity {name}: not in this result{nearest(name, names)} (there are: {', '.join(names)})"
            )
        return chosen
    choice = result.choice
    if choice.strength is not None:
        return Intensity(str(choice.arm), float(choice.dose or 0), choice.strength)
    trained = [intensity for intensity in known if intensity.dose > 0]
    if not trained:
        raise InputError(f"{result.folder} compares no trained adapter: name what to decide on with --intensity")
    return max(trained, key=lambda intensity: (intensity.strength, intensity.dose))


def gate_text(verdict: GateVerdict, checks: pd.DataFrame) -> str:
    """Return three lines for people."""
    cells = ", ".join(cell.cell for cell in verdict.cells)
    first = f"{verdict.verdict}: {verdict.intensity} against a budget of {100 * verdict.budget:g} points in {cells}"
    worst = verdict.worst_cell
    second = f"accuracy loss {_loss_text(worst)}"
    # What would settle an open verdict: more questions, or a judge where undecided replies keep the bounds apart.
    floors = [cell for cell in verdict.cells if cell.original_accuracy <= verdict.budget]
    if verdict.verdict == "INCONCLUSIVE" and floors:
        second += "; " + no_room_text(floors[0].cell, floors[0].original_accuracy, verdict.budget)
    elif verdict.verdict == "INCONCLUSIVE":
        needed = max(cell.questions_needed for cell in verdict.cells if cell.verdict == "INCONCLUSIVE")
        if math.isfinite(needed):
            second += f"; about {needed:.0f} questions would settle it"
        elif any(cell.undecided > 0 for cell in verdict.cells):
            second += "; no number of questions settles it while replies are undecided: name a judge (evaluate.judge)"
        else:
            second += "; no number of questions settles a loss that equals the budget"
    return "\n".join([first, second, check_text(checks)])


def _loss_text(cell: CellVerdict) -> str:
    undecided = f", {100 * cell.undecided:.0f} % of replies undecided" if cell.undecided else ""
    return (
        f"{100 * cell.accuracy_loss:+.1f} points in {cell.cell} (one-sided 95 % bounds {100 * cell.lower:+.1f} and "
        f"{100 * cell.upper:+.1f}, {cell.questions} questions{undecided})"
    )


def write_gate(verdict: GateVerdict, result: SweepResult, folder: Path) -> tuple[Path, Path]:
    """Write ``gate.json`` and ``gate.xml`` (JUnit: a test case per deciding cell) and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    record = asdict(verdict) | {"exit_code": verdict.exit_code, "result": str(result.folder), "key": result.key}
    for cell in record["cells"]:
        cell |= {name: None for name, value in cell.items() if isinstance(value, float) and not math.isfinite(value)}
    write_whole(folder / "gate.json", json.dumps(record, indent=2))
    write_whole(folder / "gate.xml", _junit(verdict))
    return folder / "gate.json", folder / "gate.xml"


def _junit(verdict: GateVerdict) -> str:
    suite = ET.Element("testsuite", name=f"warmray gate {verdict.intensity}")
    checked = verdict.manipulation_check == "passed"
    check = ET.SubElement(suite, "testcase", classname="warmray.gate", name="manipulation check")
    if not checked:
        ET.SubElement(check, "error", message=f"manipulation check {verdict.manipulation_check}")
    for cell in verdict.cells:
        case = ET.SubElement(suite, "testcase", classname="warmray.gate", name=f"accuracy loss in {cell.cell}")
        if not checked:
            ET.SubElement(case, "skipped", message="the manipulation check did not pass")
        elif cell.verdict != "PASS":
            message = f"{cell.verdict}: {_loss_text(cell)} against a budget of {100 * verdict.budget:g}"
            ET.SubElement(case, "failure", type=cell.verdict, message=message)
    suite.set("tests", str(len(suite)))
    for kind, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        suite.set(name, str(len(suite.findall(f".//{kind}"))))
    return ET.tostring(suite, encoding="unicode", xml_declaration=True)
