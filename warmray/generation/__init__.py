"""From prompts to completions, and the store that keeps what is finished."""
