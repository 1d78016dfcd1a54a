"""The models that the engine can run: one file per way of running one."""
