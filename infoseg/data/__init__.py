"""Data sets: official raw layouts in, one prepared form out.

``coco``, ``potsdam`` and ``folder`` read raw files; ``store`` writes and reads the prepared data
set, which is all that training and evaluation ever see.
"""
