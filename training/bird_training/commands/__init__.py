"""One `medgrit` command per file: arguments in, tables out."""
