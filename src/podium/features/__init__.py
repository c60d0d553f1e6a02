"""Features of a frozen network: computed once, on all cores, cached on disk, shared by runs.

folding    folds batch norms into convolutions
threads    one thread per core, each with its own batch
disk       parts of an array on disk; the least recently used are removed
extract    a model without its classifier, run over a split of an index
frozen     the features of a training with a frozen backbone
"""
