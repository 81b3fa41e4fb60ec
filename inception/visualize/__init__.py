"""See what a network sees: activations, filters, Grad-CAM and DeepDream, for any Keras model.

    from inception.visualize import activations, deepdream, filters, gradcam

    gradcam(model, "cat.jpg").save("cat-heat.png")

Each returns its arrays, and `save` makes the picture. They work on end points by name.
"""

from inception.visualize.activations import Activations, activations
from inception.visualize.deepdream import Dream, DreamRecipe, deepdream, mean_activation, weighted_layers
from inception.visualize.filters import Ascent, Filters, blur, filters, spectrum
from inception.visualize.gradcam import GradCam, gradcam
from inception.visualize.report import report

__all__ = [
    "Activations",
    "Ascent",
    "Dream",
    "DreamRecipe",
    "Filters",
    "GradCam",
    "activations",
    "blur",
    "deepdream",
    "filters",
    "gradcam",
    "mean_activation",
    "report",
    "spectrum",
    "weighted_layers",
]

Recipe = DreamRecipe  # its name in version 0.1
