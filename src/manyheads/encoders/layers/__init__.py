"""Keras layers that encoders share. They import TensorFlow, so encoders import them lazily."""
