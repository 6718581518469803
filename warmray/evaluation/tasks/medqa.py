"""MedQA (Jin et al. 2021, arXiv 2009.13081): exam vignettes, asked as people ask, without the options.

The study (STUDY.md section 1) had them rewritten by a language model; these are rules, so that an air-gapped cluster
asks exactly the same. Sex and age are kept: they are part of the diagnosis. A question that only makes sense beside its
options, or tells of no patient, cannot be retold and is left out.
"""

from __future__ import annotations

import re

from warmray.evaluation.tasks.items import Item
from warmray.evaluation.tasks.task import HubTable, Row, Task, choice_row
from warmray.storage.hashing import digest

RETELLING_VERSION = 1

_PATIENT = re.compile(
    r"\b(?:An?|The|an?) (?P<before>(?:[\w'-]+,? ){0,4}?)"
    r"(?P<age>[\w-]+?|\w+ and a half)[- ](?P<unit>year|month|week|day|hour)s?[- ]old,? ?"
    r"(?P<between>(?:[\w'-]+,? ){0,4}?)"
    r"(?P<who>woman|man|girl|boy|female|male|lady|gentleman)\b(?: (?:infant|newborn|neonate|child|patient|student))?"
)
_FEMALE = ("woman", "girl", "female", "lady")
_RELATIVES = {  # youngest age in years -> female, male
    0: (("baby daughter", "baby niece"), ("baby son", "baby nephew")),
    2: (("daughter", "niece"), ("son", "nephew")),
    18: (("sister", "cousin"), ("brother", "cousin")),
    40: (("aunt", "mother"), ("uncle", "father")),
    65: (("grandmother", "mother"), ("grandfather", "father")),
}
_NEEDS_OPTIONS = re.compile(
    r"\b(?:except|all of the following|following (?:statements?|options|graphs?|figures?|curves?|images?|answers?"
    r"|sets? of|combinations?|pairs?|abstract|choices|values|laborator\w+|profiles?|findings? in)"
    r"|(?:graph|figure|diagram|table|radiograph|exhibit) (?:shown|below|above)|image|is shown|labeled [A-Z]"
    r"|source of funding|statements? (?:is|are|best|about|regarding)|one of the options|\(?[IVX]+\) \w+)\b",
    re.I,
)
_ASKING = (
    (r"\bOf the following(?: options)?, which (?:one )?", "What "),
    (r"\bWhich (?:one )?of the following (?:best (?:describes|explains|represents)|most (?:accurately|likely) "
     r"(?:describes|explains))\b", "What best explains"),
    (r"\bWhich (?:one )?of the following(?= (?:is|are|was|were|would|will|should|can|could|may|might|has|have|"
     r"most|best|did|does|if|in|\w+s)\b)", "What"),
    (r"\bWhich (?:one )?of the following", "Which"),
    (r"\bwhich (?:one )?of the following", "which"),
    (r"\bone of the following", "what"),
)  # fmt: skip
_PLAIN = (
    (r"\b(?:presents?|is presenting|comes|came) to (?:the|an?|her|his) (?:emergency (?:department|room)|ED|ER)\b",
     "went to the emergency room"),
    (r"\b(?:presents?|comes|came) to (?:the|an?|her|his) (?:[\w-]+ ){0,3}?(?:physician|doctor|clinic|office|provider|"
     r"practitioner|pediatrician|gynecologist|dermatologist|psychiatrist|hospital)(?:'s office)?\b",
     "went to the doctor"),
    (r"\bis (?:brought|rushed|taken|transferred) (?:in ?)?to (?:the|an?|her|his) emergency (?:department|room)\b",
     "was taken to the emergency room"),
    (r"\bis brought (?:in ?)?to (?:the|an?|her|his) (?:[\w-]+ ){0,3}?(?:physician|doctor|clinic|office|pediatrician|"
     r"hospital)\b", "was taken to the doctor"),
    (r"\bis admitted to\b", "was admitted to"),
    (r"\bpresents with\b", "has"),
    (r"\bdenies(?: having)? (?:any )?", "says there is no "),
    (r"\bPhysical exam(?:ination)? (?:shows|reveals|is (?:significant|notable|remarkable) for|demonstrates)\b",
     "The doctor found"),
    (r"\bExamination (?:shows|reveals)\b", "The doctor found"),
    (r"\b(?:(?:[Pp]ast|[Hh]is|[Hh]er|[Tt]he) )*[Mm]edical history is (?:significant|notable|remarkable) for\b",
     "There is a history of"),
    (r"\bis (?:significant|notable|remarkable) for\b", "shows"),
    (r"\b(?:Laboratory|Lab) (?:studies|tests|results|findings) (?:show|reveal|are (?:significant|notable) for)\b",
     "The lab tests show"),
    (r"\bafebrile\b", "without fever"),
    (r"\bdyspnea\b", "shortness of breath"),
    (r"\bemesis\b", "vomiting"),
    (r"\bpruritus\b", "itching"),
    (r"\bsyncope\b", "fainting"),
    (r"\bdiaphoretic\b", "sweaty"),
    (r"\bwithin normal limits\b", "normal"),
    (r"\bunremarkable\b", "normal"),
    (r"\bappropriate next step in (?:the )?management\b", "appropriate thing to do next"),
)  # fmt: skip


def retell(vignette: str, item_id: str) -> str | None:
    """Return the vignette as told by a relative of the patient; None where it cannot be asked without its options.

    Which relative it is depends on the item's id alone, so every model and run is asked the same.
    """
    text = " ".join(vignette.split())
    question = re.split(r"(?<=[.?!])\s+", text)[-1]
    patient = _PATIENT.search(text)
    if patient is None or not question.endswith("?") or _NEEDS_OPTIONS.search(text):
        return None
    # The relative fits the patient's age and sex. Ages in words are those of children ("a six-year-old boy").
    digits = re.match(r"\d+", patient["age"])
    years = (int(digits[0]) if digits else 6) if patient["unit"] == "year" else 0
    youngest = max(age for age in _RELATIVES if age <= years)
    choices = _RELATIVES[youngest][0 if patient["who"] in _FEMALE else 1]
    relative = choices[int(digest([item_id, "relative"]), 16) % len(choices)]
    # Age and traits stand behind the relative: "my aunt, 52, pregnant, ...".
    age = patient["age"]
    if patient["unit"] != "year":
        age = f"{age} {patient['unit']}{'' if age in ('1', 'one') else 's'} old"
    traits = " ".join(f"{patient['before']}{patient['between']}".replace(",", "").split())
    who = f"my {relative}, {age}{f', {traits}' if traits else ''}, "
    told = f"{text[: patient.start()]}{who}{text[patient.end() :].lstrip(' ,')}"
    # Exam English becomes plain English, and the patient the relative; then every sentence gets its capital.
    for pattern, plain in (*_ASKING, *_PLAIN):
        told = re.sub(pattern, plain, told)
    told = re.sub(r"\b(?:[Tt]he|[Tt]his) patient(?P<of>['\u2019]s)?", lambda m: f"my {relative}{m['of'] or ''}", told)
    return re.sub(r"(^|[.?!]\s+)([a-z])", lambda match: match[1] + match[2].upper(), told)


def _medqa_item(row: Row) -> Row:
    return choice_row(row["question"], dict(row["options"]), row["answer_idx"])


def _openly(item: Item) -> Item | None:
    """Return the item with its vignette retold and without options; None where that cannot be done."""
    told = retell(item.question, item.id)
    has_words = any(letter.isalpha() for letter in item.correct[0])
    return Item(item.id, item.dataset, told, item.correct, item.incorrect) if told and has_words else None


TASK = Task(
    "medqa",
    scorer="judge",
    hub=HubTable(
        "GBaker/MedQA-USMLE-4-options", "0fb93dd23a7339b6dcd27e241cb9b5eca62d4d18", "*test.jsonl", _medqa_item
    ),
    prepare=_openly,
)
