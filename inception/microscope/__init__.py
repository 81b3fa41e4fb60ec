"""A site of a whole network, to look into: its map, the channels of every end point, the user's pictures.

    inception.microscope.microscope("inception_v3.h5", "site", images="photos")

The pages open from a disk and ask for nothing outside.
"""

from inception.microscope.site import WAVES, Summary, microscope, pages_of

__all__ = ["WAVES", "Summary", "microscope", "pages_of"]
