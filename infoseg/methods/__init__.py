"""The rows of Table 1, and IIC-MI of Table 2: `kind` in `conf/` to class.

A new method is one file and one line here.
"""

from infoseg.methods.ac import AC
from infoseg.methods.base import DataInfo, Method
from infoseg.methods.doersch import Doersch
from infoseg.methods.iic import IIC
from infoseg.methods.iic_mi import IICMI
from infoseg.methods.infoseg import InfoSeg
from infoseg.methods.inmars import InMARS
from infoseg.methods.isola import Isola
from infoseg.methods.kmeans import KMeans
from infoseg.methods.merged import MergedInfoSeg
from infoseg.methods.random_cnn import RandomCNN, RandomCNNKMeans

METHODS: dict[str, type[Method]] = {
    "ac": AC,
    "doersch": Doersch,
    "iic": IIC,
    "iic_mi": IICMI,
    "infoseg": InfoSeg,
    "infoseg_merged": MergedInfoSeg,
    "inmars": InMARS,
    "isola": Isola,
    "kmeans": KMeans,
    "random_cnn": RandomCNN,
    "random_cnn_kmeans": RandomCNNKMeans,
}

__all__ = ["METHODS", "DataInfo", "Method"]
