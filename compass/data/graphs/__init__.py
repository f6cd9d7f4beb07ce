"""The graphs that a model trains on: built once from a catalogue, stored on disk, read many times."""
