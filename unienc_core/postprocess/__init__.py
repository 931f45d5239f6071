"""What is made of a network's answers once it is done: pure functions of tensors."""
