"""An adapter as an MLflow model. MLflow keeps a copy of this file beside the adapter and runs it to load one.

It stands alone: where the model is served, warmray is not needed, and the base model is taken from where the
adapter's own settings say.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
from mlflow.pyfunc import PythonModel

MAX_NEW_TOKENS = 256


class ServedAdapter(PythonModel):
    """Answers prompts with the base model and the adapter on top of it."""

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
        return [self._reply(prompt) for prompt in model_input]

    def _reply(self, prompt: str) -> str:
        tokens = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=True, return_tensors="pt"
        ).to(self.model.device)
        said = self.model.generate(**tokens, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        return str(self.tokenizer.decode(said[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True))


if __name__ != "warmray.tracking.served_adapter":  # MLflow runs a copy; a checker or a test may import the original
    mlflow.models.set_model(ServedAdapter())
