"""The rows of Table 1: `kind` in `conf/` to class. A new method is one file and one line here."""

from infoseg.methods.base import DataInfo, Method
from infoseg.methods.infoseg import InfoSeg
from infoseg.methods.kmeans import KMeans
from infoseg.methods.random_cnn import RandomCNN, RandomCNNKMeans

METHODS: dict[str, type[Method]] = {
    "infoseg": InfoSeg,
    "kmeans": KMeans,
    "random_cnn": RandomCNN,
    "random_cnn_kmeans": RandomCNNKMeans,
}

__all__ = ["METHODS", "DataInfo", "Method"]
