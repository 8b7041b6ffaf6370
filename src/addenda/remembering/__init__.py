"""Text memories, one file each: modules without tensors, whose text is put in the window before a prompt."""
