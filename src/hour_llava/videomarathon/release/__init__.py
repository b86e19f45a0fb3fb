"""The release of a build: what its accepted rows become on disk, and nothing else."""
