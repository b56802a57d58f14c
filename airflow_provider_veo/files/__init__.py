"""Writing bytes: to this machine, to object storages, whole or not at all."""
