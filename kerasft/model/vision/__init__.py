"""Images in the graph: pixels, maps, boxes, masks, and what detectors are made of."""
