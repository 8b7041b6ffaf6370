"""Text: documents, prompts and conversations, from any source, as the tokens that a model reads."""
