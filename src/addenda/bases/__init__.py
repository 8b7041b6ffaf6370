"""Everything that knows transformers' insides: architecture tables, hooks, attention, fingerprints, loading."""
