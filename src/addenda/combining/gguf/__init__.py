"""GGUF: a plain checkpoint as the one file that llama.cpp and its relatives read."""
