"""Gates, one file each: for which tokens a whole module acts, whatever its kind."""
