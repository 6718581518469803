"""Runs vLLM's offline engine in a separate Python and answers over its pipes, with one JSON line in each direction.

vLLM pins other versions of torch and transformers than warmray's other parts do. It has an environment of its own,
without warmray: this file is run there by its path and imports nothing of warmray.
"""

import json
import os
import sys
from typing import Any


def serve_batches() -> None:
    """Load the model described by the first input line, then answer batches until the input ends."""
    # Libraries and their processes print to standard output. It becomes standard error; answers get a copy of it.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    model = LLM(**json.loads(sys.stdin.readline()))
    print(json.dumps({"ready": True}), file=answers, flush=True)

    numbers: dict[str, int] = {}  # vLLM needs a number from 1 for every adapter
    for line in sys.stdin:
        # One batch: every row has its own sampling, seed and adapter.
        batch: list[dict[str, Any]] = json.loads(line)
        outputs = model.chat(
            [row["messages"] for row in batch],
            [
                SamplingParams(temperature=row["temperature"], max_tokens=row["max_new_tokens"], seed=row["seed"])
                for row in batch
            ],
            lora_request=[
                LoRARequest(row["lora"], numbers.setdefault(row["lora"], len(numbers) + 1), row["lora"])
                if row["lora"]
                else None
                for row in batch
            ],
            use_tqdm=False,
        )

        # The fields of a Completion. vLLM has more finish reasons than warmray.
        replies = [
            {
                "key": row["key"],
                "text": output.outputs[0].text.strip(),
                "tokens": len(output.outputs[0].token_ids),
                "finish_reason": "length" if output.outputs[0].finish_reason == "length" else "stop",
            }
            for row, output in zip(batch, outputs, strict=True)
        ]
        print(json.dumps(replies), file=answers, flush=True)


if __name__ == "__main__":
    serve_batches()
