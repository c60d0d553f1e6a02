"""Which trained model a path or an address stands for."""
