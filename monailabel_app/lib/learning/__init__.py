"""From reviewed findings to a new version of the model: lessons, training, judgement."""
