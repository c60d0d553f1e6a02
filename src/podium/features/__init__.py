"""Vectors of images by a frozen network: computed once, on all cores, kept on disk, shared by runs.

folding    batch norms into convolutions
threads    one thread a core, each with its own batch
disk       parts of an array on disk, pruned by least recent use
extract    a model without its classifier, run over a split of an index
frozen     the features of a training whose backbone does not change
"""
