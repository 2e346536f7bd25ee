"""Every kind of method by its name in the settings: the rows of Table 1, and IIC-MI of Table 2."""

from __future__ import annotations

from infoseg.methods.ac import AC
from infoseg.methods.base import Method
from infoseg.methods.doersch import Doersch
from infoseg.methods.iic import IIC
from infoseg.methods.iic_mi import IICMI
from infoseg.methods.infoseg import InfoSeg
from infoseg.methods.inmars import InMARS
from infoseg.methods.isola import Isola
from infoseg.methods.kmeans import KMeans
from infoseg.methods.random_cnn import RandomCNN, RandomCNNKMeans

METHODS: dict[str, type[Method]] = {
    "random_cnn": RandomCNN,
    "random_cnn_kmeans": RandomCNNKMeans,
    "kmeans": KMeans,
    "doersch": Doersch,
    "isola": Isola,
    "iic": IIC,
    "ac": AC,
    "inmars": InMARS,
    "infoseg": InfoSeg,
    "iic_mi": IICMI,
}
