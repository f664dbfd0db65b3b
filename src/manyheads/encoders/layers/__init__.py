"""Keras layers that encoders share. They import TensorFlow, so encoders import them only while they build."""
