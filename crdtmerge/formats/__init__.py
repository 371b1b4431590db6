"""Model folders as other tools read and write them: safetensors, Hugging Face layout.

Owns reading, checking and writing them; sole importer of safetensors. Does not own what
is merged (`resolve`), nor where blobs are kept (the node's store).
"""
