"""From annotation files and images on disk to padded batches."""
