"""What the GPU's machine image is made of, and the programs that run on the node beside the worker."""
