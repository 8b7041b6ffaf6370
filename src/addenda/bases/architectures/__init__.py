"""One table per architecture, in a file named as transformers' model_type; nothing else lies here."""
