"""The run folder: layout, predictions, pictures, the ledger of test scorings, finding a run."""
