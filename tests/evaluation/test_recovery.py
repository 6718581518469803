"""A drill on a cluster of three Rays on this machine: a node is lost in the middle of an evaluation."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from tests.nodes import PROGRAMS
from warmray.evaluation.stores import completion_store

pytestmark = pytest.mark.drill
ITEMS = 40
WARMTH_PROMPTS = 10
ROWS = ITEMS * 9 * 4 + WARMTH_PROMPTS


def test_what_a_lost_node_was_asked_is_answered_once_by_the_others(nodes, tiny_folder, tiny_adapter, home):
    command = [PROGRAMS / "warmray", "evaluate", "--adapter", tiny_adapter.folder, "--strength", "0.5"]
    settings = {
        "model.source": tiny_folder,
        "model.dtype": "float32",
        "evaluate.max_items": ITEMS,
        "evaluate.warmth_prompts": WARMTH_PROMPTS,
        "evaluate.max_new_tokens": 48,
        "evaluate.batch_size": 8,
        "evaluate.contexts": "[none,happy,sad,angry,close,looks_up,stands_above,high_stakes,low_stakes]",
        "evaluate.beliefs": "[absent,wrong,doubts_right,right]",
    }
    command += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    process = subprocess.Popen(
        command,
        env=os.environ | {"RAY_ADDRESS": nodes.cluster.address},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 300
    while not len(completion_store().keys()) >= 100:
        assert process.poll() is None, process.communicate()[0]
        if time.monotonic() > deadline:
            raise TimeoutError("nothing happened for five minutes")
        time.sleep(0.1)
    nodes.lose()
    had = len(completion_store().keys())
    told = process.communicate(timeout=300)[0]
    nodes.come()
    assert process.returncode == 0, told
    assert had < ROWS / 2
    kept = completion_store().read()["key"]
    assert len(kept) == kept.nunique() == ROWS, told
