"""Unsupervised image segmentation by mutual information: a reproduction of InfoSeg."""

__version__ = "0.1.0"
