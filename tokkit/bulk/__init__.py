"""Folders of files to token files and back: reading, computing and writing overlap, and one bad file does not stop the others."""
