"""Remote: models behind an address are asked; whatever is answered is stored, so that it is asked for once."""
