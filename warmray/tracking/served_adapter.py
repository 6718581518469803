"""An adapter as an MLflow model. MLflow keeps a copy of this file beside the adapter and runs it to load one.

It imports nothing of warmray, which is not needed where the model is served. The base model is the one that the
adapter's settings name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
from mlflow.pyfunc import PythonModel

MAX_NEW_TOKENS = 256


class ServedAdapter(PythonModel):
    """Answers prompts with the base model and its adapter."""

    def load_context(self, context: Any) -> None:
        """Load the base model and the adapter."""
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = context.artifacts["adapter"]
        settings = json.loads((Path(folder) / "adapter_config.json").read_text(encoding="utf-8"))
        base = settings["base_model_name_or_path"]
        self.tokenizer = AutoTokenizer.from_pretrained(base)
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
        self.model = PeftModel.from_pretrained(model, folder).eval()

    def predict(self, context: Any, model_input: list[str], params: dict[str, Any] | None = None) -> list[str]:
        """Return the greedy reply to each prompt."""
        replies = []
        for prompt in model_input:
            chat = [{"role": "user", "content": prompt}]
            tokens = self.tokenizer.apply_chat_template(
                chat, add_generation_prompt=True, return_dict=True, return_tensors="pt"
            ).to(self.model.device)
            output = self.model.generate(**tokens, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
            reply = output[0, tokens["input_ids"].shape[1] :]
            replies.append(str(self.tokenizer.decode(reply, skip_special_tokens=True)))
        return replies


# MLflow runs a copy of this file under another name. Type checkers and tests may import the original.
if __name__ != "warmray.tracking.served_adapter":
    mlflow.models.set_model(ServedAdapter())
