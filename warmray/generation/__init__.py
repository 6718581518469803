"""Generation engines: transformers, vLLM, and OpenAI-compatible endpoints."""
