"""What is seen inside a model: which tokens a module acts on, what it changes there, how it is made."""
