"""Cameras, SE(3), flow: pure functions of tensors, any B H W."""
