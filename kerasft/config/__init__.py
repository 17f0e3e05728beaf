"""Configs: composed by Hydra, checked before anything is read, built into objects, explained."""
