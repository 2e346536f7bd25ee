"""The paper in pictures: what notebooks/00_paper.ipynb shows beside every equation.

section   function        what it draws                         what computes it
1         `by_colour`     a picture segmented by colour alone   `colour_segmentation`
3.1       `label_maps`    Eqs 1 and 2 on toy label maps         `information_loss`
4.2       `score_maps`    <L_ij, H_k>                           `class_scores`
4.2       `temperatures`  Eq. 3 for a row of tau                `class_probabilities`
4.2       `label_steps`   Eq. 4 and its upsampling              `InfoSeg.segment`
4.3       `assignments`   Eq. 5, soft and hard                  `look_inside`
4.3       `two_bounds`    Eq. 7 beside DV                       `jsd_lower_bound`, `dv_lower_bound`
4.3       `pairs`         Eq. 8 under every reading             `negative_scores`, `infoseg_loss`
5         `watch`         the training, every few steps         `Optimisation`
5         `data_flow`     Figure 2 for the picture              `look_inside`

Nothing here computes a loss or a segmentation of its own; `Tour` holds a picture and a network.
"""

from infoseg.tour.bounds import two_bounds
from infoseg.tour.learning import data_flow, take_steps, watch
from infoseg.tour.maps import label_maps
from infoseg.tour.readings import pairs
from infoseg.tour.segmentation import assignments, by_colour, label_steps, score_maps, temperatures
from infoseg.tour.start import Tour

__all__ = [
    "Tour",
    "assignments",
    "by_colour",
    "data_flow",
    "label_maps",
    "label_steps",
    "pairs",
    "score_maps",
    "take_steps",
    "temperatures",
    "two_bounds",
    "watch",
]
