"""`fastcpu demo`: compresses a small sentence encoder without training and measures it on a task made on the spot."""
