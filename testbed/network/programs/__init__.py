"""Programs of images in the catalogue. Each runs by itself; those that pods run often are forked from one parent."""
