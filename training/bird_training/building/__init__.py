"""From a source to Med-GRIT on disk: `medgrit build`."""
