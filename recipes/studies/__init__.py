"""Studies of trained modules: Neutral Residues, Registers, recall of facts, composition.

    python -m recipes.studies                         # every run that has no record yet, then tables and plots
    python -m recipes.studies --quick                 # a small version of all, into runs/quick
    python -m recipes.studies --only recall --report  # tables and plots of the records there are
    python -m recipes.studies --dry-run               # what is done and what is to do

A study is a file here: its runs (first a sweep of learning rates, then what follows from the sweep's records), and the
page made of their records. A run that has a record is not made again. On a CPU with a tenth of the tokens: `--share`.
"""
