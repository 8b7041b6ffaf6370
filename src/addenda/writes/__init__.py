"""Write rules, one file each: how a text, chunk by chunk, gets into a module."""
