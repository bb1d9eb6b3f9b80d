"""Placing tasks on given nodes, as kube-scheduler would: filter, score, place, one task after the other."""
