"""Recognition: cones are proposed, confirmed by evaluation, and cover the graph."""
