"""`fastcpu demo`: compresses a small sentence encoder in minutes and measures it on tasks made on the spot."""
