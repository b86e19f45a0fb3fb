"""VideoMarathon: from a folder of videos to a checked instruction dataset (torch-free).

Source: arXiv 2506.05332, VideoMarathon's construction; the authors released data, not a pipeline.
"""
