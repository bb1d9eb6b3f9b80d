"""Histories that others wrote, as data points; and data points as files that others read.

One file a format. A reader is an iterator of points that holds no more of its file than it must; what it cannot read it
reports as a `Fault`.
"""
