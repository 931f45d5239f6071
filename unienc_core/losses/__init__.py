"""Loss terms and the objective that holds them."""
