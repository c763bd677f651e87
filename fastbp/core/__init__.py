"""The compiled core: it knows nothing of files, printing or Network."""
