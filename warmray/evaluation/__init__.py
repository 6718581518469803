"""Items, contexts and beliefs become prompts; replies become verdicts and warmth scores."""
