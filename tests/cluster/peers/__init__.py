"""The other ends: apps that know nothing of rollouts, and the clients that call them. One image holds all of them."""
