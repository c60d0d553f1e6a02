"""The run folder: layout, predictions, images, the ledger of test scorings, finding a run."""
