"""The pipeline's stages, a module each, in the order source, parse, pack, split, train, evaluate."""
