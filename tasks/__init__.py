"""Everything around the network: data, training, checkpoints, metrics, the command line."""
