"""Layers around one process, a file for each; each is proved before it is used."""
