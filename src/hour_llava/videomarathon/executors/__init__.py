"""Who does the units: this process, or Ray."""
