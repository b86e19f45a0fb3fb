"""The stages of the pipeline, one file each; every module exports `STAGE`."""
