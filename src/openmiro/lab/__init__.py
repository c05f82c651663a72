"""The lab: a procedural world of colored shapes whose truth is known, small enough for a laptop."""
