"""The Keras model: built, compiled with its objective, folded for inference, saved and loaded."""
