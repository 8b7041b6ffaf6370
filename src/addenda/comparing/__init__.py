"""Every way to give a model knowledge, compared at one budget: what it learns, forgets and costs."""
