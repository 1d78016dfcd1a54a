"""HTTP: requests into calls of the service, answers into JSON."""
