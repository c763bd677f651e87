"""The compiled heart: knows no file, no printing, no Network."""
